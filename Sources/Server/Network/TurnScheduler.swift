package import FlotillaEnvironment
package import NIOCore

/// Runs a closure once at the end of the event loop's turn, however often it was asked for.
///
/// What many requests of one turn share is done there once: one proposal per partition, one
/// hand-over to the journal, one write per connection. Used on its loop only.
package final class TurnScheduler {
    private let eventLoop: any EventLoop
    private let body: () -> Void
    private var isScheduled = false

    /// Prepares `body` for `eventLoop`.
    package init(eventLoop: any EventLoop, _ body: @escaping () -> Void) {
        self.eventLoop = eventLoop
        self.body = body
    }

    /// Sees to it that the closure runs after what the loop is doing now; what it marks dirty runs
    /// in the next turn.
    package func markDirty() {
        eventLoop.preconditionInEventLoop()
        guard !isScheduled else {
            return
        }
        isScheduled = true
        eventLoop.assumeIsolated().execute {
            self.isScheduled = false
            self.body()
        }
    }
}

/// One timer of a shard, set to the earliest thing that is due; used on its loop only.
package final class ShardTimer {
    private let eventLoop: any EventLoop
    private let body: () -> Void
    private var armed: (at: Instant, task: Scheduled<Void>)?

    /// Prepares `body` for `eventLoop`.
    package init(eventLoop: any EventLoop, _ body: @escaping () -> Void) {
        self.eventLoop = eventLoop
        self.body = body
    }

    /// Runs the closure at `instant`, and not at another that was asked for before; nil disarms.
    package func arm(at instant: Instant?) {
        eventLoop.preconditionInEventLoop()
        guard armed?.at != instant else {
            return
        }
        armed?.task.cancel()
        armed = nil
        guard let instant else {
            return
        }
        let deadline = NIODeadline.uptimeNanoseconds(UInt64(max(instant.nanoseconds, 0)))
        let task = eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.armed = nil
            self.body()
        }
        armed = (instant, task)
    }
}
