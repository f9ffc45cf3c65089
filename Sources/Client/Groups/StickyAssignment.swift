/// Even shares that leave as much where it is as they can.
///
/// Members keep what they read. What nobody reads goes to whoever has least. Then partitions move along chains of members
/// from one with more to one with at least two less, until there is no such chain: with equal subscriptions the shares then
/// differ by one at most, with others they are as even as the subscriptions allow.
struct StickyAssignment {
    private let members: [Assignor.Member]
    private let partitionCounts: [String: Int32]
    /// Who reads a partition now, by place in `members`.
    private var owners: [NamedPartition: Int] = [:]
    /// By place in `members`, in ascending order within a topic.
    private var held: [[String: [NamedPartition]]]
    private var loads: [Int]
    /// Who subscribes to a topic, by place in `members`.
    private let subscribers: [String: [Int]]

    /// `members`: in the order in which they are served.
    init(_ members: [Assignor.Member], _ partitionCounts: [String: Int32]) {
        self.members = members
        self.partitionCounts = partitionCounts
        held = members.map { _ in [:] }
        loads = members.map { _ in 0 }
        var subscribers: [String: [Int]] = [:]
        for (place, member) in members.enumerated() {
            for topic in member.topics where partitionCounts[topic] != nil {
                subscribers[topic, default: []].append(place)
            }
        }
        self.subscribers = subscribers
        keepOwned()
        giveUnowned()
        while let chain = chainToShorten() { shift(along: chain) }
    }

    /// What each member reads in the end.
    var shares: [String: [NamedPartition]] {
        share { _, _ in true }
    }

    /// The same without what another member still reads: that one must give it up first, and the next generation has it.
    ///
    /// - Source: KIP-429.
    var sharesWithoutHandover: [String: [NamedPartition]] {
        share { partition, place in owners[partition].map { $0 == place } ?? true }
    }

    private func share(
        _ isIncluded: (NamedPartition, Int) -> Bool
    ) -> [String: [NamedPartition]] {
        var shares: [String: [NamedPartition]] = [:]
        for (place, member) in members.enumerated() {
            shares[member.id] = held[place].values.joined().filter { isIncluded($0, place) }
                .sorted()
        }
        return shares
    }

    // MARK: Steps

    /// The newest generation's word counts; where two members of one claim a partition, neither has it.
    private mutating func keepOwned() {
        var claims: [NamedPartition: (generation: Int32, places: [Int])] = [:]
        for (place, member) in members.enumerated() {
            for partition in Set(member.owned) where isOpen(partition, to: member) {
                let known = claims[partition]?.generation ?? .min
                if member.generation > known {
                    claims[partition] = (member.generation, [place])
                } else if member.generation == known {
                    claims[partition]?.places.append(place)
                }
            }
        }
        for (partition, claim) in claims.sorted(by: { $0.key < $1.key }) {
            guard claim.places.count == 1, let place = claim.places.first else { continue }
            owners[partition] = place
            add(partition, to: place)
        }
    }

    private func isOpen(_ partition: NamedPartition, to member: Assignor.Member) -> Bool {
        guard let count = partitionCounts[partition.topic] else { return false }
        return member.topics.contains(partition.topic) && (0..<count).contains(partition.index)
    }

    /// Topics that few may read come first: others can be evened out with the rest.
    private mutating func giveUnowned() {
        let topics = subscribers.sorted {
            ($0.value.count, $0.key) < ($1.value.count, $1.key)
        }
        for (topic, places) in topics {
            for index in 0..<(partitionCounts[topic] ?? 0) {
                let partition = NamedPartition(topic: topic, index: index)
                guard owners[partition] == nil else { continue }
                guard let least = places.min(by: { (loads[$0], $0) < (loads[$1], $1) }) else {
                    continue
                }
                add(partition, to: least)
            }
        }
    }

    private mutating func add(_ partition: NamedPartition, to place: Int) {
        held[place][partition.topic, default: []].append(partition)
        loads[place] += 1
    }

    /// A step of a chain: who gives a partition of a topic to whom.
    private struct Step {
        var giver: Int
        var topic: String
        var taker: Int
    }

    /// A way from a member to one that has at least two partitions less; nil when the shares are even.
    private func chainToShorten() -> [Step]? {
        let fullest = members.indices.sorted { (loads[$1], $0) < (loads[$0], $1) }
        guard let least = loads.min() else { return nil }
        for start in fullest {
            guard loads[start] >= least + 2 else { return nil }
            if let chain = chain(from: start) { return chain }
        }
        return nil
    }

    private func chain(from start: Int) -> [Step]? {
        var steps: [Int: Step] = [:]
        var reached: Set<Int> = [start]
        var front = [start]
        while !front.isEmpty {
            var next: [Int] = []
            for giver in front {
                for topic in held[giver].filter({ !$0.value.isEmpty }).keys.sorted() {
                    for taker in subscribers[topic] ?? [] where reached.insert(taker).inserted {
                        steps[taker] = Step(giver: giver, topic: topic, taker: taker)
                        next.append(taker)
                    }
                }
            }
            let least = next.min { (loads[$0], $0) < (loads[$1], $1) }
            if let least, loads[least] <= loads[start] - 2 {
                return way(to: least, along: steps)
            }
            front = next
        }
        return nil
    }

    private func way(to end: Int, along steps: [Int: Step]) -> [Step] {
        var chain: [Step] = []
        var place = end
        while let step = steps[place] {
            chain.append(step)
            place = step.giver
        }
        return chain
    }

    /// Moves one partition at each step; those that nobody reads yet go first.
    private mutating func shift(along chain: [Step]) {
        for step in chain {
            guard let list = held[step.giver][step.topic],
                let place = list.lastIndex(where: { owners[$0] != step.giver }) ?? list.indices.last
            else { preconditionFailure("a step moves a partition that its giver has") }
            held[step.giver][step.topic]?.remove(at: place)
            loads[step.giver] -= 1
            add(list[place], to: step.taker)
        }
    }
}
