import DequeModule
import Synchronization

/// Values from the loop for one waiting task.
final class Inbox<Value: Sendable>: Sendable {
    private struct State {
        var values: Deque<Value> = []
        var waiter: CheckedContinuation<Value?, Never>?
    }

    private let state = Mutex(State())

    /// Adds a value, and wakes who waits.
    func put(_ value: Value) {
        let waiter = state.withLock { state -> CheckedContinuation<Value?, Never>? in
            guard let waiter = state.waiter else {
                state.values.append(value)
                return nil
            }
            state.waiter = nil
            return waiter
        }
        waiter?.resume(returning: value)
    }

    /// Waits for a value; nil when the task is cancelled.
    ///
    /// One task at a time.
    func next() async -> Value? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let now = state.withLock { state -> Value?? in
                    if let value = state.values.popFirst() { return .some(value) }
                    if Task.isCancelled { return .some(nil) }
                    precondition(state.waiter == nil, "one task waits at a time")
                    state.waiter = continuation
                    return nil
                }
                if let now { continuation.resume(returning: now) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                defer { state.waiter = nil }
                return state.waiter
            }
            waiter?.resume(returning: nil)
        }
    }
}
