import FlotillaEnvironment
import FlotillaModel

/// Which partitions a consumer was told to read from a follower, and when.
///
/// Told so, a consumer stays away from the leader for minutes. One that comes back sooner found something wrong there: the
/// replica cannot be reached from where it stands, lags, or cannot read its disk. Sent on once more it would go to and fro
/// for ever, so the leader serves it for a while. What comes at once was asked before the consumer knew: kafka-python has
/// the next fetch on its way before it reads the answer to the last.
///
/// - Source: KIP-392 leaves this to the leader's view of the replica, which does not see the consumer's side.
struct ReadRedirects {
    /// For how long a consumer that asks again may not have seen that it was sent on.
    static let grace = Duration.seconds(1)
    /// After what time a consumer that came back, and was served by the leader, is sent on once more.
    static let patience = Duration.seconds(60)
    /// The most partitions that are remembered; for others the consumer is not sent on.
    static let limit = 10_000

    /// When the consumer was sent on, the first time in the last minute.
    private var times: [TopicPartition: Instant] = [:]
    /// When those that are over were last forgotten.
    private var lastCleared = Instant.start

    /// Whether the consumer may be sent on for a partition.
    func allows(_ partition: TopicPartition, now: Instant) -> Bool {
        guard let time = times[partition] else { return times.count < Self.limit }
        let age = now - time
        return age < Self.grace || age >= Self.patience
    }

    /// The consumer was sent on.
    mutating func note(_ partition: TopicPartition, now: Instant) {
        if let time = times[partition], now - time < Self.patience { return }
        if times.count >= Self.limit, now - lastCleared >= Self.grace {
            lastCleared = now
            times = times.filter { now - $0.value < Self.patience }
        }
        // One fetch may be sent on for more partitions than there was room for when it was read.
        guard times.count < Self.limit || times[partition] != nil else { return }
        times[partition] = now
    }
}
