import Glibc

/// State behind a lock, and threads that wait for it to change.
///
/// `Mutex` cannot wait. This is the pair of a POSIX mutex and condition, with the clock that never jumps.
@safe
final class Monitor<State>: @unchecked Sendable {
    // Sendable because the state is touched only under the lock.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let condition: UnsafeMutablePointer<pthread_cond_t>
    private var state: State

    /// Guards `state`.
    init(_ state: sending State) {
        self.state = state
        unsafe mutex = .allocate(capacity: 1)
        unsafe condition = .allocate(capacity: 1)
        var attributes = pthread_condattr_t()
        unsafe pthread_condattr_init(&attributes)
        unsafe pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        let made = unsafe pthread_mutex_init(mutex, nil) == 0 && pthread_cond_init(condition, &attributes) == 0
        unsafe pthread_condattr_destroy(&attributes)
        precondition(made, "a mutex and a condition need only memory")
    }

    deinit {
        unsafe pthread_cond_destroy(condition)
        unsafe pthread_mutex_destroy(mutex)
        unsafe condition.deallocate()
        unsafe mutex.deallocate()
    }

    /// Runs `body` alone; wakes one waiting thread afterwards when `body` says so.
    func update<Result>(_ body: (inout State) -> (result: Result, wakes: Bool)) -> Result {
        unsafe pthread_mutex_lock(mutex)
        let (result, wakes) = body(&state)
        unsafe pthread_mutex_unlock(mutex)
        if wakes {
            unsafe pthread_cond_signal(condition)
        }
        return result
    }

    /// Runs `body` alone, again after each wake-up, until it has a result or `timeout` is over.
    ///
    /// - Returns: nil when the time was over first.
    func wait<Result>(timeout: Duration? = nil, until body: (inout State) -> Result?) -> Result? {
        var deadline = timespec()
        if let timeout {
            deadline = Self.deadline(after: timeout)
        }
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        while true {
            if let result = body(&state) {
                return result
            }
            if timeout == nil {
                unsafe pthread_cond_wait(condition, mutex)
            } else if unsafe pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT {
                return body(&state)
            }
        }
    }

    /// Wakes every waiting thread.
    func wakeAll() {
        unsafe pthread_cond_broadcast(condition)
    }

    private static func deadline(after timeout: Duration) -> timespec {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        let (seconds, attoseconds) = timeout.components
        time.tv_sec += Int(seconds)
        time.tv_nsec += Int(attoseconds / 1_000_000_000)
        if time.tv_nsec >= 1_000_000_000 {
            time.tv_sec += 1
            time.tv_nsec -= 1_000_000_000
        }
        return time
    }
}
