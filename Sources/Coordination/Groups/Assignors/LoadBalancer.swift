/// Makes the loads of members as even as their subscriptions allow.
///
/// A partition goes from one member to another that wants its topic, which in turn may give one of another topic to a third: along such a
/// chain the first member's load falls by one and the last one's rises by one. Loads are as even as they can be, in the sense that no
/// other distribution has a smaller sum of squares, a smaller largest load or a larger smallest one, exactly when no chain leads from a
/// member to one whose load is lower by two or more.
///
/// To find all chains with few searches, members are taken together in regions that exchange nothing any more. In a region the average
/// parts the loads; chains from above it to below it are used up, shortest first, many with each search (Dinic's algorithm). What then is
/// still reached from above forms one region, what is not another, and both go on by themselves.
///
/// - Source: Harvey, Ladner, Lovász and Tamir, Semi-matchings for bipartite graphs and load balancing (2006), theorem 3.1;
///   Fakcharoenphol, Laekhanukit and Nanongkai, Faster algorithms for semi-matching problems (2014), for the regions.
struct LoadBalancer {
    private let graph: SubscriptionGraph
    /// For each edge, how many partitions do not move.
    private let floor: [Int]
    private(set) var counts: [Int]
    private(set) var loads: [Int]

    /// The region of each member; a search stays in one.
    private var regions: [Int]
    private var regionCount = 0
    /// How many members come before this one, or before this topic, on the shortest chain from a giver; nil where none leads.
    private var memberLevels: [Int?]
    private var topicLevels: [Int?]
    /// For each member, which of its edges is tried next; those before lead nowhere in this search.
    private var memberCursors: [Int]
    /// The same for each topic.
    private var topicCursors: [Int]

    init(_ graph: SubscriptionGraph, counts: [Int], loads: [Int], keeping floor: [Int]) {
        self.graph = graph
        self.floor = floor
        self.counts = counts
        self.loads = loads
        regions = [Int](repeating: 0, count: graph.members.count)
        memberLevels = [Int?](repeating: nil, count: graph.members.count)
        topicLevels = [Int?](repeating: nil, count: graph.topics.count)
        memberCursors = graph.memberStarts
        topicCursors = graph.topicStarts
    }

    mutating func balance() {
        var waiting = [graph.members.indices.filter { !graph.edges(ofMember: $0).isEmpty }]
        while let region = waiting.popLast() {
            guard !isEven(region) else { continue }
            waiting += settle(region)
        }
    }

    private func isEven(_ members: [Int]) -> Bool {
        let lowest = members.lazy.map { loads[$0] }.min() ?? 0
        return members.allSatisfy { loads[$0] <= lowest + 1 }
    }

    /// Uses up the chains across the average of a region.
    ///
    /// The order of the shifts keeps movements few: who has two more than the average gives before those that may keep one more.
    ///
    /// - Returns: the two parts that exchange nothing any more, of higher and of lower loads; between them stand members that are even.
    ///   Both are smaller than the region, or the region is even.
    private mutating func settle(_ members: [Int]) -> [[Int]] {
        regionCount += 1
        for member in members {
            regions[member] = regionCount
        }
        let average = members.reduce(0) { $0 + loads[$1] } / members.count
        shift(in: members, above: average + 1, below: average)
        shift(in: members, above: average, below: average)
        shift(in: members, above: average + 1, below: average + 1)

        let upper = reached(in: members, fromAbove: average + 1)
        let higher = upper.filter { $0.isReached }.map(\.member)
        let lower = reached(in: members, fromAbove: average).filter { !$0.isReached }.map(\.member)
        return [higher, lower]
    }
}

// MARK: - Chains

extension LoadBalancer {
    /// Two edges of one topic: a member gives one of its partitions to the other member.
    private struct Step {
        let from: Int
        let to: Int
    }

    /// Lets members above one load give to members below another, until no chain leads from the ones to the others.
    private mutating func shift(in members: [Int], above high: Int, below low: Int) {
        assert(high >= low, "who gives has at least two more than who takes")
        while search(in: members, above: high, below: low) {
            memberCursors = graph.memberStarts
            topicCursors = graph.topicStarts
            let givers = members.filter { loads[$0] > high }
                .sorted { (loads[$1], $0) < (loads[$0], $1) }
            for giver in givers {
                while loads[giver] > high, let chain = chain(from: giver, below: low) {
                    pass(along: chain, above: high, below: low)
                }
            }
        }
    }

