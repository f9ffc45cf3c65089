import FlotillaModel

extension Raft {
    /// Stops the process if this member is in a state that no sequence of inputs may bring about.
    ///
    /// Tests and the simulator call it after every step.
    package func checkInvariants() {
        precondition(hardState == writtenHardState, "every term and vote is written down")
        precondition(
            log.isConsistent,
            "term runs and memberships are sorted and lie within the log"
        )
        precondition(log.base.index <= commitIndex, "only committed entries leave the log")
        precondition(commitIndex <= lastIndex, "only entries in the log are committed")
        precondition(flushedIndex <= lastIndex, "only entries in the log are durable")
        precondition(
            flushedIndex == lastIndex || writes.ticket(covering: lastIndex) != nil,
            "an entry that is not durable has a write on its way"
        )
        precondition(
            writes.firstPendingIndex.map { flushedIndex < $0 } ?? true,
            "an entry whose write is on its way is not durable"
        )
        precondition(lastPosition.term <= term, "no entry is newer than the term")
        precondition(
            log.memberships.dropFirst().allSatisfy { $0.index > commitIndex },
            "of the committed memberships only the newest is kept"
        )
        if let lost = lostLeader {
            precondition(
                role == .follower || role == .preCandidate,
                "who lost a leader looks for one"
            )
            precondition(
                lost.member != member && lost.ticks > 0,
                "another member was lost, for a limited time"
            )
        }
        switch state {
        case .follower(let follower):
            precondition(follower.verifiedIndex >= commitIndex, "committed entries are verified")
            precondition(
                follower.verifiedIndex <= lastIndex,
                "only entries in the log are verified"
            )
            precondition(follower.leader != member, "nobody follows itself")
            precondition(
                !follower.isQuiet || (commitIndex == lastIndex && writes.isEmpty),
                "a follower rests when all it has is durable and committed"
            )
        case .preCandidate:
            precondition(mayCampaign, "only a voter asks for votes")
        case .candidate:
            precondition(hardState.votedFor == member, "a candidate votes for itself")
        case .leader(let leader):
            check(leader)
        }
    }

    private func check(_ leader: LeaderState) {
        precondition(hardState.votedFor == member, "a leader has voted for itself")
        precondition(lastPosition.term == term, "a leader's last entry is of its term")
        precondition(
            leader.progress.map(\.member) == membership.allMembers.filter { $0 != member },
            "a leader knows the progress of every other member"
        )
        precondition(leader.isReady == (commitIndex >= leader.termStartIndex), "ready is committed")
        precondition(leader.acknowledgedIndex <= commitIndex, "acknowledged is committed")
        precondition(
            log.memberships.dropFirst().count { $0.index > leader.termStartIndex } <= 1,
            "a leader changes the membership when its last change is committed"
        )
        precondition(
            leader.recent.endIndex == lastIndex.next,
            "the newest descriptors reach the log's end"
        )
        precondition(leader.reads.isEmpty || leader.readRoundInFlight != nil, "a read has a round")
        precondition(
            !leader.isQuiet || (commitIndex == lastIndex && flushedIndex == lastIndex),
            "a leader rests when all it has is durable and committed"
        )
        for progress in leader.progress {
            precondition(
                !leader.isQuiet || !progress.isReachable
                    || (progress.match == lastIndex && progress.commitIndex == lastIndex),
                "a leader rests when all whom it reaches have everything"
            )
            precondition(progress.match <= lastIndex, "a follower matches no further than the log")
            precondition(progress.match < progress.next, "what matches is not sent again")
            precondition(
                progress.next <= lastIndex.next,
                "the next entry is in the log or follows it"
            )
            precondition(
                progress.window.byteCount <= settings.windowByteLimit || progress.window.count == 1,
                "a window is kept, but for a single larger entry"
            )
            precondition(
                progress.window.isEmpty || progress.state == .replicate,
                "only a replicated follower has requests on their way"
            )
        }
    }
}
