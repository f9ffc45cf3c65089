/// Pauses that grow: each twice the one before, up to a bound, minus a random fifth so that clients spread.
struct Backoff: Sendable {
    let initial: Duration
    let maximum: Duration
    private(set) var attempts = 0

    init(initial: Duration, maximum: Duration) {
        self.initial = initial
        self.maximum = maximum
    }

    init(_ configuration: ClientConfiguration) {
        self.init(initial: configuration.initialBackoff, maximum: configuration.maximumBackoff)
    }

    /// The next pause.
    mutating func next() -> Duration {
        let doublings = min(attempts, 16)
        attempts += 1
        let pause = min(initial * (1 << doublings), maximum)
        return pause * Double.random(in: 0.8...1)
    }

    /// Starts over, after a success.
    mutating func reset() {
        attempts = 0
    }
}
