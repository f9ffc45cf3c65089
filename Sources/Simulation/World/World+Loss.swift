import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

// What brokers say of what they have lost: without the fault atlas nothing else excuses that it is gone.

/// A replica of which its broker said that something is lost.
struct LossReport: Hashable, Comparable {
    var broker: Int
    var group: GroupID

    static func < (left: LossReport, right: LossReport) -> Bool {
        (left.broker, left.group) < (right.broker, right.group)
    }
}

extension World {
    /// Something acknowledged is gone, or cannot be had.
    ///
    /// Without the fault atlas that may be, but a broker must have said so. That records of a partition are gone is excused by a report
    /// of their loss alone; that the cluster does not come to rest also by damage that waits to be healed, and by a partition for whose
    /// log nobody vouches, as long as no broker keeps silent about a replica. One broker that forgets all it had is no excuse, since two
    /// others have it; two of them are.
    func lose(_ sentence: String, of partition: TopicPartition? = nil) {
        let isReported =
            partition.map { partition in reported.contains { $0.group.partition == partition } }
            ?? (!reported.isEmpty || !unhealed.isEmpty || lacksVouchers)
        guard !plan.hasAtlas, isReported || forgetful.count > 1 else { return violate(sentence) }
        if partition == nil, let silent = silentReplica {
            return violate(
                "\(sentence); broker \(silent.broker + 1) does not say what came of the damage to \(silent.group.partition)"
            )
        }
        tell("reported loss: \(sentence)")
    }

    /// Takes note of what a broker says: its report of a loss, or that there is none after all.
    ///
    /// `.damaged` is no report: it tells of what others may still have.
    func note(_ event: BrokerEvent, from place: ShardPlace) {
        switch event {
        case .damaged(let group, _):
            // What was told to be beyond healing is found again now and then.
            let report = LossReport(broker: place.broker, group: group)
            guard untreated[report] == nil, !unhealed.contains(report) else { return }
            untreated[report] = now
        case .renewing(let group):
            let report = LossReport(broker: place.broker, group: group)
            untreated[report] = nil
            reported.insert(report)
        case .unhealed(let group, _, let isLost):
            let report = LossReport(broker: place.broker, group: group)
            untreated[report] = nil
            unhealed.insert(report)
            if isLost { reported.insert(report) } else { reported.remove(report) }
        case .healed(let group, _):
            // Some of it was; what is still lost was told before, and is not told once more.
            let report = LossReport(broker: place.broker, group: group)
            untreated[report] = nil
            guard !hasDamage(report) else { return }
            unhealed.remove(report)
            reported.remove(report)
        default: break
        }
    }

    /// A broker that knows of damage says soon whether it was healed.
    private static let treatment = Duration.seconds(30)

    private var silentReplica: LossReport? {
        untreated.filter { now - $0.value > Self.treatment && hasDamage($0.key) }.keys.min()
    }

    private func hasDamage(_ report: LossReport) -> Bool {
        let replica = brokers[report.broker].shards.flatMap(\.allReplicas).first {
            $0.group == report.group
        }
        return replica.map { !$0.hasFailed && !$0.log.damage.isEmpty } ?? false
    }

    /// Whether so many replicas of a partition are in doubt that it has no leader.
    ///
    /// Brokers say so at their start, with the entries that they lost, and until somebody decides otherwise nobody serves the partition.
    private var lacksVouchers: Bool {
        var doubtful: [TopicPartition: Int] = [:]
        for replica in brokers.flatMap(\.shards).flatMap(\.allReplicas)
        where !replica.raft.isElectable && replica.raft.membership.contains(replica.member) {
            doubtful[replica.group.partition, default: 0] += 1
        }
        return doubtful.values.contains { $0 > 1 }
    }
}
