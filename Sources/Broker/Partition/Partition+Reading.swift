import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

/// What a read of a partition came to.
enum PartitionRead {
    /// The reply, and the records that go with it.
    case ready(FetchSlice?, FetchReply)
    /// Bytes have to come into memory first; then the same read again.
    case load(SegmentLoad, PartitionLog)
    /// The leader has nothing there, and has to make sure first that it still leads; then the same read again.
    case unproven
}

/// Reading: records, offsets by time, ends of epochs.
extension Partition {
    /// Reads whole batches from the offset on, up to the readable end.
    ///
    /// `budget`: what is left of the request's bytes.
    /// `isFirst`: whether nothing was read for the request yet: then the first batch is returned whatever its
    /// size, so that no consumer gets stuck (KIP-74).
    /// `isProven`: whether this replica has made sure, since it was asked, that it leads. A client that is told that there is
    /// nothing at an offset starts over, and a deposed leader lacks what the next one has acknowledged.
    /// - Source: SEMANTICS rules FETCH-2 to FETCH-16.
    func read(
        _ item: FetchCall.Item,
        _ call: FetchCall,
        budget: Int,
        isFirst: Bool,
        afterLoad: Bool,
        isProven: Bool
    ) -> PartitionRead {
        if let error = epochError(item.currentLeaderEpoch) {
            let isBehind = error == .fencedLeaderEpoch
            return .ready(nil, .refused(error, hint: isBehind ? hint : .unknown))
        }
        guard servesReads(hasRack: call.rack != nil) else {
            return .ready(nil, .refused(.notLeaderOrFollower, hint: hint))
        }
        if let error = rangeError(item.fetchOffset) {
            let isBeyond = error == .offsetOutOfRange && item.fetchOffset >= logStartOffset
            return isBeyond && !isProven ? .unproven : .ready(nil, .refused(error))
        }
        var reply = FetchReply(
            error: .noError,
            highWatermark: highWatermark,
            lastStableOffset: lastStableOffset,
            logStartOffset: logStartOffset
        )
        // Beyond what is known to be committed a log may yet be replaced; its epochs prove nothing about the client's.
        if item.lastFetchedEpoch >= 0, replica.isServing || item.fetchOffset <= highWatermark {
            switch divergence(of: item) {
            case .none: break
            case .diverging(let end):
                reply.divergingEpoch = end
                return .ready(nil, reply)
            case .unknownEpoch:
                return replica.isLeader && !isProven
                    ? .unproven : .ready(nil, .refused(.offsetOutOfRange))
            }
        }
        if item.mayBeSentOn, let rack = call.rack,
            let broker = preferredReplica(in: rack, from: item.fetchOffset)
        {
            reply.preferredReadReplica = broker.rawValue
            return .ready(nil, reply)
        }
        let end = readableEnd(call.isolation)
        let byteCount = min(item.maxByteCount, budget)
        guard item.fetchOffset < end, byteCount > 0 || isFirst else { return .ready(nil, reply) }
        do throws(StorageError) {
            switch try replica.log.read(
                from: item.fetchOffset,
                upTo: end,
                maxByteCount: max(0, byteCount),
                allowOversizedFirst: isFirst,
                afterLoad: afterLoad
            ) {
            case .ready(let slice):
                return .ready(slice, reply)
            case .load(let load):
                return .load(load, replica.log)
            }
        } catch {
            return .ready(nil, .refused(told(error)))
        }
    }

    /// The code for a read that failed; damage is told to the operator too.
    func told(_ error: StorageError) -> ErrorCode {
        if error.readErrorCode == .kafkaStorageError { shard.report(error, in: replica.group) }
        return error.readErrorCode
    }

    private enum Divergence {
        case none
        case diverging(EpochEnd)
        case unknownEpoch
    }

