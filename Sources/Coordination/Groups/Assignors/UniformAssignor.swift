import FlotillaModel

/// Gives all members equally many partitions, as far as what they want allows it.
///
/// What is promised, in the order of weight:
///
/// 1. **Balance.** Of all ways to give every partition to a member that wants its topic, the loads are those of the most even: with the
///    least sum of squares, and so with the lowest largest and the highest smallest load. Where all want the same topics, no two loads
///    differ by more than one.
/// 2. **Few movements.** An assignment that is balanced stays as it is. Where all want the same topics, as many partitions stay with
///    their members as any balanced assignment can leave there. Where they want different ones, a partition moves only as a part of a
///    chain of members that makes the loads more even; that no other choice of chains moves fewer is not promised.
/// 3. **Racks.** Of the partitions that change their member, or have none, those with a replica in a member's rack rather go to it. It
///    is a preference: loads are settled before, and a partition that may stay stays, however far away.
///
/// - Source: SEMANTICS rule CG-15; KIP-848 for the order of the three.
enum UniformAssignor {
    static func assign(_ problem: AssignmentProblem) -> [String: Set<TopicPartition>] {
        let graph = SubscriptionGraph(problem)
        let current = graph.currentEdges()
        var kept = [Int](repeating: 0, count: graph.edgeCount)
        for case let edge? in current {
            kept[edge] += 1
        }
        let even = EvenShares(graph, kept: kept)
        var placement = PartitionPlacement(
            graph,
            counts: even.counts,
            proximity: Proximity(problem, graph)
        )
        placement.keep(current)
        placement.placeNear()
        placement.placeRest()

        var shares = even.loads.map { Set<TopicPartition>(minimumCapacity: $0) }
        for (partition, edge) in placement.edges.enumerated() {
            guard let edge else { continue }
            shares[graph.memberOfEdge[edge]].insert(graph.name(ofPartition: partition))
        }
        return Dictionary(uniqueKeysWithValues: zip(graph.members.map(\.id), shares))
    }
}
