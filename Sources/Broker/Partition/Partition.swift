import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// One partition of a topic on its shard: what clients may append to it and read from it.
final class Partition {
    let id: TopicPartition
    private(set) var topicName: String
    private(set) var config: TopicConfig
    private(set) var rules: BatchRules
    private var raftSettings: Settings
    let replica: Replica
    let writer: SegmentWriter
    let producers: ProducerMachine
    /// Whose groups this is, for a partition of `__consumer_offsets`.
    let coordinator: GroupCoordinator?
    unowned let shard: Shard

    /// Batches on their way into the log.
    var intake = BatchIntake()
    private var watchers: [Watcher] = []
    /// How far this leader is with the partition's movement.
    var movement = MovementState()
    /// What this leader saw of the replicas when it last looked; nil until it looks.
    var sight: ReplicaSight?
    /// Since when this replica serves as the leader.
    private(set) var servesSince = Instant.start
    /// When the group last ceased to be quiet: until then everybody who was there had everything.
    private var quietEnd = Instant.start
    /// Whether the shard calls `tick()`.
    var isAwake = false
    /// Whether the shard has given the partition up.
    private(set) var isClosed = false

    /// Opens a partition from what recovery found, or anew.
    init(local: LocalReplica, recovered: RecoveredReplica?, shard: Shard) throws {
        id = local.group.partition
        topicName = local.topicName
        self.shard = shard
        let config = TopicConfig(
            overrides: shard.image.topics[local.topicName]?.configs ?? [:],
            layers: shard.layers
        )
        self.config = config
        rules = BatchRules(config)
        producers = ProducerMachine(
            limits: ProducerLimits(
                expirationMillis: shard.config.producerExpirationMillis,
                maximumProducerCount: ProducerLimits.standard.maximumProducerCount
            )
        )
        let settings = shard.groupSettings(of: local.group.partition, config)
        raftSettings = settings
        let member = GroupMember(broker: shard.settings.broker, epoch: local.group.epoch)
        let groups = local.topicName == TopicName.consumerOffsets ? GroupMachine() : nil
        replica = try Replica(
            group: local.group,
            member: member,
            log: shard.openLog(local.group, recovered, LogConfiguration(config)),
            hardState: recovered?.hardState ?? .initial,
            membership: Membership(voters: local.members),
            journalEnd: recovered?.journalEnd ?? .zero,
            isElectable: recovered?.isElectable ?? !shard.forgotten.contains(local.group),
            machine: groups ?? producers,
            settings: settings,
            seed: shard.random.next(),
            host: shard
        )
        coordinator = groups.map { [replica] machine in
            GroupCoordinator(machine: machine, replica: replica, shard: shard)
        }
        writer = SegmentWriter(replica: replica)
        writer.synced = { [weak self] in self?.removeSegments() }
    }

    /// Takes over settings that may have changed.
    func configure(image: MetadataImage, layers: ConfigLayers) {
        guard let topic = image.topic(id.topic) else { return }
        movement.isDue = true
        shard.wake(self)
        topicName = topic.name
        let changed = TopicConfig(overrides: topic.configs, layers: layers)
        let settings = shard.groupSettings(of: id, changed)
        if settings != raftSettings {
            raftSettings = settings
            replica.change(settings)
        }
        guard changed != config else { return }
        config = changed
        rules = BatchRules(changed)
        replica.log.configuration = LogConfiguration(changed)
    }

    /// One unit of Raft's time has passed; called while `wantsTicks`.
    func tick() {
        if !replica.isQuiet { replica.tick() }
        if movement.isDue { move() }
        if sight == nil || config.minimumInSyncReplicaCount > 1 { lookAtReplicas() }
    }

    /// Whether there is something that time alone brings on.
    ///
    /// In a quiet group there is nothing: while it rests everybody who is there is in sync. A message, a change of role and
    /// the brokers' beat end that, and the shard hears of each.
    var wantsTicks: Bool { !isClosed && (!replica.isQuiet || movement.isDue) }

    /// The group fell quiet, or works again.
    func quietChanged() {
        guard !replica.isQuiet else { return }
        quietEnd = shard.now
        shard.wake(self)
    }

    /// When the group was last quiet: then everybody who is there has everything.
    var lastQuiet: Instant { replica.isQuiet ? shard.now : quietEnd }

    // MARK: Bounds

    var logStartOffset: Offset { replica.log.logStartOffset }