    /// Measures how far members and topics are from those above `high`, no further than to the first that is below `low`.
    ///
    /// - Returns: whether there is one.
    private mutating func search(in members: [Int], above high: Int, below low: Int) -> Bool {
        memberLevels = [Int?](repeating: nil, count: memberLevels.count)
        topicLevels = [Int?](repeating: nil, count: topicLevels.count)
        var frontier = members.filter { loads[$0] > high }
        for member in frontier {
            memberLevels[member] = 0
        }
        var level = 0
        var isFound = false
        while !frontier.isEmpty, !isFound {
            var next: [Int] = []
            for member in frontier {
                for edge in graph.edges(ofMember: member) where counts[edge] > floor[edge] {
                    let topic = graph.topicOfEdge[edge]
                    guard topicLevels[topic] == nil else { continue }
                    topicLevels[topic] = level
                    for taker in takers(ofTopic: topic, in: regions[member]) {
                        memberLevels[taker] = level + 1
                        isFound = isFound || loads[taker] < low
                        next.append(taker)
                    }
                }
            }
            level += 1
            frontier = next
        }
        return isFound
    }

    /// The members of a region that want a topic and were not found before.
    private func takers(ofTopic topic: Int, in region: Int) -> [Int] {
        graph.memberOfEdge[graph.edges(ofTopic: topic)].filter {
            regions[$0] == region && memberLevels[$0] == nil
        }
    }

    /// Every member, and whether a chain leads to it from one above `high`.
    private mutating func reached(
        in members: [Int],
        fromAbove high: Int
    ) -> [(member: Int, isReached: Bool)] {
        _ = search(in: members, above: high, below: .min)
        return members.map { ($0, memberLevels[$0] != nil) }
    }

    /// A shortest chain from `giver` to a member below `low`, by the levels of the last search; nil if there is none any more.
    private mutating func chain(from giver: Int, below low: Int) -> [Step]? {
        var chain: [Step] = []
        var member = giver
        while loads[member] >= low {
            if let step = nextStep(from: member) {
                chain.append(step)
                member = graph.memberOfEdge[step.to]
            } else if let last = chain.popLast() {
                // Nothing goes on from here, for nobody who comes by.
                topicCursors[graph.topicOfEdge[last.to]] += 1
                member = graph.memberOfEdge[last.from]
            } else {
                return nil
            }
        }
        return chain
    }

    private mutating func nextStep(from member: Int) -> Step? {
        let edgeEnd = graph.memberStarts[member + 1]
        while memberCursors[member] < edgeEnd {
            let edge = graph.memberEdges[memberCursors[member]]
            let topic = graph.topicOfEdge[edge]
            if counts[edge] > floor[edge], topicLevels[topic] == memberLevels[member],
                let taking = nextTaker(ofTopic: topic, from: member)
            {
                return Step(from: edge, to: taking)
            }
            memberCursors[member] += 1
        }
        return nil
    }

    private mutating func nextTaker(ofTopic topic: Int, from member: Int) -> Int? {
        guard let level = topicLevels[topic] else { return nil }
        while topicCursors[topic] < graph.topicStarts[topic + 1] {
            let edge = topicCursors[topic]
            let taker = graph.memberOfEdge[edge]
            if regions[taker] == regions[member], memberLevels[taker] == level + 1 {
                return edge
            }
            topicCursors[topic] += 1
        }
        return nil
    }

    /// Moves as many partitions as every member on the chain can give and the last one lacks.
    private mutating func pass(along chain: [Step], above high: Int, below low: Int) {
        guard let first = chain.first, let last = chain.last else { return }
        let giver = graph.memberOfEdge[first.from]
        let taker = graph.memberOfEdge[last.to]
        let most = min(loads[giver] - high, low - loads[taker])
        let amount = chain.reduce(most) { min($0, counts[$1.from] - floor[$1.from]) }
        for step in chain {
            counts[step.from] -= amount
            counts[step.to] += amount
        }
        loads[giver] -= amount
        loads[taker] += amount
    }
}
