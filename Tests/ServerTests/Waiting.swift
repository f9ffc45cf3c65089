import Glibc
import Synchronization
import Testing

/// Lets another thread work for about a millisecond.
func pauseBriefly() {
    usleep(1000)
}

/// A count that several threads raise.
final class Counter: Sendable {
    private let count = Atomic(0)

    func increment() {
        count.add(1, ordering: .relaxed)
    }

    var value: Int {
        count.load(ordering: .relaxed)
    }
}

/// The condition did not come true in time.
struct TimedOut: Error {}

/// Waits for something that another thread brings about, for at most ten seconds.
func waitUntil(_ condition: () -> Bool) throws {
    for _ in 0..<10_000 {
        if condition() {
            return
        }
        pauseBriefly()
    }
    throw TimedOut()
}

/// A variable of this process's environment.
func environmentVariable(_ name: String) -> String? {
    // Safe: the text is copied at once, and no test changes the environment.
    unsafe getenv(name).map { unsafe String(cString: $0) }
}
