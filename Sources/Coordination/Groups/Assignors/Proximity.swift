/// Which members stand in a rack with a replica of which partitions, by numbers.
struct Proximity {
    /// The members of each rack.
    let membersOfRack: [[Int]]
    /// The rack of each member, if it told.
    let rackOfMember: [Int?]
    /// For each partition the racks of its replicas in which there are members, in order; empty if no rack is known to any member.
    private let racksOfPartition: [[Int]]

    init(_ problem: AssignmentProblem, _ graph: SubscriptionGraph) {
        let names = Set(graph.members.compactMap(\.rack)).sorted()
        let numbers = Dictionary(uniqueKeysWithValues: zip(names, names.indices))
        rackOfMember = graph.members.map { member in member.rack.flatMap { numbers[$0] } }
        var members = [[Int]](repeating: [], count: names.count)
        for (member, rack) in rackOfMember.enumerated() {
            guard let rack else { continue }
            members[rack].append(member)
        }
        membersOfRack = members
        guard !names.isEmpty else {
            racksOfPartition = []
            return
        }
        racksOfPartition = graph.topics.indices.flatMap { topic -> [[Int]] in
            let known = problem.topics[graph.topics[topic]]?.racks ?? []
            return (0..<graph.partitions(ofTopic: topic).count).map { partition in
                guard partition < known.count else { return [] }
                return known[partition].compactMap { numbers[$0] }.sorted()
            }
        }
    }

    /// The racks in which there are both members and replicas of the partition.
    func racks(ofPartition partition: Int) -> [Int] {
        racksOfPartition.isEmpty ? [] : racksOfPartition[partition]
    }

    /// Whether the member stands in a rack with one of the partition's replicas.
    func isNear(partition: Int, member: Int) -> Bool {
        guard let rack = rackOfMember[member] else { return false }
        return racks(ofPartition: partition).contains(rack)
    }
}
