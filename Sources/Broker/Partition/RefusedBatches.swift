import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// The batches of idempotent producers that a partition refused a short while ago, and might take now.
///
/// A client sends several batches before the first is answered. If the first is refused for a reason that passes, as while a
/// leader changes, and the reason has passed when the second arrives, that one is out of order through no fault of the client.
/// Told so, librdkafka takes another producer id and sends everything under it that is not acknowledged: also what an earlier
/// leader had appended before it went, and then it is in the log twice. So what follows a refused batch is refused as that one
/// was, until it comes again.
///
/// - Source: librdkafka, `rd_kafka_handle_idempotent_Produce_error`, "skipped sequence numbers".
struct RefusedBatches {
    /// For how long a refused batch is waited for; a client that has given it up is told the truth then.
    static let memory = Duration.seconds(10)
    /// How many producers' batches are remembered.
    static let limit = 1_024

    private struct Refusal {
        var epoch: Int16
        var baseSequence: Int32
        var error: ErrorCode
        var time: Instant
    }

    private var refusals: [ProducerID: Refusal] = [:]

    /// Notes that a batch was refused and may come again; of one producer the earliest counts.
    mutating func note(_ batch: ProducerBatch, _ error: ErrorCode, now: Instant) {
        if let known = refusals[batch.producer], isFresh(known, now) {
            let isCovered = isAhead(batch.baseSequence, of: known.baseSequence)
            if known.epoch > batch.epoch || (known.epoch == batch.epoch && isCovered) { return }
        } else if refusals.count >= Self.limit {
            refusals = refusals.filter { isFresh($0.value, now) }
            guard refusals.count < Self.limit else { return }
        }
        refusals[batch.producer] = Refusal(
            epoch: batch.epoch,
            baseSequence: batch.baseSequence,
            error: error,
            time: now
        )
    }

    /// What a batch is told that follows a refused one of its producer; nil when it follows none.
    func error(for batch: ProducerBatch, now: Instant) -> ErrorCode? {
        guard let known = refusals[batch.producer], isFresh(known, now),
            known.epoch == batch.epoch, isAhead(batch.baseSequence, of: known.baseSequence)
        else { return nil }
        return known.error
    }

    /// A batch was taken: what had been refused up to it was taken as well, or given up.
    mutating func taken(_ batch: ProducerBatch) {
        guard !refusals.isEmpty, let known = refusals[batch.producer] else { return }
        if known.epoch == batch.epoch, isAhead(known.baseSequence, of: batch.baseSequence) {
            return
        }
        refusals[batch.producer] = nil
    }

    private func isFresh(_ refusal: Refusal, _ now: Instant) -> Bool {
        now - refusal.time < Self.memory
    }

    private func isAhead(_ sequence: Int32, of other: Int32) -> Bool {
        ProducerSequence.isAhead(sequence, of: other)
    }
}