    var highWatermark: Offset { replica.highWatermark }

    /// One past the last offset that is decided: no transaction that began before it is open.
    ///
    /// Never below the start, though the log may be cut within an open transaction.
    var lastStableOffset: Offset { max(highWatermark, logStartOffset) }

    /// Where a reader of this isolation ends.
    func readableEnd(_ isolation: IsolationLevel) -> Offset {
        isolation == .readCommitted ? lastStableOffset : highWatermark
    }

    /// Where clients of this partition should go.
    ///
    /// The group itself knows of a new leader first. In the turn that ends this replica's own leadership the table still
    /// names it, and a client sent back to where it comes from would turn in a circle.
    var hint: LeaderHint {
        var hint = shard.hint(for: id)
        if hint.leader == shard.settings.broker.rawValue, !replica.isServing { hint = .unknown }
        guard !replica.isLeader, let leader = replica.leader, shard.isReachable(leader.broker),
            replica.term.leaderEpoch > hint.epoch
        else { return hint }
        return LeaderHint(leader: leader.broker.rawValue, epoch: replica.term.leaderEpoch)
    }

    /// The error of a request with this leader epoch, or nil where it may go on (GEN-7).
    func epochError(_ epoch: Int32) -> ErrorCode? {
        guard epoch >= 0 else { return nil }
        let own = replica.term.leaderEpoch
        if epoch < own { return .fencedLeaderEpoch }
        return epoch > own ? .unknownLeaderEpoch : nil
    }

    // MARK: Waiting

    /// Somebody who waits for more to read.
    private struct Watcher {
        var id: UInt64
        var isolation: IsolationLevel
        var knownEnd: Offset
        var wake: () -> Void
    }

    /// Calls `wake` once, as soon as there is more to read than `watch` knows, or the partition changes hands.
    func watch(_ watch: FetchWatch, id: UInt64, wake: @escaping () -> Void) {
        guard servesReads(hasRack: watch.hasRack), readableEnd(watch.isolation) <= watch.knownEnd
        else { return wake() }
        watchers.append(
            Watcher(id: id, isolation: watch.isolation, knownEnd: watch.knownEnd, wake: wake)
        )
    }

    /// Has every waiting fetch look again, as when the broker stops.
    func wakeWatchers() {
        let watching = watchers
        watchers.removeAll()
        for watcher in watching { watcher.wake() }
    }

    /// Forgets a watcher.
    func unwatch(_ id: UInt64) {
        watchers.removeAll { $0.id == id }
    }

    /// More is committed and applied.
    func committed() {
        shard.noteCommitted(writer)
        retryParked()
        if !intake.admissions.isEmpty { admitWaiting() }
        guard !watchers.isEmpty else { return }
        var woken: [Watcher] = []
        watchers.removeAll { watcher in
            guard readableEnd(watcher.isolation) > watcher.knownEnd else { return false }
            woken.append(watcher)
            return true
        }
        for watcher in woken { watcher.wake() }
    }

    /// The replica leads and serves, or does not any longer.
    func leadershipChanged() {
        movement.isDue = true
        sight = nil
        shard.wake(self)
        coordinator?.leadershipChanged()
        // What was removed before the last stop is known as removed only now: until the log's own entries are applied
        // it looks as if it were missing.
        guard !replica.isServing else {
            intake.holdEnd = nil
            servesSince = shard.now
            lookAtReplicas()
            for damage in replica.log.damage { shard.report(.damaged(damage), in: replica.group) }
            return admitWaiting()
        }
        intake.holdEnd = replica.isLeader ? shard.now + Self.longestHold : nil
        guard isAboutToServe else { return releaseWaiting(.notLeaderOrFollower) }
        wakeWatchers()
        shard.schedule(after: Self.longestHold) { [weak self] in
            guard let self, !self.replica.isServing, !self.isAboutToServe else { return }
            self.releaseWaiting(.notLeaderOrFollower)
        }
    }

    /// The replica has failed: it takes nothing any more.
    func failed() {
        intake.holdEnd = nil
        coordinator?.leadershipChanged()
        releaseWaiting(.notLeaderOrFollower)
    }

    /// The partition is gone from this broker.
    func close(_ error: ErrorCode) {
        isClosed = true
        intake.holdEnd = nil
        replica.close()
        coordinator?.leadershipChanged()
        releaseWaiting(error)
    }
}
