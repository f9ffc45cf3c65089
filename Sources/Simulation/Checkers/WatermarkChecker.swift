import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// In one life of a process what is committed, visible and deleted of a replica only grows, and in a term its leader's as well.
final class WatermarkChecker {
    private unowned let world: World
    private var marks: [ReplicaPlace: Marks] = [:]

    private struct Marks {
        /// The object in memory: a replica that is opened again begins anew.
        var replica: ObjectIdentifier
        var life: Int
        var highWatermark: Offset
        var logStart: Offset
    }

    init(world: World) {
        self.world = world
    }

    /// Looks at a replica now and then.
    func look(at replica: Replica, life: Int) {
        guard !replica.hasFailed, !replica.isInstalling else { return }
        let now = Marks(
            replica: ObjectIdentifier(replica),
            life: life,
            highWatermark: replica.highWatermark,
            logStart: replica.log.logStartOffset
        )
        let place = ReplicaPlace(replica)
        if let before = marks.updateValue(now, forKey: place), before.life == life,
            before.replica == now.replica
        {
            expect(before.highWatermark, now.highWatermark, "high watermark", replica)
            expect(before.logStart, now.logStart, "log start", replica)
        }
    }

    private func expect(_ before: Offset, _ now: Offset, _ what: String, _ replica: Replica) {
        guard now < before else { return }
        world.violate(
            "the \(what) of \(replica.group.partition) on \(replica.member) went back from \(before) to \(now)"
        )
    }
}
