import HeapModule

/// How many partitions of each topic each member gets; which ones these are is not asked here.
///
/// What the members have is kept at first, and what nobody has is filled in: the topics with the fewest takers first, each partition to
/// the taker with the lowest load. Then a `LoadBalancer` makes the loads as even as they can be.
struct EvenShares {
    private let graph: SubscriptionGraph
    /// For each edge, how many of the topic's partitions go to the member.
    private(set) var counts: [Int]
    /// For each member, how many partitions it gets in all.
    private(set) var loads: [Int]

    /// Takes for each edge how many of the topic's partitions the member has now, and shares out.
    init(_ graph: SubscriptionGraph, kept: [Int]) {
        self.graph = graph
        counts = kept
        loads = [Int](repeating: 0, count: graph.members.count)
        for (edge, count) in kept.enumerated() {
            loads[graph.memberOfEdge[edge]] += count
        }
        fill()
        // What has just been filled in moves for nothing; only after that something is taken from who has it.
        balance(keeping: kept)
        balance(keeping: [Int](repeating: 0, count: kept.count))
    }

    /// A member that may take a partition; the one with the lowest load comes first.
    private struct Taker: Comparable {
        var load: Int
        let edge: Int

        static func < (left: Taker, right: Taker) -> Bool {
            (left.load, left.edge) < (right.load, right.edge)
        }
    }

    private mutating func fill() {
        let order = graph.topics.indices.sorted {
            (graph.edges(ofTopic: $0).count, $0) < (graph.edges(ofTopic: $1).count, $1)
        }
        for topic in order {
            let edges = graph.edges(ofTopic: topic)
            let kept = edges.reduce(0) { $0 + counts[$1] }
            let free = graph.partitions(ofTopic: topic).count - kept
            guard free > 0 else { continue }
            var takers = Heap(
                edges.map { Taker(load: loads[graph.memberOfEdge[$0]], edge: $0) }
            )
            for _ in 0..<free {
                guard var taker = takers.min else { break }
                counts[taker.edge] += 1
                loads[graph.memberOfEdge[taker.edge]] += 1
                taker.load += 1
                takers.replaceMin(with: taker)
            }
        }
    }

    private mutating func balance(keeping floor: [Int]) {
        var balancer = LoadBalancer(graph, counts: counts, loads: loads, keeping: floor)
        balancer.balance()
        counts = balancer.counts
        loads = balancer.loads
    }
}
