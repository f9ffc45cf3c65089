import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

/// The start of the log moves: by age, by size, or because a client asks for it. It is always a committed entry.
extension Partition {
    /// Below this age the next look at retention comes soon.
    static let promptRetentionMillis: Int64 = 60_000

    /// Whether the topic's settings ask for less than a minute.
    var wantsPromptRetention: Bool {
        guard config.cleanupPolicy.contains(.delete) else { return false }
        return (config.retentionMillis ?? .max) < Self.promptRetentionMillis
            || config.segmentMillis < Self.promptRetentionMillis || config.retentionByteCount != nil
    }

    /// Rolls an idle segment that is due, moves the start where the settings say so, and removes what lies before it.
    func applyRetention() {
        removeSegments()
        guard replica.isServing else { return }
        if replica.log.shouldRoll(now: shard.wallTime) {
            replica.propose(Proposal(.roll, durability: .quorum) { _ in })
        }
        if coordinator != nil { return forgetOldStates() }
        guard config.cleanupPolicy.contains(.delete) else { return }
        guard
            let start = replica.log.retentionStart(
                policy: RetentionPolicy(config),
                now: shard.wallTime,
                notPast: lastStableOffset
            )
        else {
            return
        }
        moveStart(to: start) { _ in }
    }

    /// Moves the start behind segments of groups that a newer one's state makes superfluous.
    ///
    /// Each segment begins with the state of all groups, so the newest that is whole, and what follows it, are all that a start needs.
    private func forgetOldStates() {
        let policy = RetentionPolicy(byteCount: Int64(config.segmentByteCount))
        guard
            let start = replica.log.retentionStart(
                policy: policy,
                now: shard.wallTime,
                notPast: lastStableOffset
            )
        else { return }
        moveStart(to: start) { _ in }
    }

    /// Answers a client that wants records forgotten.
    ///
    /// - Source: SEMANTICS rule DR-1.
    func deleteRecords(
        before offset: Int64,
        then completion: @escaping (DeleteRecordsReply) -> Void
    ) {
        guard replica.isServing else {
            return completion(DeleteRecordsReply(error: .notLeaderOrFollower))
        }
        guard config.cleanupPolicy.contains(.delete) else {
            return completion(DeleteRecordsReply(error: .policyViolation))
        }
        let start = offset == -1 ? highWatermark : Offset(offset)
        guard start >= .zero, start <= highWatermark else {
            return completion(DeleteRecordsReply(error: .offsetOutOfRange))
        }
        guard start > logStartOffset else {
            return completion(
                DeleteRecordsReply(error: .noError, lowWatermark: logStartOffset.rawValue)
            )
        }
        moveStart(to: start) { [weak self] result in
            switch result {
            case .success:
                completion(
                    DeleteRecordsReply(
                        error: .noError,
                        lowWatermark: self?.logStartOffset.rawValue ?? start.rawValue
                    )
                )
                self?.makeRoom()
            case .failure(.rejected), .failure(.leadershipLost):
                completion(DeleteRecordsReply(error: .notLeaderOrFollower))
            case .failure:
                completion(DeleteRecordsReply(error: .kafkaStorageError))
            }
        }
    }

    private func moveStart(
        to offset: Offset,
        then completion: @escaping (Result<PlacedEntry, ReplicationError>) -> Void
    ) {
        replica.propose(Proposal(.startOffset(offset), durability: .quorum, completion: completion))
    }

    /// Has what lies before the start removed: at once where it is durable, else when it has become so.
    ///
    /// A segment goes only when it is durable: until then the journal may have to write it anew.
    private func makeRoom() {
        removeSegments()
        shard.requestSync(writer)
    }

    /// Removes whole segments below the start, on a worker; readers keep what they hold.
    func removeSegments() {
        replica.log.expireShipments(now: shard.now)
        guard let removal = replica.log.nextRemoval(keepingFrom: replica.appliedIndex) else {
            return
        }
        let group = replica.group
        let shard = shard
        let writer = writer
        // Until it has ended no files may take the log's place: they may bear the names of those that go.
        writer.tendingBegan()
        shard.workers.runInBackground({ removal.perform() }) { result in
            _ = writer.tendingEnded()
            guard case .failure(let error) = result else { return }
            shard.environment.log(
                .retrying(what: "retention of \(group)", description: error.description)
            )
        }
    }
}
