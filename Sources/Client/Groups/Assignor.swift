/// How the members of a classic group divide the partitions; the leader of the group does it for all.
public enum Assignor: String, Hashable, Sendable, CaseIterable {
    /// Neighbouring partitions of each topic; all is given back and divided anew at every change.
    case range
    /// Even shares that change as little as they can; what stays is read on while the group changes.
    ///
    /// - Source: KIP-429.
    case cooperativeSticky = "cooperative-sticky"

    /// A member, as the leader sees it.
    struct Member: Hashable, Sendable {
        var id: String
        /// The name of a static member.
        var instanceID: String?
        var topics: Set<String>
        /// What it still reads.
        var owned: [NamedPartition] = []
        /// Of which generation that is.
        var generation: Int32 = -1

        /// The order in which members are served: static names outlive ids, so they come first.
        var rank: (Int, String) {
            instanceID.map { (0, $0) } ?? (1, id)
        }
    }

    /// Divides the partitions of all topics that members subscribe to; every member is in the result.
    ///
    /// `partitionCounts`: of the topics that exist.
    func assign(
        _ members: [Member],
        partitionCounts: [String: Int32]
    ) -> [String: [NamedPartition]] {
        let ordered = members.sorted { $0.rank < $1.rank }
        switch self {
        case .range:
            return RangeAssignment(ordered, partitionCounts).shares
        case .cooperativeSticky:
            return StickyAssignment(ordered, partitionCounts).sharesWithoutHandover
        }
    }
}

/// Each topic cut into neighbouring pieces, the first members getting one more where it does not come out even.
///
/// Topics with equally many partitions and the same subscribers line up: a member gets the same numbers of both.
struct RangeAssignment {
    private(set) var shares: [String: [NamedPartition]]

    /// `members`: in the order in which they are served.
    init(_ members: [Assignor.Member], _ partitionCounts: [String: Int32]) {
        shares = Dictionary(members.map { ($0.id, []) }) { first, _ in first }
        for (topic, count) in partitionCounts.sorted(by: { $0.key < $1.key }) {
            let subscribers = members.filter { $0.topics.contains(topic) }
            guard !subscribers.isEmpty else { continue }
            let (size, rest) = Int(count).quotientAndRemainder(dividingBy: subscribers.count)
            var start = 0
            for (place, member) in subscribers.enumerated() {
                let end = start + size + (place < rest ? 1 : 0)
                shares[member.id, default: []] += (start..<end).map {
                    NamedPartition(topic: topic, index: Int32($0))
                }
                start = end
            }
        }
    }
}
