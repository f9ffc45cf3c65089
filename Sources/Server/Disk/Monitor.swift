import CFlotilla
import Glibc

/// State behind a lock, and threads that wait for it to change.
///
/// `Mutex` cannot wait. This is the pair of a POSIX mutex and condition, with the clock that never
/// jumps.
@safe
final class Monitor<State>: @unchecked Sendable {
    // Sendable because the state is touched only under the lock.
    private let handle: OpaquePointer
    private var state: State

    /// Guards `state`.
    init(_ state: sending State) {
        guard let handle = unsafe flotilla_monitor_make() else {
            preconditionFailure("a mutex and a condition need only memory")
        }
        // Safe: the monitor lives exactly as long as this object, and is only passed back to C.
        unsafe self.handle = unsafe handle
        self.state = state
    }

    deinit {
        unsafe flotilla_monitor_free(handle)
    }

    /// Runs `body` alone; wakes one waiting thread afterwards when `body` says so.
    func update<Result>(_ body: (inout State) -> (result: Result, wakes: Bool)) -> Result {
        unsafe flotilla_monitor_lock(handle)
        let (result, wakes) = body(&state)
        unsafe flotilla_monitor_unlock(handle)
        if wakes {
            unsafe flotilla_monitor_wake_one(handle)
        }
        return result
    }

    /// Runs `body` alone, again after each wake-up, until it has a result or `timeout` is over.
    ///
    /// - Returns: nil when the time was over first.
    func wait<Result>(timeout: Duration? = nil, until body: (inout State) -> Result?) -> Result? {
        var deadline: Int64 = -1
        if let timeout {
            let (seconds, attoseconds) = timeout.components
            deadline = flotilla_monitor_deadline(
                seconds * 1_000_000_000 + attoseconds / 1_000_000_000
            )
        }
        unsafe flotilla_monitor_lock(handle)
        defer { unsafe flotilla_monitor_unlock(handle) }
        while true {
            if let result = body(&state) {
                return result
            }
            if unsafe flotilla_monitor_wait(handle, deadline) == -ETIMEDOUT {
                return body(&state)
            }
        }
    }

    /// Wakes every waiting thread.
    func wakeAll() {
        unsafe flotilla_monitor_wake_all(handle)
    }
}
