import FlotillaModel

/// Cuts each topic into ranges, one for each member that wants it.
///
/// The members stand in a row: static ones first, by instance id, then the others by member id. With `n` of them and `p` partitions
/// each gets `p / n` partitions that follow each other, and the first `p % n` get one more. Two topics with equally many partitions and
/// the same members are cut alike, so that equal keys of both meet at one member; this is what one chooses `range` for.
///
/// All of that leaves no freedom for what the members have now, or for their racks. A static member keeps its place in the row, and with
/// it its ranges, when it comes back under another member id.
///
/// - Source: SEMANTICS rule CG-16.
enum RangeAssignor {
    static func assign(_ problem: AssignmentProblem) -> [String: Set<TopicPartition>] {
        let members = problem.members.sorted(by: standsBefore)
        var takers: [TopicID: [Int]] = [:]
        for (place, member) in members.enumerated() {
            for topic in member.topics where problem.topics[topic] != nil {
                takers[topic, default: []].append(place)
            }
        }
        var shares = [Set<TopicPartition>](repeating: [], count: members.count)
        for (topic, places) in takers {
            let count = Int(problem.topics[topic]?.partitionCount ?? 0)
            for (rank, place) in places.enumerated() {
                for partition in range(rank, of: places.count, count: count) {
                    shares[place].insert(
                        TopicPartition(topic: topic, partition: Int32(partition))
                    )
                }
            }
        }
        return Dictionary(uniqueKeysWithValues: zip(members.map(\.id), shares))
    }

    /// What the member with this rank gets of `count` partitions that `takerCount` members share.
    private static func range(_ rank: Int, of takerCount: Int, count: Int) -> Range<Int> {
        let (length, rest) = count.quotientAndRemainder(dividingBy: takerCount)
        let start = rank * length + min(rank, rest)
        return start..<start + length + (rank < rest ? 1 : 0)
    }

    private static func standsBefore(
        _ left: AssignmentProblem.Member,
        _ right: AssignmentProblem.Member
    ) -> Bool {
        switch (left.instanceID, right.instanceID) {
        case (let mine?, let other?): (mine, left.id) < (other, right.id)
        case (_?, nil): true
        case (nil, _?): false
        case (nil, nil): left.id < right.id
        }
    }
}
