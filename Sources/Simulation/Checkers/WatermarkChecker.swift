import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// While a replica is open, what is visible and deleted of it only grows.
struct WatermarkChecker {
    private unowned let world: World

    /// What a replica had at the last look.
    struct Marks {
        var highWatermark: Offset
        var logStart: Offset

        init(_ replica: Replica) {
            highWatermark = replica.highWatermark
            logStart = replica.log.logStartOffset
        }
    }

    init(world: World) {
        self.world = world
    }

    /// Compares a replica with what it was.
    func look(at replica: Replica, before: Marks) -> Marks {
        let now = Marks(replica)
        expect(before.highWatermark, now.highWatermark, "high watermark", replica)
        expect(before.logStart, now.logStart, "log start", replica)
        return now
    }

    private func expect(_ before: Offset, _ now: Offset, _ what: String, _ replica: Replica) {
        guard now < before else { return }
        world.violate(
            "the \(what) of \(replica.group.partition) on \(replica.member) went back from \(before) to \(now)"
        )
    }
}
