@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

/// Brokers that start, ask each other over a network that loses and delays, crash and are wiped.
private final class FormationSimulation {
    /// A broker's machine: its directory, and its process while it runs.
    struct Node {
        var life: UInt64 = 1
        var run: UInt64 = 0
        var disk = FormationState.empty
        var formation: ClusterFormation?
    }

    private enum Event {
        case start(Int)
        case ask(Int, run: UInt64, address: NetworkAddress)
        case arrive(Int, run: UInt64, ClusterFormation.Input)
        case written(Int, run: UInt64, FormationState)
        case crash(Int)
        case wipe(Int)
    }

    /// What the runs of a test came to.
    struct Counts {
        var crashes = 0
        var wipes = 0
        var wipedFounders = 0
        var lateJoiners = 0
        var disagreements = 0
        var lostFounders = 0
    }

    static let calm = Duration.seconds(20)
    static let end = Duration.seconds(60)

    private var random: SeededRandom
    private var queue: [(time: Duration, order: Int, event: Event)] = []
    private var eventCount = 0
    private var now = Duration.zero
    private let join: JoinList
    let seedCount: Int
    private(set) var nodes: [Node]
    /// The founding lists whose metadata group has begun somewhere, in order.
    private(set) var begun: [FoundingList] = []
    private(set) var violations: [String] = []
    private(set) var counts = Counts()
    private var wipedSeeds: Set<Int> = []

    init(seed: UInt64, seedCount: Int, lateCount: Int) {
        random = SeededRandom(seed: seed)
        self.seedCount = seedCount
        nodes = Array(repeating: Node(), count: seedCount + lateCount)
        join = JoinList((1...seedCount).map { .seed(Int32($0)) })
    }

    /// Runs faults and then calm; at most `wipeLimit` different seeds lose their directories.
    func run(crashes: Int, wipes: Int, wipeLimit: Int) {
        for place in nodes.indices { schedule(.start(place), after: 0...5000) }
        for _ in 0..<crashes { schedule(.crash(pick(nodes.count)), after: 0...15_000) }
        for _ in 0..<wipes {
            let place = pick(seedCount)
            guard wipedSeeds.contains(place) || wipedSeeds.count < wipeLimit else { continue }
            wipedSeeds.insert(place)
            schedule(.wipe(place), after: 0...12_000)
        }
        while let next = queue.indices.min(by: { isEarlier(queue[$0], queue[$1]) }) {
            let (time, _, event) = queue.remove(at: next)
            guard time < Self.end else { break }
            now = time
            perform(event)
        }
    }

    private func isEarlier(
        _ left: (time: Duration, order: Int, event: Event),
        _ right: (time: Duration, order: Int, event: Event)
    ) -> Bool {
        (left.time, left.order) < (right.time, right.order)
    }

    // MARK: Events

    private func schedule(_ event: Event, after millis: ClosedRange<Int>, since: Duration = .zero) {
        let delay = since + .milliseconds(Int.random(in: millis, using: &random))
        eventCount += 1
        queue.append((now + delay, eventCount, event))
    }

    private func pick(_ count: Int) -> Int {
        Int.random(in: 0..<count, using: &random)
    }

    private func card(of place: Int) -> FormationCard {
        .example(
            Int32(place) + 1,
            life: nodes[place].life,
            run: nodes[place].run,
            join: join,
            state: nodes[place].disk
        )
    }

    private func perform(_ event: Event) {
        switch event {
        case .start(let place):
            guard nodes[place].formation == nil else { return }
            nodes[place].run += 1
            nodes[place].formation = ClusterFormation(card(of: place))
            feed(place, .started)
        case .ask(let place, let run, let address):
            guard nodes[place].run == run else { return }
            schedule(
                .arrive(place, run: run, answer(from: address)),
                after: 0...(now < Self.calm ? 400 : 20)
            )
        case .arrive(let place, let run, let input):
            guard nodes[place].run == run else { return }
            feed(place, input)
        case .written(let place, let run, let state):
            guard nodes[place].run == run else { return }
            nodes[place].disk = state
            feed(place, .persisted)
        case .crash(let place):
            counts.crashes += 1
            // What was being written is there after all, or is not.
            if let pending = nodes[place].formation?.pending, Bool.random(using: &random) {
                nodes[place].disk = pending
            }
            stop(place)
        case .wipe(let place):
            counts.wipes += 1
            if nodes[place].disk.founders != nil { counts.wipedFounders += 1 }
            nodes[place].life += 1
            nodes[place].disk = .empty
            stop(place)
        }
    }

    private func stop(_ place: Int) {
        nodes[place].formation = nil
        nodes[place].run += 1
        schedule(.start(place), after: 0...2000)
    }

    private func answer(from address: NetworkAddress) -> ClusterFormation.Input {
        let target = nodes.indices.first { .seed(Int32($0) + 1) == address }
        let isLost = now < Self.calm && pick(4) == 0
        guard let target, nodes[target].formation != nil, !isLost else {
            return .silent(address, reason: "down")
        }
        return .answered(address, card(of: target))
    }

