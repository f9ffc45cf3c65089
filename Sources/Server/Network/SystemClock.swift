import CFlotilla
package import FlotillaEnvironment
package import FlotillaModel
import NIOCore

/// The machine's clocks.
///
/// Its instants are those of the event loops' timers.
package struct SystemClock: Clock {
    /// The one there is.
    package init() {}

    package var now: Instant {
        Instant(nanoseconds: Int64(NIODeadline.now().uptimeNanoseconds))
    }

    package var wallTime: Timestamp {
        Timestamp(flotilla_wall_milliseconds())
    }
}
