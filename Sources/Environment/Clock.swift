package import FlotillaModel

/// A point on the monotonic clock, in nanoseconds since some start that never changes while a broker runs.
///
/// Timers and timeouts use it; the wall clock is for timestamps that people and records carry.
@frozen
package struct Instant: Hashable, Comparable, Sendable {
    /// Nanoseconds since the clock's start.
    package var nanoseconds: Int64

    /// Wraps a reading of the monotonic clock.
    @inlinable
    package init(nanoseconds: Int64) {
        self.nanoseconds = nanoseconds
    }

    /// The clock's start.
    package static let start = Instant(nanoseconds: 0)

    /// Earlier comes first.
    @inlinable
    package static func < (left: Instant, right: Instant) -> Bool {
        left.nanoseconds < right.nanoseconds
    }

    /// The instant this long after `instant`.
    @inlinable
    package static func + (instant: Instant, delay: Duration) -> Instant {
        Instant(nanoseconds: instant.nanoseconds + delay.wholeNanoseconds)
    }

    /// The time from `start` to `end`.
    @inlinable
    package static func - (end: Instant, start: Instant) -> Duration {
        .nanoseconds(end.nanoseconds - start.nanoseconds)
    }
}

extension Duration {
    /// The duration in nanoseconds; 292 years fit.
    @inlinable
    package var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }

    /// The duration in milliseconds, rounded down.
    @inlinable
    package var wholeMilliseconds: Int64 {
        wholeNanoseconds / 1_000_000
    }
}

/// Tells the time: a monotonic clock for timers, a wall clock for timestamps.
package protocol Clock: Sendable {
    /// The monotonic clock; it never goes back.
    var now: Instant { get }

    /// The wall clock in milliseconds; it can jump both ways.
    var wallTime: Timestamp { get }
}