    private func feed(_ place: Int, _ input: ClusterFormation.Input) {
        guard var formation = nodes[place].formation, formation.outcome == nil else { return }
        let run = nodes[place].run
        let effects = formation.step(input)
        nodes[place].formation = formation
        for effect in effects {
            switch effect {
            case .ask(let address, let delay):
                schedule(.ask(place, run: run, address: address), after: 0...5, since: delay)
            case .persist(let state):
                schedule(.written(place, run: run, state), after: 0...(pick(4) == 0 ? 800 : 5))
            case .finish(let outcome):
                finish(place, outcome)
            }
        }
    }

    // MARK: Ends

    private func finish(_ place: Int, _ outcome: ClusterFormation.Outcome) {
        switch outcome {
        case .found(let list):
            if !list.contains(card(of: place).broker, card(of: place).incarnation) {
                violations.append("broker \(place + 1) founds a cluster that it is no founder of")
            }
            if !begun.contains(list) { begun.append(list) }
            elect(list)
        case .join(let invitation):
            if place >= seedCount { counts.lateJoiners += 1 }
            // The controller lets it in.
            nodes[place].disk = .member(
                ClusterMembership(
                    clusterID: invitation.clusterID,
                    epoch: CreationEpoch(nodes[place].life + 10),
                    founders: invitation.founders
                )
            )
        case .resume:
            break
        case .refuse(.foundersDisagree):
            counts.disagreements += 1
        case .refuse(.foundersLost):
            counts.lostFounders += 1
        case .refuse(let refusal):
            violations.append("broker \(place + 1) refuses: \(refusal)")
        }
    }

    /// A majority of founders that run and have begun choose a leader, and the cluster gets its id.
    private func elect(_ list: FoundingList) {
        let running = (0..<seedCount).filter { place in
            nodes[place].formation?.outcome == .found(list)
        }
        guard running.count >= list.majority, let index = begun.firstIndex(of: list) else { return }
        for place in running { nodes[place].disk = .member(of: "cluster \(index)", list) }
    }

    /// Brokers that neither run in a cluster nor are on their way through the controller's door.
    var outside: [Int] {
        nodes.indices.filter { place in
            switch nodes[place].formation?.outcome {
            case .found, .join, .resume: false
            case .refuse, nil: true
            }
        }.map { $0 + 1 }
    }
}

@Suite("Cluster formation under faults")
struct FormationPropertyTests {
    @Test(
        "Through loss, delay and crashes exactly one cluster forms, and everybody gets into it",
        arguments: [1, 2, 3, 5]
    )
    func crashes(seedCount: Int) {
        var joinerCount = 0
        var crashCount = 0
        for seed in 1...60 as ClosedRange<UInt64> {
            let simulation = FormationSimulation(seed: seed, seedCount: seedCount, lateCount: 2)
            simulation.run(crashes: 8, wipes: 0, wipeLimit: 0)
            #expect(simulation.violations.isEmpty, "seed \(seed)")
            #expect(simulation.begun.count == 1, "seed \(seed)")
            #expect(simulation.outside.isEmpty, "seed \(seed)")
            joinerCount += simulation.counts.lateJoiners
            crashCount += simulation.counts.crashes
        }
        #expect(joinerCount > 0 && crashCount > 0, "a world without faults proves nothing")
    }

    @Test(
        "With a minority of the seeds wiped exactly one cluster forms, and everybody gets into it",
        arguments: [3, 5]
    )
    func wipes(seedCount: Int) {
        var total = FormationSimulation.Counts()
        for seed in 1...150 as ClosedRange<UInt64> {
            let simulation = FormationSimulation(seed: seed, seedCount: seedCount, lateCount: 1)
            simulation.run(crashes: 4, wipes: 3, wipeLimit: (seedCount - 1) / 2)
            #expect(simulation.violations.isEmpty, "seed \(seed)")
            #expect(simulation.begun.count == 1, "seed \(seed)")
            #expect(simulation.outside.isEmpty, "seed \(seed)")
            total.wipedFounders += simulation.counts.wipedFounders
            total.disagreements += simulation.counts.disagreements
            total.lostFounders += simulation.counts.lostFounders
        }
        #expect(total.wipedFounders > 0, "a world without faults proves nothing")
        #expect(total.lostFounders == 0, "a minority is never missed")
        #expect(total.disagreements == 0, "that takes a wipe and a start within milliseconds")
    }

    @Test(
        "Whoever is wiped, a second cluster needs that nobody is left of those who began the first"
    )
    func anyWipes() {
        var secondCount = 0
        for seed in 1...150 as ClosedRange<UInt64> {
            let simulation = FormationSimulation(seed: seed, seedCount: 3, lateCount: 0)
            simulation.run(crashes: 2, wipes: 8, wipeLimit: 3)
            #expect(simulation.violations.isEmpty, "seed \(seed)")
            for (place, list) in simulation.begun.enumerated() {
                for earlier in simulation.begun[..<place] {
                    let common = list.members.filter { earlier.members.contains($0) }
                    #expect(common.isEmpty, "seed \(seed): \(common)")
                }
                secondCount += place > 0 ? 1 : 0
            }
        }
        #expect(secondCount > 0, "some runs wipe everything")
    }
}
