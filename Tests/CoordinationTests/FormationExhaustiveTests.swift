@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

/// Three seeds that find each other: everything that they know, and what the outside may still do.
private struct World {
    /// One seed's directory and, while its process runs, its formation.
    struct Node {
        var life: UInt64 = 1
        var run: UInt64 = 1
        var disk = FormationState.empty
        var formation: ClusterFormation?
    }

    var nodes = [Node(), Node(), Node()]
    /// Crashes that may still happen.
    var crashes: Int
    /// Wiped directories that may still happen.
    var wipes: Int
    /// The founding lists whose metadata group has begun somewhere.
    var begun: [FoundingList] = []

    /// One thing that can happen next.
    enum Step: Hashable {
        case start(Int)
        case ask(Int, whom: Int)
        case persist(Int)
        case elect(Int)
        case crash(Int)
        case wipe(Int)
    }

    func card(of place: Int) -> FormationCard {
        .example(
            Int32(place) + 1,
            life: nodes[place].life,
            run: nodes[place].run,
            state: nodes[place].disk
        )
    }

    /// The steps that change anything, those of the outside last.
    var steps: [Step] {
        var steps: [Step] = []
        for place in nodes.indices {
            guard let formation = nodes[place].formation else {
                steps.append(.start(place))
                continue
            }
            if formation.pending != nil { steps.append(.persist(place)) }
            if formation.outcome == nil {
                steps += nodes.indices.filter { isNews($0, to: formation, at: place) }
                    .map { .ask(place, whom: $0) }
            }
            if canElect(place) { steps.append(.elect(place)) }
        }
        return steps
    }

    var faults: [Step] {
        let running = nodes.indices.filter { nodes[$0].formation != nil }
        return (crashes > 0 ? running.map { .crash($0) } : [])
            + (wipes > 0 ? nodes.indices.map { .wipe($0) } : [])
    }

    /// Whether asking would tell something that is not known.
    ///
    /// Of itself a broker learns only once. That somebody is silent changes what a broker does only
    /// when it goes on in its own cluster.
    private func isNews(_ whom: Int, to formation: ClusterFormation, at place: Int) -> Bool {
        let seed = formation.seeds[whom]
        if nodes[whom].formation == nil { return formation.isGoingOn && !seed.hasResult }
        guard let known = seed.card else { return true }
        return whom != place
            && (known.state != nodes[whom].disk || known.incarnation.low != nodes[whom].life)
    }

    /// A founder's metadata group has a leader, and so an id, when a majority has begun it.
    private func canElect(_ place: Int) -> Bool {
        guard case .found(let list)? = nodes[place].formation?.outcome,
            case .founded = nodes[place].disk
        else { return false }
        let votingCount = nodes.indices.count { other in
            guard case .found(list)? = nodes[other].formation?.outcome else { return false }
            return list.contains(card(of: other).broker, card(of: other).incarnation)
        }
        return votingCount >= list.majority
    }

    mutating func take(_ step: Step) {
        switch step {
        case .start(let place):
            feed(place, .started)
        case .ask(let place, let whom):
            let address = NetworkAddress.seed(Int32(whom) + 1)
            let isUp = nodes[whom].formation != nil
            feed(place, isUp ? .answered(address, card(of: whom)) : .silent(address, reason: ""))
        case .persist(let place):
            guard let pending = nodes[place].formation?.pending else { return }
            nodes[place].disk = pending
            feed(place, .persisted)
        case .elect(let place):
            guard let list = nodes[place].disk.founders, let index = begun.firstIndex(of: list)
            else { return }
            nodes[place].disk = .member(of: "cluster \(index)", list)
        case .crash(let place):
            crashes -= 1
            nodes[place].formation = nil
            nodes[place].run += 1
        case .wipe(let place):
            wipes -= 1
            nodes[place] = Node(life: nodes[place].life + 1, run: nodes[place].run + 1)
        }
    }

    private mutating func feed(_ place: Int, _ input: ClusterFormation.Input) {
        var formation = nodes[place].formation ?? ClusterFormation(card(of: place))
        _ = formation.step(input)
        nodes[place].formation = formation
        if case .found(let list)? = formation.outcome, !begun.contains(list) {
            begun.append(list)
        }
    }

