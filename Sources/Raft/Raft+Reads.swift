import FlotillaModel

// Linearizable reads without a log entry (§6.4).

extension Raft {
    /// Finds an index at which a read sees everything that was acknowledged before it was asked
    /// for.
    ///
    /// The commit index of a leader whose term start is committed is such an index, if the member
    /// still leads: a round of heartbeats that began after the question proves it. No clock is
    /// trusted. Reads that come while a round is out share the next one.
    mutating func readIndex(_ requestID: UInt64, into effects: inout [Effect]) {
        guard case .leader(let leader) = state else {
            effects.append(.readFailed(requestID: requestID, .notLeader(self.leader)))
            return
        }
        guard leader.isReady else {
            effects.append(.readFailed(requestID: requestID, .notReady))
            return
        }
        guard leader.reads.count < settings.pendingReadLimit else {
            effects.append(.readFailed(requestID: requestID, .overloaded))
            return
        }
        if membership.isOnlyVoter(member) {
            effects.append(.readReady(requestID: requestID, commitIndex))
            return
        }
        wake(into: &effects)
        let read = LeaderState.PendingRead(
            requestID: requestID,
            index: commitIndex,
            round: leading.round + 1
        )
        leading.reads.append(read)
        if leading.readRoundInFlight == nil {
            sendHeartbeats(into: &effects)
        }
    }

    /// Releases the reads whose round a quorum has answered, and starts a round for the others.
    mutating func confirmReads(into effects: inout [Effect]) {
        guard let round = leading.readRoundInFlight else {
            return
        }
        let isConfirmed = membership.hasQuorum { voter in
            voter == member || (progress(of: voter)?.answeredRound ?? 0) >= round
        }
        guard isConfirmed else {
            return
        }
        let confirmed = leading.reads.prefix { $0.round <= round }
        for read in confirmed {
            effects.append(.readReady(requestID: read.requestID, read.index))
        }
        leading.reads.removeFirst(confirmed.count)
        leading.readRoundInFlight = nil
        if !leading.reads.isEmpty {
            sendHeartbeats(into: &effects)
        }
    }
}
