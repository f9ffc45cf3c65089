import FlotillaEnvironment
import FlotillaModel

/// Chooses brokers for new replicas: spread over racks, evenly over brokers, leaders evenly too.
///
/// Racks take turns. Within a rack brokers take turns as well, and of the next two the one with fewer replicas is taken: a topic is
/// spread evenly whatever else lies on the brokers, and an empty broker fills up without getting every new partition at once. Of a
/// partition's replicas the one whose broker leads least becomes the preferred leader. Brokers that drain get nothing; brokers that are
/// down get a replica only where too few are up, and are never preferred leaders beside one that is up.
///
/// - Source: DESIGN §5 (rack striping, least loaded of two); Mitzenmacher (2001) for the two choices.
struct ReplicaPlacement {
    private struct Rack {
        var brokers: [BrokerID]
        var next = 0
    }

    private var racks: [Rack]
    private var nextRack: Int
    private var loads: SortedTable<BrokerID, BrokerLoad>
    private let brokerCount: Int
    /// Nil when nobody knows.
    private let liveBrokers: Set<BrokerID>?

    /// Places on the active brokers; where it begins is chance, so that small topics do not all begin at one broker.
    init(image: MetadataImage, liveBrokers: Set<BrokerID>? = nil, random: inout SeededRandom) {
        var racks = SortedTable<String, Rack>()
        for (id, registration) in image.brokers where !image.drainingBrokers.contains(id) {
            // Brokers that name no rack stand in one of their own together; no rack of that name exists, since it is empty.
            let name = registration.rack ?? ""
            racks[name] = Rack(brokers: (racks[name]?.brokers ?? []) + [id])
        }
        self.racks = racks.map { $0.value }
        for place in self.racks.indices {
            self.racks[place].next = Int.random(
                in: 0..<self.racks[place].brokers.count,
                using: &random
            )
        }
        nextRack = self.racks.isEmpty ? 0 : Int.random(in: 0..<self.racks.count, using: &random)
        loads = image.loads
        brokerCount = image.activeBrokers.count
        self.liveBrokers = liveBrokers
    }

    /// The brokers of a new partition, the preferred leader first.
    ///
    /// - Parameter replicationFactor: at least 1 and at most the number of active brokers.
    /// - Returns: distinct brokers.
    mutating func place(replicationFactor: Int) -> [BrokerID] {
        precondition(
            1...max(1, brokerCount) ~= replicationFactor && brokerCount > 0,
            "there are enough brokers"
        )
        var chosen: [BrokerID] = []
        var rack = nextRack
        nextRack = (nextRack + 1) % racks.count
        var idleTurns = 0
        while chosen.count < replicationFactor {
            // A rack whose brokers are all taken is passed over; when all are, those that are down have their turn.
            if let broker = take(from: rack, besides: chosen, takesDead: idleTurns >= racks.count) {
                chosen.append(broker)
                idleTurns = 0
            } else {
                idleTurns += 1
            }
            rack = (rack + 1) % racks.count
        }
        let ordered = leaderFirst(chosen)
        for (place, broker) in ordered.enumerated() {
            loads[broker] = BrokerLoad(
                replicaCount: load(broker).replicaCount + 1,
                leaderCount: load(broker).leaderCount + (place == 0 ? 1 : 0)
            )
        }
        return ordered
    }

    private func load(_ broker: BrokerID) -> BrokerLoad {
        loads[broker] ?? BrokerLoad()
    }

    private func isLive(_ broker: BrokerID) -> Bool {
        liveBrokers?.contains(broker) ?? true
    }

    private mutating func take(from rack: Int, besides chosen: [BrokerID], takesDead: Bool)
        -> BrokerID?
    {
        let brokers = racks[rack].brokers
        let turn = (0..<brokers.count).map { (racks[rack].next + $0) % brokers.count }
        let free = turn.filter {
            !chosen.contains(brokers[$0]) && (takesDead || isLive(brokers[$0]))
        }
        guard let first = free.first else { return nil }
        var taken = first
        if free.count > 1, load(brokers[free[1]]).replicaCount < load(brokers[first]).replicaCount {
            taken = free[1]
        }
        racks[rack].next = (taken + 1) % brokers.count
        return brokers[taken]
    }

    private func leaderFirst(_ chosen: [BrokerID]) -> [BrokerID] {
        var leader = 0
        for place in chosen.indices.dropFirst() {
            let (candidate, best) = (chosen[place], chosen[leader])
            guard isLive(candidate) == isLive(best) else {
                if isLive(candidate) { leader = place }
                continue
            }
            if load(candidate).leaderCount < load(best).leaderCount { leader = place }
        }
        return Array(chosen[leader...] + chosen[..<leader])
    }
}
