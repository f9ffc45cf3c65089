import FlotillaEnvironment
import FlotillaModel

/// A broker's clocks: a monotonic one that runs a little fast or slow, and a wall clock that can jump.
final class SimulatedClock: Clock, @unchecked Sendable {
    // Sendable because a simulation lives on one thread.
    private unowned let world: World
    /// How much faster than the world's time the clock runs.
    private let partsPerMillion: Int64
    private let offset: Int64
    /// What was added to the wall clock by jumps, in milliseconds.
    var jump: Int64 = 0

    /// What the wall clock shows at the beginning.
    private static let startOfTime: Int64 = 1_700_000_000_000

    init(_ world: World, partsPerMillion: Int64, offset: Duration) {
        self.world = world
        self.partsPerMillion = partsPerMillion
        self.offset = offset.wholeNanoseconds
    }

    var now: Instant { reading(at: world.now) }

    var wallTime: Timestamp {
        Timestamp(Self.startOfTime + now.nanoseconds / 1_000_000 + jump)
    }

    private func reading(at time: Instant) -> Instant {
        let nanoseconds = time.nanoseconds
        return Instant(
            nanoseconds: nanoseconds + nanoseconds / 1_000_000 * partsPerMillion + offset
        )
    }

    /// When the world's time has come for a reading of this clock; never before.
    func worldTime(of reading: Instant) -> Instant {
        let elapsed = max(0, reading.nanoseconds - offset)
        var time = Instant(
            nanoseconds: elapsed / (1_000_000 + partsPerMillion) * 1_000_000
        )
        // The division lost less than this.
        while self.reading(at: time) < reading {
            let missing = reading.nanoseconds - self.reading(at: time).nanoseconds
            time = Instant(nanoseconds: time.nanoseconds + max(missing * 999 / 1_000, 1))
        }
        return time
    }
}
