import DequeModule
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// What a partition keeps of batches that are not in its log yet.
struct BatchIntake {
    /// Batches whose turn has not come: an earlier one is at a worker, or the journal is full.
    var admissions = Deque<Admission>()
    var isAtWorker = false
    /// Retries of batches that are in flight; each looks again when the original's entry is applied.
    var parkedRetries: [ParkedRetry] = []
    var refusedBatches = RefusedBatches()
    /// Until when a leader whose term has not begun keeps batches.
    var holdEnd: Instant?

    /// One batch on its way into the log.
    struct Admission {
        var records: ByteBuffer?
        var acks: Acks
        var version: Int16
        var isTransactional: Bool
        var completion: (ProduceReply) -> Void
    }

    /// A retry, and the entry of the batch that it repeats.
    struct ParkedRetry {
        var batch: RecordBatch
        var index: LogIndex
        var acks: Acks
        var completion: (ProduceReply) -> Void
    }
}

/// How batches come into the log, and what becomes of them where they do not.
extension Partition {
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
        intake.admissions.append(
            BatchIntake.Admission(
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
        intake.refusedBatches.note(batch, reply.error, now: shard.now)
    }

    /// Takes the batches whose turn it is; one that goes to a worker keeps its place.
    ///
    /// A leader whose term has yet to begin keeps them: its clients need not ask again.
    func admitWaiting() {
        guard !isAboutToServe else { return }
        while !intake.isAtWorker, let admission = intake.admissions.first {
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
            intake.admissions.removeFirst()
            shard.waitingByteCount -= admission.records?.readableBytes ?? 0
            let check = BatchCheck(
                rules: rules,
                records: admission.records,
                version: admission.version,
                now: shard.wallTime
            )
            if let records = admission.records, rules.wantsWorker(for: records) {
                intake.isAtWorker = true
                shard.workers.run({ check.perform(using: Compressor(), Decompressor()) }) {
                    [weak self] result in
                    guard let self else {
                        return admission.completion(.refused(.notLeaderOrFollower))
                    }
                    self.intake.isAtWorker = false
                    self.finish(result, admission)
                    self.admitWaiting()
                }
            } else {
                finish(check.perform(using: shard.compressor, shard.decompressor), admission)
            }
        }
    }

    private func refuseFirst(_ reply: ProduceReply) {
        guard let admission = intake.admissions.popFirst() else { return }
        shard.waitingByteCount -= admission.records?.readableBytes ?? 0
        noteRefused(admission.records, reply)
        admission.completion(reply)
    }

    private func finish(
        _ result: Result<RecordBatch, BatchRefusal>,
        _ admission: BatchIntake.Admission
    ) {
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
            return refuse(producer, .refused(.notLeaderOrFollower, hint: hint), completion)
        }
        var note: InFlightNote?
        if let producer {
            let verdict = producers.state.check(producer)
            if !producers.state.continues(producer, verdict),
                let error = intake.refusedBatches.error(for: producer, now: shard.now)
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
                intake.refusedBatches.taken(producer)
                note = producers.state.noteAppended(producer, at: replica.nextProposalIndex)
            case .duplicate(let baseOffset, let timestamp):
                return completion(
                    accepted(
                        at: baseOffset,
                        logAppendTime: config.timestampType == .logAppendTime ? timestamp : .none
                    )
                )
            case .inFlightDuplicate(let index):
                intake.parkedRetries.append(
                    BatchIntake.ParkedRetry(
                        batch: batch,
                        index: index,
                        acks: acks,
                        completion: completion
                    )
                )
                return
            case .refused(let error):
                return proveLeadership(before: .refused(error), producer, completion)
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
                    self.refuse(producer, self.refusal(for: error), completion)
                }
            }
        )
    }

    /// Refuses a batch for what its producer did before, if this broker still leads.
    ///
    /// Another leader may have what is missing here. A producer that is told of a gap begins anew, and sends again what that one has.
    private func proveLeadership(
        before reply: ProduceReply,
        _ producer: ProducerBatch,
        _ completion: @escaping (ProduceReply) -> Void
    ) {
        replica.readIndex { [weak self] result in
            guard let self else { return completion(.refused(.notLeaderOrFollower)) }
            switch result {
            case .success: completion(reply)
            case .failure(let error): self.refuse(producer, self.refusal(for: error), completion)
            }
        }
    }

    private func refuse(
        _ producer: ProducerBatch?,
        _ reply: ProduceReply,
        _ completion: (ProduceReply) -> Void
    ) {
        noteRefused(producer, reply)
        completion(reply)
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

    /// Retries whose originals are applied look again.
    func retryParked() {
        guard !intake.parkedRetries.isEmpty else { return }
        let due = intake.parkedRetries.filter { $0.index <= replica.appliedIndex }
        guard !due.isEmpty else { return }
        intake.parkedRetries.removeAll { $0.index <= replica.appliedIndex }
        for retry in due { append(retry.batch, retry.acks, retry.completion) }
    }

    // MARK: Changes of leadership

    /// Whether the replica leads and its term will begin any moment.
    var isAboutToServe: Bool {
        guard let holdEnd = intake.holdEnd, replica.isLeader, !replica.isServing else {
            return false
        }
        return shard.now < holdEnd
    }

    /// How long batches wait for a term to begin.
    ///
    /// Answers leave in order, so a client that waits gets nothing from the other
    /// partitions of this broker either.
    static let longestHold = Duration.seconds(1)

    /// Answers whatever waits here.
    func releaseWaiting(_ error: ErrorCode) {
        let retries = intake.parkedRetries
        intake.parkedRetries.removeAll()
        for _ in 0..<intake.admissions.count { refuseFirst(.refused(error, hint: hint)) }
        for retry in retries { retry.completion(.refused(error, hint: hint)) }
        wakeWatchers()
    }
}