    /// Whether the client's last record is of an epoch that ended before the offset it asks for.
    private func divergence(of item: FetchCall.Item) -> Divergence {
        guard
            let (epoch, end) = replica.log.endOffset(
                ofEpoch: Term(UInt32(bitPattern: item.lastFetchedEpoch))
            )
        else {
            return .unknownEpoch
        }
        guard epoch.leaderEpoch < item.lastFetchedEpoch || end < item.fetchOffset else {
            return .none
        }
        return .diverging(EpochEnd(epoch: epoch.leaderEpoch, endOffset: end.rawValue))
    }

    // MARK: Epochs

    /// Where an epoch ends.
    ///
    /// - Source: SEMANTICS rules OFLE-1 to OFLE-3.
    func epochEnd(_ call: EpochEndCall) -> EpochEndReply {
        if let error = epochError(call.currentLeaderEpoch) { return EpochEndReply(error: error) }
        guard replica.isServing else { return EpochEndReply(error: .notLeaderOrFollower) }
        guard call.epoch >= 0, call.epoch <= replica.term.leaderEpoch,
            let (epoch, end) = replica.log.endOffset(ofEpoch: Term(UInt32(bitPattern: call.epoch)))
        else { return EpochEndReply(error: .noError) }
        return EpochEndReply(
            error: .noError,
            end: EpochEnd(epoch: epoch.leaderEpoch, endOffset: min(end, highWatermark).rawValue)
        )
    }

    // MARK: Offsets by time

    /// Finds an offset by time or by one of Kafka's special timestamps.
    ///
    /// "Latest" is exact: the leader makes sure that it still leads, or a deposed one would tell an end that acknowledged
    /// records have left behind. A leader that has not finished the log of those before it knows no end yet.
    ///
    /// - Source: SEMANTICS rules LO-1 to LO-8; KIP-207.
    func listOffsets(
        _ call: ListOffsetsCall,
        afterLoad: Bool = false,
        then completion: @escaping (ListOffsetsReply) -> Void
    ) {
        if let error = epochError(call.currentLeaderEpoch) {
            return completion(ListOffsetsReply(error: error))
        }
        guard replica.isServing || (replica.isLeader && replica.obstacle == nil) else {
            return completion(ListOffsetsReply(error: .notLeaderOrFollower))
        }
        switch SpecialTimestamp(rawValue: call.timestamp) {
        case .latest:
            confirmLeading { error in
                completion(
                    error.map { ListOffsetsReply(error: $0) }
                        ?? self.found(self.readableEnd(call.isolation))
                )
            }
        case .earliest, .earliestLocal: completion(found(logStartOffset))
        case .latestTiered, .earliestPendingUpload: completion(ListOffsetsReply(error: .noError))
        case .maximum:
            guard replica.isServing else {
                return completion(ListOffsetsReply(error: .offsetNotAvailable))
            }
            lookUp(call, afterLoad, then: completion)
        case nil:
            guard call.timestamp >= 0 else {
                return completion(ListOffsetsReply(error: .unsupportedVersion))
            }
            let isServing = replica.isServing
            lookUp(call, afterLoad) { reply in
                // What is not below the end known so far may be above it.
                let isOpen = !isServing && reply.error == .noError && reply.offset < 0
                completion(isOpen ? ListOffsetsReply(error: .offsetNotAvailable) : reply)
            }
        }
    }

    /// How long a leader tries to make sure that it leads before the client is told to ask again.
    private static let confirmationWait = Duration.seconds(1)

    /// Makes sure that this replica leads and knows all that was acknowledged before the call, by a round of heartbeats;
    /// alone it knows at once.
    func confirmLeading(then completion: @escaping (ErrorCode?) -> Void) {
        guard replica.isServing else { return completion(.offsetNotAvailable) }
        var isDone = false
        var timer: TimerQueue.ID?
        let finish = { [shard] (error: ErrorCode?) in
            guard !isDone else { return }
            isDone = true
            if let timer { shard.timers.cancel(timer) }
            completion(error)
        }
        replica.readIndex { [weak self] result in
            guard let self else { return finish(.notLeaderOrFollower) }
            switch result {
            case .success: finish(self.replica.isServing ? nil : .notLeaderOrFollower)
            case .failure:
                finish(self.replica.isLeader ? .offsetNotAvailable : .notLeaderOrFollower)
            }
        }
        guard !isDone else { return }
        timer = shard.schedule(after: Self.confirmationWait) { finish(.offsetNotAvailable) }
    }

