import FlotillaModel
package import struct NIOCore.ByteBuffer

/// The committed part as bytes: replicas that applied the same log write the same bytes. The frame is `SnapshotEnvelope`'s with the
/// magic `FLPS`; the body:
///
/// | field | form |
/// |---|---|
/// | applied index, append time | u64, i64 |
/// | producers, by id | list of the following |
/// | id, epoch | i64, i16 |
/// | last entry, its append time | u64, i64 |
/// | coordinator epoch, first offset of the open transaction | i32, i64; -1 without; reserved for transactions |
/// | window | u8 count, at most 5, of (base sequence i32, last sequence i32, base offset i64, timestamp i64) |
extension ProducerState {
    private static let envelope = SnapshotEnvelope(
        magic: "FLPS",
        version: 1,
        name: "producer state"
    )

    /// The committed part; the leader's overlay is not in it.
    package func snapshot() -> ByteBuffer {
        var body = ByteWriter()
        body.integer(appliedIndex.rawValue)
        body.integer(appendTime.rawValue)
        let entries = entries
        body.count(entries.count)
        for (producer, entry) in entries {
            body.integer(producer.rawValue)
            body.integer(entry.epoch)
            body.integer(entry.lastIndex.rawValue)
            body.integer(entry.lastAppendTime.rawValue)
            body.integer(entry.coordinatorEpoch)
            body.integer(entry.transactionStart?.rawValue ?? -1)
            body.integer(UInt8(entry.batches.count))
            for batch in entry.batches {
                body.integer(batch.baseSequence)
                body.integer(batch.lastSequence)
                body.integer(batch.baseOffset.rawValue)
                body.integer(batch.timestamp.rawValue)
            }
        }
        return Self.envelope.seal(body)
    }

    /// The state that `snapshot()` wrote.
    ///
    /// - Throws: for bytes that are damaged, of another format or of a newer version; it never traps.
    package init(snapshot: ByteBuffer, limits: ProducerLimits = .standard) throws(CoordinationError)
    {
        var (_, body) = try Self.envelope.open(snapshot)
        let appliedIndex = LogIndex(try body.integer("applied index"))
        let appendTime = Timestamp(try body.integer("append time"))
        var entries: [(ProducerID, ProducerEntry)] = []
        for _ in 0..<(try body.count("producers", elementByteCount: 39)) {
            let producer = ProducerID(try body.integer("producer id"))
            guard producer.rawValue >= 0, producer > entries.last?.0 ?? .none else {
                throw .valueOutOfBounds(field: "producer id", value: producer.rawValue)
            }
            let entry = try Self.entry(&body)
            guard entry.lastIndex <= appliedIndex else {
                throw .valueOutOfBounds(
                    field: "last entry",
                    value: Int64(clamping: entry.lastIndex.rawValue)
                )
            }
            entries.append((producer, entry))
        }
        try body.finish("producer state")
        guard entries.count <= limits.maximumProducerCount else {
            throw .lengthOutOfBounds(field: "producers", length: entries.count)
        }
        self.init(
            limits: limits,
            appliedIndex: appliedIndex,
            appendTime: appendTime,
            entries: entries
        )
    }

    private static func entry(_ body: inout ByteReader) throws(CoordinationError) -> ProducerEntry {
        var entry = ProducerEntry(
            epoch: try body.integer("producer epoch"),
            batches: [],
            lastIndex: LogIndex(try body.integer("last entry")),
            lastAppendTime: Timestamp(try body.integer("append time")),
            coordinatorEpoch: try body.integer("coordinator epoch")
        )
        let start = try body.integer("transaction's first offset", as: Int64.self)
        guard start >= -1 else {
            throw .valueOutOfBounds(field: "transaction's first offset", value: start)
        }
        entry.transactionStart = start == -1 ? nil : Offset(start)
        let count = Int(try body.integer("window", as: UInt8.self))
        guard count <= windowCount else { throw .lengthOutOfBounds(field: "window", length: count) }
        for _ in 0..<count {
            let batch = RetainedBatch(
                baseSequence: try body.integer("base sequence"),
                lastSequence: try body.integer("last sequence"),
                baseOffset: Offset(try body.integer("base offset")),
                timestamp: Timestamp(try body.integer("timestamp"))
            )
            guard batch.baseSequence >= 0, batch.lastSequence >= 0, batch.baseOffset.rawValue >= 0
            else {
                throw .valueOutOfBounds(
                    field: "window",
                    value: Int64(min(batch.baseSequence, batch.lastSequence))
                )
            }
            entry.batches.append(batch)
        }
        return entry
    }
}
