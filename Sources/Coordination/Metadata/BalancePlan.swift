package import FlotillaModel

/// One thing that the balancer would do.
package enum Move: Hashable, Sendable, CustomStringConvertible {
    /// Why a replica is moved.
    package enum Reason: Hashable, Sendable {
        /// Its broker gives its replicas away.
        case draining
        /// Two replicas of the partition stand in one rack while another rack has none.
        case rack(String)
        /// Its broker has this many more replicas than the other.
        case load(difference: Int)
    }

    /// A replica of a partition goes to another broker; `brokers` is the whole list as it then is.
    case replica(
        TopicPartition,
        name: String,
        from: BrokerID,
        to: BrokerID,
        brokers: [BrokerID],
        reason: Reason
    )
    /// Leadership of a partition goes to another of its replicas.
    case leader(TopicPartition, name: String, from: BrokerID, to: GroupMember)

    /// The partition.
    package var partition: TopicPartition {
        switch self {
        case .replica(let partition, _, _, _, _, _): partition
        case .leader(let partition, _, _, _): partition
        }
    }

    /// The move as a sentence.
    package var description: String {
        switch self {
        case .replica(_, let name, let from, let to, _, let reason):
            "move a replica of \(name) from broker \(from) to broker \(to): \(reason.text(from, to))"
        case .leader(_, let name, let from, let to):
            "let broker \(to.broker) lead \(name) instead of broker \(from)"
        }
    }
}

extension Move.Reason {
    fileprivate func text(_ from: BrokerID, _ to: BrokerID) -> String {
        switch self {
        case .draining: "broker \(from) is draining"
        case .rack(let rack): "no replica stands in rack \(rack.isEmpty ? "(none)" : rack) yet"
        case .load(let difference): "broker \(from) has \(difference) more replicas"
        }
    }
}

/// How much the balancer may have under way at once.
package struct BalanceLimits: Hashable, Sendable {
    /// Partitions that move at once, those that move already among them.
    package var movementCount: Int
    /// Leaders that change in one plan.
    package var transferCount: Int

    /// States limits.
    package init(movementCount: Int = 8, transferCount: Int = 16) {
        self.movementCount = movementCount
        self.transferCount = transferCount
    }
}

