import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// Keeps elections and commits among the events, for the transcript of a broken promise.
final class Milestones {
    private unowned let world: World
    private var marks: [ReplicaPlace: Mark] = [:]

    private struct Mark: Equatable {
        var role: Role
        var term: Term
        var commitIndex: LogIndex
    }

    init(world: World) {
        self.world = world
    }

    /// Looks at a replica that a step may have changed.
    func look(at replica: Replica) {
        let place = ReplicaPlace(replica)
        let now = Mark(
            role: replica.raft.role,
            term: replica.raft.term,
            commitIndex: replica.raft.commitIndex
        )
        let before = marks.updateValue(now, forKey: place)
        guard before != now else { return }
        if before?.role != now.role || before?.term != now.term {
            world.keep(.role(now.role, now.term, place))
        }
        if before?.commitIndex != now.commitIndex { world.keep(.commit(now.commitIndex, place)) }
    }
}
