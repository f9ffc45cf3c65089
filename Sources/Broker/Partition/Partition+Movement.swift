import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

/// How far a leader is with its partition's movement; it remembers nothing that a new leader would need.
struct MovementState {
    /// Whether there may be a next step.
    var isDue = true
    /// Nothing is tried before, since what was tried last was refused.
    var pauseEnd = Instant.start
    /// Whether an answer is awaited: of the group to a change, or of the controller.
    var isWaiting = false
    /// The metadata's index that was committed after this leader's election, and the term of that election.
    var electionIndex: (term: Term, index: LogIndex)?
}

/// The leader's part when a partition moves: learners come, voters change, and the controller hears of the end.
extension Partition {
    /// How long after a refusal the next attempt waits.
    private static let movementPause = Duration.milliseconds(500)

    /// Takes the next step, if it is time for one; called at every tick while `movement.isDue`.
    func move() {
        guard replica.isServing, let place = shard.image.place(of: id) else {
            movement.isDue = false
            return
        }
        let step = PartitionGuide.step(of: place, from: replica.groupFact) {
            replica.isCaughtUp($0, now: shard.now)
        }
        guard step != .nothing else {
            movement.isDue = false
            return
        }
        guard !movement.isWaiting, movement.pauseEnd <= shard.now, knowsMetadataOfElection()
        else { return }
        perform(step)
    }

    private func perform(_ step: PartitionStep) {
        switch step {
        case .group(.change(let voters, let learners)):
            movement.isWaiting = true
            replica.changeMembership(voters: voters, learners: learners) { [weak self] result in
                var isDone = false
                if case .success = result { isDone = true }
                self?.movementAnswered(isDone: isDone)
            }
        case .reportFinished(let revision):
            movement.isWaiting = true
            shard.ask(0, .metadata(.finishMovement(id, revision: revision))) { [weak self] reply in
                var isDone = false
                if case .metadata(.done) = reply { isDone = true }
                self?.movementAnswered(isDone: isDone)
            }
        case .group(.nothing), .group(.awaitChange), .group(.awaitLearners), .nothing:
            break
        }
    }

    private func movementAnswered(isDone: Bool) {
        movement.isWaiting = false
        movement.isDue = true
        shard.wake(self)
        if !isDone { movement.pauseEnd = shard.now + Self.movementPause }
    }

    /// Whether the image is as new as any that an earlier leader of this group went by.
    ///
    /// By an older one this leader could give a vote back to a member that is being deleted.
    private func knowsMetadataOfElection() -> Bool {
        if let known = movement.electionIndex, known.term == replica.term {
            return shard.image.appliedIndex >= known.index
        }
        let term = replica.term
        movement.isWaiting = true
        shard.ask(0, .metadata(.readIndex)) { [weak self] reply in
            var isDone = false
            if case .metadata(.index(let index)) = reply {
                self?.movement.electionIndex = (term, index)
                isDone = true
            }
            self?.movementAnswered(isDone: isDone)
        }
        return false
    }
}

extension Replica {
    /// A member that had everything within this time is caught up, though it lacks what came since.
    private static let caughtUpAge = Duration.seconds(1)

    /// Who belongs to the group, for those who guide it.
    var groupFact: GroupFact {
        GroupFact(
            voters: membership.voters,
            outgoingVoters: membership.outgoingVoters,
            learners: membership.learners,
            isCommitted: isServing && isMembershipCommitted
        )
    }

    /// Whether a member of the group that this replica leads holds nearly everything.
    func isCaughtUp(_ member: GroupMember, now: Instant) -> Bool {
        guard let known = progress.first(where: { $0.member == member }), known.isReachable else {
            return false
        }
        return known.matchIndex >= log.lastIndex
            || known.lastCaughtUp.map { now - $0 <= Self.caughtUpAge } ?? false
    }
}