    /// How a seed stands when nothing more can happen.
    func ending(_ place: Int) -> String {
        switch nodes[place].formation?.outcome {
        case .found, .resume: "in"
        case .join: "joins"
        case .refuse(.foundersLost): "refuses: founders lost"
        case .refuse(.foundersDisagree): "refuses: founders disagree"
        case .refuse(let refusal): "refuses: \(refusal)"
        case nil: "waits"
        }
    }
}

extension World {
    /// The world in few bits: worlds with equal keys have equal futures.
    ///
    /// Left out are the numbers of runs and of silences, and what a broker knew when it ended.
    var key: [UInt64] {
        nodes.map { node in
            var bits = Bits()
            bits.add(node.life, width: 2)
            bits.add(node.disk)
            guard let formation = node.formation else { return bits.word }
            bits.add(1, width: 1)
            switch formation.outcome {
            case nil: bits.add(0, width: 2)
            case .found, .resume: bits.add(1, width: 2)
            case .join: bits.add(2, width: 2)
            case .refuse: bits.add(3, width: 2)
            }
            guard formation.outcome == nil else { return bits.word }
            bits.add(formation.pending ?? .empty)
            for seed in formation.seeds {
                bits.add(seed.hasResult ? 1 : 0, width: 1)
                bits.add(seed.card?.incarnation.low ?? 0, width: 2)
                bits.add(seed.card?.state ?? .empty)
            }
            return bits.word
        } + [UInt64(crashes), UInt64(wipes)] + begun.map { Bits($0).word }
    }

    private struct Bits {
        var word: UInt64 = 0
        var width = 0

        init() {}

        init(_ list: FoundingList) {
            add(.founded(list))
        }

        mutating func add(_ value: UInt64, width: Int) {
            precondition(value < 1 << UInt64(width), "the value fits")
            word |= value << UInt64(self.width)
            self.width += width
            precondition(self.width <= 64, "a node fits into a word")
        }

        /// A state in nine bits: its kind, and the lives of its three founders.
        mutating func add(_ state: FormationState) {
            switch state {
            case .empty: add(0, width: 3)
            case .agreed: add(1, width: 3)
            case .founded: add(2, width: 3)
            case .joining: add(3, width: 3)
            case .member: add(4, width: 3)
            }
            for place in 0..<3 {
                add(state.founders?.members[place].incarnation.low ?? 0, width: 2)
            }
        }
    }
}

@Suite("Cluster formation, every order")
struct FormationExhaustiveTests {
    /// What all worlds that can be reached came to.
    private struct Findings {
        var worldCount = 0
        var endings: [String: Int] = [:]
        var violations: [String] = []
    }

    private func explore(crashes: Int, wipes: Int) -> Findings {
        var findings = Findings()
        let first = World(crashes: crashes, wipes: wipes)
        var seen: Set<[UInt64]> = [first.key]
        var next = [first]
        while let world = next.popLast() {
            findings.worldCount += 1
            if world.begun.count > 1 { findings.violations.append("two clusters: \(world.begun)") }
            let steps = world.steps
            if steps.isEmpty {
                let ending = world.nodes.indices.map { world.ending($0) }.sorted()
                findings.endings[ending.joined(separator: ", "), default: 0] += 1
            }
            for step in steps + world.faults {
                var following = world
                following.take(step)
                if seen.insert(following.key).inserted { next.append(following) }
            }
        }
        return findings
    }

    @Test("Three seeds form one cluster, in every order of starts and answers")
    func everyOrder() {
        let findings = explore(crashes: 0, wipes: 0)
        #expect(findings.violations.isEmpty)
        #expect(findings.endings.keys.sorted() == ["in, in, in"])
    }

    @Test("A crash anywhere, also between deciding, writing and telling, changes nothing of that")
    func oneCrash() {
        let findings = explore(crashes: 1, wipes: 0)
        #expect(findings.violations.isEmpty)
        #expect(findings.endings.keys.sorted() == ["in, in, in"])
    }

    // The last ending needs a seed that is wiped, is back, and has asked around, all between
    // another's reading its word and writing it down. The two lists that then live share two
    // brokers that agreed to different ones: neither can begin, and these two say what to do.
    @Test(
        "With a seed wiped at any moment there is one cluster, and the seed is a new member of it"
    )
    func oneWipe() {
        let findings = explore(crashes: 0, wipes: 1)
        #expect(findings.violations.isEmpty)
        #expect(
            findings.endings.keys.sorted() == [
                "in, in, in", "in, in, joins",
                "refuses: founders disagree, refuses: founders disagree, waits",
            ]
        )
    }
}