    private func found(_ offset: Offset, timestamp: Timestamp = .none) -> ListOffsetsReply {
        let epoch =
            replica.log.termTable.rows.last { $0.firstOffset <= offset }?.term ?? replica.term
        return ListOffsetsReply(
            error: .noError,
            offset: offset.rawValue,
            timestamp: timestamp.rawValue,
            leaderEpoch: epoch.leaderEpoch
        )
    }

    private func lookUp(
        _ call: ListOffsetsCall,
        _ afterLoad: Bool,
        then completion: @escaping (ListOffsetsReply) -> Void
    ) {
        let log = replica.log
        let end = readableEnd(call.isolation)
        let isMaximum = call.timestamp == SpecialTimestamp.maximum.rawValue
        do throws(StorageError) {
            let read =
                isMaximum
                ? try log.maximumTimestampBatch(
                    from: logStartOffset,
                    upTo: end,
                    afterLoad: afterLoad
                )
                : try log.firstBatch(
                    atOrAfter: Timestamp(call.timestamp),
                    from: logStartOffset,
                    upTo: end,
                    afterLoad: afterLoad
                )
            switch read {
            case .ready(nil):
                completion(ListOffsetsReply(error: .noError))
            case .ready(let candidate?):
                completion(position(in: candidate, call, isMaximum: isMaximum))
            case .load(let load):
                shard.workers.run({ load.perform() }) { [weak self] loaded in
                    guard let self else {
                        return completion(ListOffsetsReply(error: .notLeaderOrFollower))
                    }
                    do throws(StorageError) {
                        try log.finish(loaded)
                        self.listOffsets(call, afterLoad: true, then: completion)
                    } catch {
                        completion(ListOffsetsReply(error: told(error)))
                    }
                }
            }
        } catch {
            completion(ListOffsetsReply(error: told(error)))
        }
    }

    private func position(in candidate: BatchCandidate, _ call: ListOffsetsCall, isMaximum: Bool)
        -> ListOffsetsReply
    {
        do throws(RecordsError) {
            let batch = try RecordBatch(parsing: candidate.bytes)
            let limit = BatchRules.defaultUnfoldedLimit
            let position =
                isMaximum
                ? try batch.positionOfMaxTimestamp(using: shard.decompressor, limit: limit)
                : try batch.firstPosition(
                    atOrAfter: Timestamp(call.timestamp),
                    from: logStartOffset,
                    using: shard.decompressor,
                    limit: limit
                )
            guard let position else { return ListOffsetsReply(error: .noError) }
            return found(position.offset, timestamp: position.timestamp)
        } catch {
            return ListOffsetsReply(error: .corruptMessage)
        }
    }

    // MARK: Producers

    /// The producers that wrote here lately.
    func describeProducers() -> ProducersReply {
        guard replica.isServing else { return ProducersReply(error: .notLeaderOrFollower) }
        return ProducersReply(error: .noError, producers: producers.state.descriptions)
    }
}

/// Kafka's numbers below zero that stand for places of a log.
///
/// - Source: SEMANTICS rules LO-1 to LO-4.
enum SpecialTimestamp: Int64 {
    case latest = -1
    case earliest = -2
    case maximum = -3
    case earliestLocal = -4
    case latestTiered = -5
    case earliestPendingUpload = -6

    /// The first version of ListOffsets that knows the number.
    var firstVersion: Int16 {
        switch self {
        case .latest, .earliest: 0
        case .maximum: 7
        case .earliestLocal: 8
        case .latestTiered: 9
        case .earliestPendingUpload: 11
        }
    }
}

extension StorageError {
    /// What a consumer is told about a read that failed.
    var readErrorCode: ErrorCode {
        switch self {
        case .offsetOutOfRange, .indexOutOfRange: .offsetOutOfRange
        default: .kafkaStorageError
        }
    }
}