/// What would make the cluster more even: a pure function of what is known.
///
/// In this order: replicas leave draining brokers; replicas of one partition spread over racks; brokers get equal numbers of replicas;
/// leaders go to their preferred brokers. A plan that is carried out leaves fewer reasons than before, and a cluster without a reason
/// has an empty plan: a replica moves for its load only where the difference is two at least, so nothing swings.
///
/// - Source: DESIGN §5 (balancer for leaders and replicas, on by default, capped); Redpanda's leader balancer for the caps.
package struct BalancePlan {
    private var image: MetadataImage
    private let leaders: [TopicPartition: BrokerID]
    private let liveBrokers: Set<BrokerID>
    private let limits: BalanceLimits
    /// Where replicas may go: active and alive, ascending.
    private let targets: [BrokerID]
    private var loads: SortedTable<BrokerID, BrokerLoad>
    private var moved: Set<TopicPartition> = []
    /// Moving partitions that are stuck; replacing their movements begins none.
    private var stuckCount = 0
    private var moves: [Move] = []

    /// Plans.
    ///
    /// - Parameters:
    ///   - image: the metadata.
    ///   - leaders: who leads, as far as it is known.
    ///   - liveBrokers: who is alive.
    ///   - limits: how much may be under way.
    /// - Returns: the moves, in the order of their importance; at most one per partition.
    package static func plan(
        image: MetadataImage,
        leaders: [TopicPartition: BrokerID],
        liveBrokers: Set<BrokerID>,
        limits: BalanceLimits = BalanceLimits()
    ) -> [Move] {
        var plan = BalancePlan(
            image: image,
            leaders: leaders,
            liveBrokers: liveBrokers,
            limits: limits
        )
        plan.evacuate()
        plan.spreadOverRacks()
        plan.evenOut()
        plan.transferLeaders()
        return plan.moves
    }

    private init(
        image: MetadataImage,
        leaders: [TopicPartition: BrokerID],
        liveBrokers: Set<BrokerID>,
        limits: BalanceLimits
    ) {
        self.image = image
        self.leaders = leaders
        self.liveBrokers = liveBrokers
        self.limits = limits
        targets = image.activeBrokers.filter(liveBrokers.contains)
        loads = image.loads
        guard !image.drainingBrokers.isEmpty else { return }
        stuckCount = image.topics.map(\.value).reduce(0) { count, topic in
            count + topic.partitions.count(where: isStuck)
        }
    }

    // MARK: Replicas

    private var mayMove: Bool {
        image.movingPartitionCount - stuckCount + moved.count < limits.movementCount
    }

    /// Whether the partition waits for a member that will not come: on a broker that is to go and does not answer.
    private func isStuck(_ place: PartitionImage) -> Bool {
        place.adding.contains { member in
            image.drainingBrokers.contains(member.broker) && !liveBrokers.contains(member.broker)
        }
    }

    private func load(_ broker: BrokerID) -> BrokerLoad {
        loads[broker] ?? BrokerLoad()
    }

    private func rack(_ broker: BrokerID) -> String {
        image.brokers[broker]?.rack ?? ""
    }

    /// Visits partitions at rest that a quorum can move, by topic name, while there is room for another movement.
    ///
    /// `includesStuck`: also those whose movement comes to no end as it is.
    private mutating func visit(
        includesStuck: Bool = false,
        _ body: (inout BalancePlan, TopicPartition, String, PartitionImage) -> Void
    ) {
        for (name, topic) in image.topics {
            for (number, place) in topic.partitions.enumerated() {
                guard mayMove else { return }
                let partition = TopicPartition(topic: topic.id, partition: Int32(number))
                let isFree = !place.isMoving || includesStuck && isStuck(place)
                guard isFree, !moved.contains(partition), hasQuorum(place) else { continue }
                body(&self, partition, name, place)
            }
        }
    }

    private func hasQuorum(_ place: PartitionImage) -> Bool {
        place.seemsMovable { liveBrokers.contains($0.broker) }
    }

    private mutating func evacuate() {
        guard !image.drainingBrokers.isEmpty else { return }
        visit(includesStuck: true) { plan, partition, name, place in
            guard
                let from = place.brokers.first(where: plan.image.drainingBrokers.contains),
                let to = plan.bestTarget(for: place, insteadOf: from)
            else { return }
            plan.move(place, partition, name, from, to, .draining)
        }
    }

    /// The broker that takes a replica: in a rack without one if there is one, then with the fewest replicas.
    private func bestTarget(for place: PartitionImage, insteadOf from: BrokerID) -> BrokerID? {
        let others = place.brokers.filter { $0 != from }.map(rack)
        return targets.filter { !place.brokers.contains($0) }.min { left, right in
            let isLeftNew = !others.contains(rack(left))
            guard isLeftNew == !others.contains(rack(right)) else { return isLeftNew }
            return load(left).replicaCount < load(right).replicaCount
        }
    }

    private mutating func spreadOverRacks() {
        let names = Set(targets.map(rack))
        guard names.count > 1 else { return }
        visit { plan, partition, name, place in
            let racks = place.brokers.map(plan.rack)
            guard Set(racks).count < min(racks.count, names.count) else { return }
            // Of two in one rack the one goes whose broker has more; the other stays.
            let crowded = place.brokers.filter { broker in
                racks.count { $0 == plan.rack(broker) } > 1 && plan.isActive(broker)
            }
            let from = crowded.max { left, right in
                plan.load(left).replicaCount < plan.load(right).replicaCount
            }
            guard let from, let to = plan.bestTarget(for: place, insteadOf: from),
                !racks.contains(plan.rack(to))
            else { return }
            plan.move(place, partition, name, from, to, .rack(plan.rack(to)))
        }
    }

    private func isActive(_ broker: BrokerID) -> Bool {
        !image.drainingBrokers.contains(broker)
    }

    /// Moves replicas from the broker with the most to the one with the fewest, as long as that is a difference of two.
    private mutating func evenOut() {
        while mayMove {
            let ranked = targets.sorted { left, right in
                let (leftCount, rightCount) = (load(left).replicaCount, load(right).replicaCount)
                return leftCount == rightCount ? left < right : leftCount < rightCount
            }
            guard moveOne(among: ranked) else { return }
        }
    }

    private mutating func moveOne(among ranked: [BrokerID]) -> Bool {
        for from in ranked.reversed() {
            for to in ranked {
                let difference = load(from).replicaCount - load(to).replicaCount
                guard difference >= 2 else { break }
                if moveOne(from: from, to: to, difference: difference) { return true }
            }
        }
        return false
    }

    /// Moves the first replica that may go; one that is a preferred leader where the other broker leads less, else another.
    private mutating func moveOne(from: BrokerID, to: BrokerID, difference: Int) -> Bool {
        let prefersLeader = load(from).leaderCount > load(to).leaderCount
        let countBefore = moved.count
        for isSecondRound in [false, true] {
            visit { plan, partition, name, place in
                guard plan.moved.count == countBefore, place.brokers.contains(from),
                    !place.brokers.contains(to), plan.keepsRacks(place, from, to),
                    isSecondRound || (place.brokers.first == from) == prefersLeader
                else { return }
                plan.move(place, partition, name, from, to, .load(difference: difference))
            }
            if moved.count > countBefore { return true }
        }
        return false
    }

    private func keepsRacks(_ place: PartitionImage, _ from: BrokerID, _ to: BrokerID) -> Bool {
        let before = Set(place.brokers.map(rack)).count
        let after = Set(place.brokers.map { rack($0 == from ? to : $0) }).count
        return after >= before
    }

    private mutating func move(
        _ place: PartitionImage,
        _ partition: TopicPartition,
        _ topic: String,
        _ from: BrokerID,
        _ to: BrokerID,
        _ reason: Move.Reason
    ) {
        let isLeader = place.brokers.first == from
        var (source, target) = (load(from), load(to))
        source.replicaCount -= 1
        target.replicaCount += 1
        source.leaderCount -= isLeader ? 1 : 0
        target.leaderCount += isLeader ? 1 : 0
        (loads[from], loads[to]) = (source, target)
        moved.insert(partition)
        moves.append(
            .replica(
                partition,
                name: "\(topic)-\(partition.partition)",
                from: from,
                to: to,
                brokers: place.brokers.map { $0 == from ? to : $0 },
                reason: reason
            )
        )
    }

    // MARK: Leaders

    private mutating func transferLeaders() {
        var transferCount = 0
        for (name, topic) in image.topics {
            for (number, place) in topic.partitions.enumerated() {
                guard transferCount < limits.transferCount else { return }
                let partition = TopicPartition(topic: topic.id, partition: Int32(number))
                guard !moved.contains(partition), let leader = leaders[partition],
                    let heir = heir(of: place, ledBy: leader), heir.broker != leader
                else { continue }
                transferCount += 1
                moves.append(
                    .leader(partition, name: "\(name)-\(number)", from: leader, to: heir)
                )
            }
        }
    }

    /// The replica that should lead: the first that is there for certain, on a broker that is alive and keeps its replicas.
    ///
    /// While the preferred broker cannot lead, whoever leads is left alone, unless its own broker is draining.
    private func heir(of place: PartitionImage, ledBy leader: BrokerID) -> GroupMember? {
        let able = place.replicas.first { member in
            liveBrokers.contains(member.broker) && isActive(member.broker)
                && !place.adding.contains(member)
        }
        return able == place.replicas.first || !isActive(leader) ? able : nil
    }
}
