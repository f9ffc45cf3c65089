package import FlotillaEnvironment
package import FlotillaModel
import Glibc
import NIOCore

/// The machine's clocks. Its instants are those of the event loops' timers.
package struct SystemClock: Clock {
    /// The one there is.
    package init() {}

    package var now: Instant {
        Instant(nanoseconds: Int64(NIODeadline.now().uptimeNanoseconds))
    }

    package var wallTime: Timestamp {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }
}
