import FlotillaModel

/// What is known of one partition's records: what was sent, what was acknowledged, and what stands at which offset.
///
/// Whoever sees a record reports it, whether a producer's answer, a consumer or a replica. Two reports that contradict each other
/// break a promise.
final class ReferenceLog {
    /// A record that a producer sent.
    struct Sent {
        /// The producer, and its count of records to this partition.
        var producer: Int
        var number: Int
        /// Whether the producer is idempotent: its record stands once at most, and in order.
        var isIdempotent: Bool
    }

    /// Where a record stands.
    private var values: [Int64: String] = [:]
    private var offsets: [String: Int64] = [:]
    private var sent: [String: Sent] = [:]
    private(set) var acknowledged: [Int64: String] = [:]
    /// The highest start that a client was told or asked for: what lies below may be gone.
    private(set) var startOffset: Int64 = 0
    /// The highest start that anybody asked for: nothing from there on may be gone.
    private(set) var askedStart: Int64 = 0
    /// The highest high watermark of any replica: what lies below is committed, and nothing else may be shown or acknowledged.
    private(set) var visibleEnd: Int64 = 0
    /// The highest offset that anybody has seen, and one more.
    private(set) var endOffset: Int64 = 0

    /// A producer hands a record over.
    func note(sent value: String, _ record: Sent) {
        sent[value] = record
    }

    /// A record was seen at an offset.
    ///
    /// - Returns: the broken promise, if there is one.
    func note(_ value: String, at offset: Int64) -> String? {
        if let known = values[offset] {
            return known == value
                ? nil : "offset \(offset) held \(known) and now holds \(value)"
        }
        guard let record = sent[value] else {
            return "offset \(offset) holds \(value), which nobody sent"
        }
        if record.isIdempotent, let other = offsets[value] {
            return "\(value) of an idempotent producer stands at \(other) and at \(offset)"
        }
        values[offset] = value
        if offsets[value] == nil { offsets[value] = offset }
        endOffset = max(endOffset, offset + 1)
        return nil
    }

    /// A record was acknowledged as durable.
    func note(acknowledged value: String, at offset: Int64) -> String? {
        acknowledged[offset] = value
        return note(value, at: offset)
    }

    /// A client was told that the log begins at an offset.
    func note(start offset: Int64) {
        startOffset = max(startOffset, offset)
    }

    /// A client is about to ask that records below an offset be deleted.
    func note(askedStart offset: Int64) {
        askedStart = max(askedStart, offset)
        note(start: offset)
    }

    /// A replica has a high watermark.
    func note(visible end: Int64) {
        if end > visibleEnd { visibleEnd = end }
    }

    /// What is wrong with a log that begins at an offset.
    func startViolation(_ offset: Int64) -> String? {
        guard offset > askedStart else { return nil }
        return
            "it begins at \(offset), and nobody has asked to delete more than what is below \(askedStart)"
    }

    /// What is wrong with a client that knows the record at an offset.
    func visibilityViolation(_ offset: Int64) -> String? {
        guard offset >= visibleEnd else { return nil }
        return
            "a client knows of offset \(offset), and only what is below \(visibleEnd) is visible on any replica"
    }

    /// Whether the records of idempotent producers stand in the order in which they were sent.
    func orderViolation() -> String? {
        var last: [Int: (number: Int, offset: Int64)] = [:]
        for (offset, value) in values.sorted(by: { $0.key < $1.key }) {
            guard let record = sent[value], record.isIdempotent else { continue }
            if let before = last[record.producer], before.number >= record.number {
                return "\(value) at \(offset) stands behind a later record of its producer"
            }
            last[record.producer] = (record.number, offset)
        }
        return nil
    }

    /// What was acknowledged and is not among the records that were read from start to end.
    func lossViolation(read: [Int64: String], from start: Int64) -> String? {
        for (offset, value) in acknowledged.sorted(by: { $0.key < $1.key }) where offset >= start {
            guard let found = read[offset] else {
                return "\(value) was acknowledged at \(offset) and is lost"
            }
            if found != value {
                return "\(value) was acknowledged at \(offset), where \(found) stands"
            }
        }
        return nil
    }
}
