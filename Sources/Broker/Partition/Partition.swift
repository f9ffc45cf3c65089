import DequeModule
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
    private var rules: BatchRules
    private var raftSettings: Settings
    let replica: Replica
    let writer: SegmentWriter
    let producers: ProducerMachine
    unowned let shard: Shard

    /// Batches whose turn has not come: an earlier one is at a worker, or the journal is full.
    private var admissions = Deque<Admission>()
    private var isAtWorker = false
    /// Retries of batches that are in flight; each looks again when the original's entry is applied.
    private var parkedRetries: [ParkedRetry] = []
    private var refusedBatches = RefusedBatches()
    /// Until when a leader whose term has not begun keeps batches.
    private var holdEnd: Instant?
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
        replica = try Replica(
            group: local.group,
            member: member,
            log: shard.openLog(local.group, recovered, LogConfiguration(config)),
            hardState: recovered?.hardState ?? .initial,
            membership: Membership(voters: local.members),
            journalEnd: recovered?.journalEnd ?? .zero,
            isElectable: recovered?.isElectable ?? true,
            machine: producers,
            settings: settings,
            seed: shard.random.next(),
            host: shard
        )
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

    // MARK: Appending

    /// One batch on its way into the log.
    private struct Admission {
        var records: ByteBuffer?
        var acks: Acks
        var version: Int16
        var isTransactional: Bool
        var completion: (ProduceReply) -> Void
    }

    private struct ParkedRetry {
        var batch: RecordBatch
        var index: LogIndex
        var acks: Acks
        var completion: (ProduceReply) -> Void
    }

    /// Checks a batch, appends it and answers as its acks ask for.
    func produce(
        _ call: ProduceCall,
        _ records: ByteBuffer?,
        then completion: @escaping (ProduceReply) -> Void
    ) {
        let byteCount = records?.readableBytes ?? 0
        if let refusal = refusal(of: call, byteCount) {
            noteRefused(records, refusal)
            return completion(refusal)
        }
        shard.waitingByteCount += byteCount
        admissions.append(
            Admission(
                records: records,
                acks: call.acks,
                version: call.version,
                isTransactional: call.isTransactional,
                completion: completion
            )
        )
        admitWaiting()
    }

    private func refusal(of call: ProduceCall, _ byteCount: Int) -> ProduceReply? {
        guard replica.isServing || isAboutToServe else {
            return .refused(.notLeaderOrFollower, hint: hint)
        }
        // Requests end with their timeouts while their batches still wait: retries must not pile up behind them.
        guard shard.waitingByteCount + byteCount <= shard.settings.inFlightByteLimit else {
            return .refused(.requestTimedOut, "too many bytes wait for the journal")
        }
        return nil
    }

    /// Remembers the producer of a batch that was refused before it was looked at; one that nobody can read has none.
    private func noteRefused(_ records: ByteBuffer?, _ reply: ProduceReply) {
        guard let records, let header = try? RecordBatchHeader(parsing: records.readableBytesSpan)
        else { return }
        noteRefused(ProducerBatch(header), reply)
    }

    private func noteRefused(_ batch: ProducerBatch?, _ reply: ProduceReply) {
        guard let batch else { return }
        refusedBatches.note(batch, reply.error, now: shard.now)
    }

    /// Takes the batches whose turn it is; one that goes to a worker keeps its place.
    ///
    /// A leader whose term has yet to begin keeps them: its clients need not ask again.
    func admitWaiting() {
        guard !isAboutToServe else { return }
        while !isAtWorker, let admission = admissions.first {
            guard replica.uncommittedByteCount < shard.settings.uncommittedHoldByteCount else {
                return
            }
            // What the disk has no room for is refused, also where the journal has none and the others wait for it.
            guard !shard.isJournalFull || shard.isVolumeFull else { return }
            if admission.acks == .all, let shortage {
                refuseFirst(.refused(.notEnoughReplicas, shortage))
                continue
            }
            let room = shard.takeRoom(for: admission.records?.readableBytes ?? 0)
            if room == .unknown { return }
            guard room == .granted else {
                refuseFirst(
                    .refused(
                        .kafkaStorageError,
                        "\(shard.settings.dataDirectory): the disk is nearly full; records are refused until there is room"
                    )
                )
                continue
            }
            admissions.removeFirst()
            shard.waitingByteCount -= admission.records?.readableBytes ?? 0
            let check = BatchCheck(
                rules: rules,
                records: admission.records,
                version: admission.version,
                now: shard.wallTime
            )
            if let records = admission.records, rules.wantsWorker(for: records) {
                isAtWorker = true
                shard.workers.run({ check.perform(using: Compressor(), Decompressor()) }) {
                    [weak self] result in
                    guard let self else {
                        return admission.completion(.refused(.notLeaderOrFollower))
                    }
                    self.isAtWorker = false
                    self.finish(result, admission)
                    self.admitWaiting()
                }
            } else {
                finish(check.perform(using: shard.compressor, shard.decompressor), admission)
            }
        }
    }

    private func refuseFirst(_ reply: ProduceReply) {
        guard let admission = admissions.popFirst() else { return }
        shard.waitingByteCount -= admission.records?.readableBytes ?? 0
        noteRefused(admission.records, reply)
        admission.completion(reply)
    }

    private func finish(_ result: Result<RecordBatch, BatchRefusal>, _ admission: Admission) {
        switch result {
        case .success(let batch): append(batch, admission.acks, admission.completion)
        case .failure(let refusal): admission.completion(.refused(refusal))
        }
    }

    private func append(
        _ batch: RecordBatch,
        _ acks: Acks,
        _ completion: @escaping (ProduceReply) -> Void
    ) {
        let producer = ProducerBatch(batch.header)
        guard replica.isServing else {
            let reply = ProduceReply.refused(.notLeaderOrFollower, hint: hint)
            noteRefused(producer, reply)
            return completion(reply)
        }
        var note: InFlightNote?
        if let producer {
            let verdict = producers.state.check(producer)
            if !producers.state.continues(producer, verdict),
                let error = refusedBatches.error(for: producer, now: shard.now)
            {
                return completion(
                    .refused(
                        error,
                        "a batch before it was refused and has not come again",
                        hint: hint
                    )
                )
            }
            switch verdict {
            case .append:
                refusedBatches.taken(producer)
                note = producers.state.noteAppended(producer, at: replica.nextProposalIndex)
            case .duplicate(let baseOffset, let timestamp):
                return completion(
                    accepted(
                        at: baseOffset,
                        logAppendTime: config.timestampType == .logAppendTime ? timestamp : .none
                    )
                )
            case .inFlightDuplicate(let index):
                parkedRetries.append(
                    ParkedRetry(batch: batch, index: index, acks: acks, completion: completion)
                )
                return
            case .refused(let error):
                return completion(.refused(error))
            }
        }
        let isLogAppendTime = batch.header.attributes.isLogAppendTime
        let appendTime = isLogAppendTime ? batch.header.maxTimestamp : .none
        shard.counters.recordsIn += Int(batch.header.recordCount)
        shard.counters.bytesIn += batch.byteCount
        replica.propose(
            Proposal(.batch(batch), durability: acks == .all ? .quorum : .leader) {
                [weak self] result in
                guard let self else { return completion(.refused(.notLeaderOrFollower)) }
                switch result {
                case .success(let placed):
                    completion(self.accepted(at: placed.baseOffset, logAppendTime: appendTime))
                case .failure(let error):
                    if let note { self.producers.state.withdraw(note) }
                    let reply = self.refusal(for: error)
                    self.noteRefused(producer, reply)
                    completion(reply)
                }
            }
        )
    }

    private func accepted(at baseOffset: Offset, logAppendTime: Timestamp) -> ProduceReply {
        ProduceReply(
            error: .noError,
            message: nil,
            baseOffset: baseOffset,
            logAppendTime: logAppendTime,
            logStartOffset: logStartOffset
        )
    }

    private func refusal(for error: ReplicationError) -> ProduceReply {
        switch error {
        case .rejected(.notLeader), .rejected(.transferring), .rejected(.notReady), .leadershipLost:
            .refused(.notLeaderOrFollower, error.description, hint: hint)
        case .rejected(.overloaded):
            .refused(.requestTimedOut, error.description)
        case .tooFewReplicas:
            .refused(.notEnoughReplicasAfterAppend, error.description)
        case .rejected, .storage, .unusableEntry:
            .refused(.kafkaStorageError, error.description)
        }
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
        if !admissions.isEmpty { admitWaiting() }
        guard !watchers.isEmpty else { return }
        var woken: [Watcher] = []
        watchers.removeAll { watcher in
            guard readableEnd(watcher.isolation) > watcher.knownEnd else { return false }
            woken.append(watcher)
            return true
        }
        for watcher in woken { watcher.wake() }
    }

    private func retryParked() {
        guard !parkedRetries.isEmpty else { return }
        let due = parkedRetries.filter { $0.index <= replica.appliedIndex }
        guard !due.isEmpty else { return }
        parkedRetries.removeAll { $0.index <= replica.appliedIndex }
        for retry in due { append(retry.batch, retry.acks, retry.completion) }
    }

    /// The replica leads and serves, or does not any longer.
    func leadershipChanged() {
        movement.isDue = true
        sight = nil
        shard.wake(self)
        // What was removed before the last stop is known as removed only now: until the log's own entries are applied
        // it looks as if it were missing.
        guard !replica.isServing else {
            holdEnd = nil
            servesSince = shard.now
            lookAtReplicas()
            for damage in replica.log.damage { shard.report(.damaged(damage), in: replica.group) }
            return admitWaiting()
        }
        holdEnd = replica.isLeader ? shard.now + Self.longestHold : nil
        guard isAboutToServe else { return releaseWaiting(.notLeaderOrFollower) }
        wakeWatchers()
        shard.schedule(after: Self.longestHold) { [weak self] in
            guard let self, !self.replica.isServing, !self.isAboutToServe else { return }
            self.releaseWaiting(.notLeaderOrFollower)
        }
    }

    /// The replica has failed: it takes nothing any more.
    func failed() {
        holdEnd = nil
        releaseWaiting(.notLeaderOrFollower)
    }

    /// Whether the replica leads and its term will begin any moment.
    private var isAboutToServe: Bool {
        guard let holdEnd, replica.isLeader, !replica.isServing else { return false }
        return shard.now < holdEnd
    }

    /// How long batches wait for a term to begin.
    ///
    /// Answers leave in order, so a client that waits gets nothing from the other
    /// partitions of this broker either.
    private static let longestHold = Duration.seconds(1)

    /// The partition is gone from this broker.
    func close(_ error: ErrorCode) {
        isClosed = true
        holdEnd = nil
        replica.close()
        releaseWaiting(error)
    }

    private func releaseWaiting(_ error: ErrorCode) {
        let retries = parkedRetries
        parkedRetries.removeAll()
        for _ in 0..<admissions.count { refuseFirst(.refused(error, hint: hint)) }
        for retry in retries { retry.completion(.refused(error, hint: hint)) }
        wakeWatchers()
    }
}
