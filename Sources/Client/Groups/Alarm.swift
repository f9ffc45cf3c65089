import NIOCore
import Synchronization

/// Wakes one waiting task: when somebody rings, after a time, or when the task is cancelled.
///
/// A ring that comes while nobody waits is kept for the next wait; several are one. Who wakes looks for himself at why.
final class Alarm: Sendable {
    private struct State {
        var isRung = false
        var waiter: CheckedContinuation<Void, Never>?
    }

    private let loop: any EventLoop
    /// Guards who waits, and whether somebody rang before.
    private let state = Mutex(State())

    init(_ loop: any EventLoop) {
        self.loop = loop
    }

    /// Wakes who waits, or will.
    func ring() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let waiter = state.waiter else {
                state.isRung = true
                return nil
            }
            state.waiter = nil
            return waiter
        }
        waiter?.resume()
    }

    /// Waits for a ring, at most for a time.
    ///
    /// One task at a time.
    func wait(for limit: Duration? = nil) async {
        let timer = limit.map { limit in
            loop.scheduleTask(in: TimeAmount(limit)) { self.ring() }
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOver = state.withLock { state in
                    if state.isRung || Task.isCancelled {
                        state.isRung = false
                        return true
                    }
                    precondition(state.waiter == nil, "one task waits at a time")
                    state.waiter = continuation
                    return false
                }
                if isOver { continuation.resume() }
            }
        } onCancel: {
            ring()
        }
        timer?.cancel()
    }
}
