import FlotillaCoordination
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// Facts about groups on their way into the log.
extension GroupCoordinator {
    /// Whether something about a group is on its way into the log.
    func isWriting(_ name: String) -> Bool { writeCounts[name] != nil }

    func writeEnded(_ name: String) {
        guard let count = writeCounts[name] else { return }
        writeCounts[name] = count > 1 ? count - 1 : nil
        forgetIfIdle(name)
        forgetConsumersIfIdle(name)
    }

    /// Appends facts about a group, and goes on when they are committed and applied; not at all if this broker coordinates no more by then.
    func write(
        _ facts: [GroupRecord],
        of name: String,
        tooLong: ErrorCode,
        then completion: @escaping (ErrorCode?) -> Void
    ) {
        let reign = reign
        if let refusal = shard.writeRefusal(of: replica) { return completion(refusal) }
        do throws(GroupBatch.Fault) {
            let batch = try GroupBatch.batch(
                of: facts,
                at: shard.wallTime,
                byteLimit: Self.batchByteLimit
            )
            writeCounts[name, default: 0] += 1
            replica.propose(
                Proposal(.batch(batch), durability: .quorum) { [weak self] result in
                    guard let self, self.reign == reign else { return }
                    switch result {
                    case .success: completion(nil)
                    case .failure(let error): completion(Self.errorCode(for: error))
                    }
                    self.writeEnded(name)
                }
            )
        } catch {
            completion(tooLong)
        }
    }

    /// - Source: SEMANTICS section 5.2.
    static func errorCode(for error: ReplicationError) -> ErrorCode {
        switch error {
        case .rejected(.overloaded), .tooFewReplicas: .coordinatorNotAvailable
        case .rejected(.notReady): .coordinatorLoadInProgress
        case .rejected, .leadershipLost, .storage, .unusableEntry: .notCoordinator
        }
    }
}
