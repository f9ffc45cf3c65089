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

/// One timer of a shard, for the earliest thing that is due; used on its loop only.
///
/// What is due moves on with almost every turn, as each heartbeat puts the next one off. The timer is not moved with it: it
/// fires at the time that was asked for first, and its owner, who finds nothing due, asks for the next.
package final class ShardTimer {
    private let eventLoop: any EventLoop
    private let body: () -> Void
    private var armed: (at: Instant, task: Scheduled<Void>)?

    /// Prepares `body` for `eventLoop`.
    package init(eventLoop: any EventLoop, _ body: @escaping () -> Void) {
        self.eventLoop = eventLoop
        self.body = body
    }

    /// Runs the closure at `instant`, or before, where an earlier time was asked for since it last ran.
    package func arm(at instant: Instant) {
        eventLoop.preconditionInEventLoop()
        if let armed {
            guard instant < armed.at else { return }
            armed.task.cancel()
        }
        let deadline = NIODeadline.uptimeNanoseconds(UInt64(max(instant.nanoseconds, 0)))
        let task = eventLoop.assumeIsolated().scheduleTask(deadline: deadline) {
            self.armed = nil
            self.body()
        }
        armed = (instant, task)
    }
}
