import FlotillaClient
import FlotillaModel

/// Where replicas should go: away from a broker, or evenly over all.
///
/// It is made from what any Kafka-compatible cluster says in its metadata. Brokers of racks that a partition is not on
/// yet come first, then those with the fewest replicas, then the lowest ids.
struct ReplicaPlan {
    /// A partition and the brokers that it should lie on, the preferred leader first.
    struct Move: Hashable, Sendable {
        var partition: NamedPartition
        var from: [BrokerID]
        var to: [BrokerID]

        /// Brokers that get a copy.
        var adding: [BrokerID] { to.filter { !from.contains($0) } }
    }

    private struct Placed {
        var partition: NamedPartition
        var replicas: [BrokerID]
    }

    private let racks: [BrokerID: String]
    /// The brokers that may hold replicas, by ascending id.
    private let brokers: [BrokerID]
    private let partitions: [Placed]
    private var counts: [BrokerID: Int] = [:]

    /// Looks at a cluster.
    ///
    /// - Parameters:
    ///   - metadata: brokers that answer, and all topics.
    ///   - targets: where movements under way are going to.
    init(_ metadata: ClusterMetadata, moving targets: [NamedPartition: [BrokerID]] = [:]) {
        brokers = metadata.brokers.map(\.id)
        racks = Dictionary(
            metadata.brokers.compactMap { broker in broker.rack.map { (broker.id, $0) } }
        ) { first, _ in first }
        partitions = metadata.topics.flatMap { topic in
            topic.partitions.map { partition in
                let name = NamedPartition(topic: topic.name, index: partition.index)
                return Placed(partition: name, replicas: targets[name] ?? partition.replicas)
            }
        }
        for placed in partitions {
            for broker in placed.replicas { counts[broker, default: 0] += 1 }
        }
    }

    // MARK: Emptying

    /// Takes every replica off a broker.
    ///
    /// A replica in the place of a preferred leader becomes the last one: the others lead until it has a copy.
    ///
    /// - Returns: the moves, and the partitions that have nowhere to go.
    mutating func draining(_ broker: BrokerID) -> (moves: [Move], stuck: [NamedPartition]) {
        var moves: [Move] = []
        var stuck: [NamedPartition] = []
        for placed in partitions where placed.replicas.contains(broker) {
            let staying = placed.replicas.filter { $0 != broker }
            guard let target = target(besides: staying, not: broker) else {
                stuck.append(placed.partition)
                continue
            }
            var wanted = placed.replicas.map { $0 == broker ? target : $0 }
            if placed.replicas.first == broker { wanted = staying + [target] }
            count(placed.replicas, wanted)
            moves.append(Move(partition: placed.partition, from: placed.replicas, to: wanted))
        }
        return (moves, stuck)
    }

    private func target(besides staying: [BrokerID], not excluded: BrokerID) -> BrokerID? {
        let taken = Set(staying.compactMap { racks[$0] })
        let candidates = brokers.filter { $0 != excluded && !staying.contains($0) }
        return candidates.min { left, right in
            rank(left, taken) < rank(right, taken)
        }
    }

    private func rank(_ broker: BrokerID, _ taken: Set<String>) -> (Int, Int, BrokerID) {
        let isInTakenRack = racks[broker].map { taken.contains($0) } ?? false
        return (isInTakenRack ? 1 : 0, counts[broker] ?? 0, broker)
    }

    private mutating func count(_ from: [BrokerID], _ to: [BrokerID]) {
        for broker in from { counts[broker, default: 0] -= 1 }
        for broker in to { counts[broker, default: 0] += 1 }
    }

    // MARK: Evening out

    /// Moves single replicas from brokers that hold most to those that hold least, until they differ by at most one.
    ///
    /// No partition moves twice, and none comes to lie on fewer racks.
    mutating func balancing() -> [Move] {
        var moves: [Move] = []
        var rest = partitions
        while let (place, move) = nextMove(rest) {
            count(move.from, move.to)
            moves.append(move)
            rest.remove(at: place)
        }
        return moves
    }

    private func nextMove(_ rest: [Placed]) -> (Int, Move)? {
        let byCount = brokers.sorted { (counts[$0] ?? 0, $0) < (counts[$1] ?? 0, $1) }
        for full in byCount.reversed() {
            for empty in byCount where (counts[full] ?? 0) - (counts[empty] ?? 0) > 1 {
                let place = rest.firstIndex { placed in
                    placed.replicas.contains(full) && !placed.replicas.contains(empty)
                        && rackCount(replacing(full, by: empty, in: placed.replicas))
                            >= rackCount(placed.replicas)
                }
                guard let place else { continue }
                let placed = rest[place]
                return (
                    place,
                    Move(
                        partition: placed.partition,
                        from: placed.replicas,
                        to: replacing(full, by: empty, in: placed.replicas)
                    )
                )
            }
        }
        return nil
    }

    private func replacing(_ old: BrokerID, by new: BrokerID, in replicas: [BrokerID]) -> [BrokerID]
    {
        replicas.map { $0 == old ? new : $0 }
    }

    private func rackCount(_ replicas: [BrokerID]) -> Int {
        Set(replicas.compactMap { racks[$0] }).count
    }
}
