package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// What a topic demands of a batch that a producer sends, and what it does to it before the log
/// gets it.
///
/// Plain batches are walked record by record. Compressed ones are judged by header and CRC, and
/// opened only where the topic must look inside: it is compacted (keys), or it stores another
/// codec.
///
/// - Source: `kafka/SEMANTICS.md`, PROD-5 to PROD-11.
package struct BatchRules: Hashable, Sendable {
    /// The largest batch, as sent and as stored (`max.message.bytes`).
    package var maximumByteCount = 1_048_588
    /// The largest batch that a segment takes (`segment.bytes`).
    package var segmentByteCount = 128 << 20
    /// The most bytes that a batch may unfold to.
    package var unfoldedLimit = Self.defaultUnfoldedLimit
    /// Whether every record needs a key (`cleanup.policy` contains `compact`).
    package var requiresKeys = false
    /// Whether the broker gives records their time (`message.timestamp.type`).
    package var usesLogAppendTime = false
    /// How far a timestamp may lie behind the clock, in milliseconds
    /// (`message.timestamp.before.max.ms`).
    package var timestampBeforeMax = Int64.max
    /// How far a timestamp may lie ahead of the clock, in milliseconds
    /// (`message.timestamp.after.max.ms`).
    package var timestampAfterMax: Int64 = 3_600_000
    /// `compression.type`.
    package var compression = CompressionPolicy.auto

    /// The bound on unfolding where a topic sets none: 64 times the default largest batch.
    package static let defaultUnfoldedLimit = 64 << 20

    /// How many records a refusal names at most, so that the answer to a bad batch stays small.
    package static let maximumRecordErrorCount = 1000

    /// Compressing or opening this many bytes takes longer than a shard should be away from its
    /// other partitions (lz4: 700 MB/s, so 25 µs).
    package static let workerByteCount = 16 * 1024

    /// Kafka's defaults, and our own where they differ.
    package init() {}

    /// Checks a batch and gives it the form in which it is stored.
    ///
    /// `records`: the partition's bytes in the request.
    /// `acceptsZstd`: whether the request's version knows zstd (Produce 7 and later).
    ///
    /// - Throws: why the batch is refused.
    package func admit(
        _ records: ByteBuffer?,
        now: Timestamp,
        acceptsZstd: Bool = true,
        using compressor: Compressor,
        _ decompressor: Decompressor
    ) throws(BatchRefusal) -> RecordBatch {
        let batch = try check(records, now: now, acceptsZstd: acceptsZstd, using: decompressor)
        return try compress(batch, using: compressor, decompressor)
    }

    /// Whether `admit` takes so long for these bytes that a worker should do it.
    package func wantsWorker(for records: ByteBuffer) -> Bool {
        guard records.readableBytes >= Self.workerByteCount else {
            return false
        }
        let attributes = BatchAttributes(
            rawValue: records.readableBytesSpan.bigEndian(UInt16.self, at: 21)
        )
        if attributes.codecNumber == CompressionCodec.none.rawValue {
            return compression == .auto || recompresses(attributes)
        }
        return opens(attributes)
    }

    /// Checks a batch, and fixes its times where the broker decides them; its compression stays.
    ///
    /// - Throws: why the batch is refused.
    package func check(
        _ records: ByteBuffer?,
        now: Timestamp,
        acceptsZstd: Bool = true,
        using decompressor: Decompressor
    ) throws(BatchRefusal) -> RecordBatch {
        guard let records, records.readableBytes > 0 else {
            throw .noBatch
        }
        let batch = try parse(records)
        try checkHeader(batch.header, acceptsZstd: acceptsZstd)
        let maxTimestamp = try checkRecords(batch, now: now, using: decompressor)
        if usesLogAppendTime {
            return batch.rewritten { header in
                header.attributes.isLogAppendTime = true
                header.maxTimestamp = now
            }
        }
        // Time lookups rest on this field, so a producer's mistake in it is mended, as in Kafka.
        guard maxTimestamp == batch.header.maxTimestamp else {
            return batch.rewritten { header in
                header.maxTimestamp = maxTimestamp
            }
        }
        return batch
    }

    /// Gives a checked batch the compression that the topic stores, and looks at its size again.
    ///
    /// - Throws: why the batch is refused.
    package func compress(
        _ batch: RecordBatch,
        using compressor: Compressor,
        _ decompressor: Decompressor
    ) throws(BatchRefusal) -> RecordBatch {
        let stored = try Self.refusing { () throws(RecordsError) in
            try compression.applied(
                to: batch,
                using: compressor,
                decompressor,
                limit: unfoldedLimit
            )
        }
        try checkSize(stored.byteCount)
        return stored
    }

    // MARK: The batch

    private func parse(_ records: ByteBuffer) throws(BatchRefusal) -> RecordBatch {
        let span = records.readableBytesSpan
        // The magic byte has its place in every format, and an old one may be shorter than our
        // header.
        if span.byteCount > 16, span.bigEndian(Int8.self, at: 16) != RecordBatchHeader.magic {
            throw .malformed(.unsupportedMagic(span.bigEndian(Int8.self, at: 16)))
        }
        let header = try Self.refusing { () throws(RecordsError) in
            try RecordBatchHeader(framing: records.readableBytesSpan)
        }
        // The size is known before the CRC is worth its time.
        try checkSize(header.totalByteCount)
        return try Self.refusing { () throws(RecordsError) in
            try RecordBatch(parsing: records)
        }
    }

    /// Turns bytes that cannot be read into a refusal.
    private static func refusing<Result>(_ body: () throws(RecordsError) -> Result)
        throws(BatchRefusal) -> Result
    {
        do throws(RecordsError) {
            return try body()
        } catch {
            throw .malformed(error)
        }
    }

    private func checkSize(_ byteCount: Int) throws(BatchRefusal) {
        guard byteCount <= maximumByteCount else {
            throw .tooLarge(byteCount: byteCount, limit: maximumByteCount)
        }
        guard byteCount <= segmentByteCount else {
            throw .largerThanSegment(byteCount: byteCount, limit: segmentByteCount)
        }
    }

    private func checkHeader(_ header: RecordBatchHeader, acceptsZstd: Bool) throws(BatchRefusal) {
        let attributes = header.attributes
        guard attributes.codec != .zstd || acceptsZstd else {
            throw .zstdBeforeVersion7
        }
        guard !attributes.isControl else {
            throw .controlBatch
        }
        // With a delete horizon the base timestamp would be a lie about every record's time.
        guard attributes.reservedBits == 0, !attributes.hasDeleteHorizon else {
            throw .reservedAttributes(attributes.rawValue)
        }
        guard header.recordCount >= 1, Int64(header.recordCount) == header.offsetSpan else {
            throw .invalidCounts(
                recordCount: header.recordCount,
                lastOffsetDelta: header.lastOffsetDelta
            )
        }
        // aiokafka sends base sequence 0 without a producer id: the number means something only
        // with one.
        if header.hasProducerID {
            guard header.producerEpoch >= 0, header.baseSequence >= 0 else {
                throw .incompleteProducer
            }
        } else if attributes.isTransactional {
            throw .incompleteProducer
        }
    }

    // MARK: The records

    /// Whether the records of a batch with these attributes must be seen, though they are
    /// compressed.
    private func opens(_ attributes: BatchAttributes) -> Bool {
        requiresKeys || recompresses(attributes)
    }

    private func recompresses(_ attributes: BatchAttributes) -> Bool {
        if case .fixed(let codec, _) = compression {
            return codec.rawValue != attributes.codecNumber
        }
        return false
    }

    /// Checks the records, and returns their largest timestamp.
    private func checkRecords(
        _ batch: RecordBatch,
        now: Timestamp,
        using decompressor: Decompressor
    ) throws(BatchRefusal) -> Timestamp {
        let header = batch.header
        let window = timestampWindow(now)
        guard usesLogAppendTime || !header.attributes.isLogAppendTime else {
            throw .logAppendTimeFromClient
        }
        guard header.attributes.codec == .none || opens(header.attributes) else {
            guard usesLogAppendTime || Self.accepts(header.maxTimestamp.rawValue, window) else {
                throw .batchTimestampOutOfRange(header.maxTimestamp)
            }
            return header.maxTimestamp
        }
        let records = try Self.refusing { () throws(RecordsError) in
            try batch.plainRecords(using: decompressor, limit: unfoldedLimit)
        }
        return try walk(records.readableBytesSpan, header, window)
    }

    private func walk(
        _ records: RawSpan,
        _ header: RecordBatchHeader,
        _ window: ClosedRange<Int64>
    ) throws(BatchRefusal) -> Timestamp {
        var reader = RecordReader(records)
        var batchIndex: Int32 = 0
        var maxTimestamp = Timestamp.none.rawValue
        var faults = RecordFaults()
        while !reader.isAtEnd {
            let layout: RecordLayout
            do throws(RecordsError) {
                layout = try reader.next()
            } catch {
                throw .malformed(error)
            }
            guard layout.offsetDelta == batchIndex else {
                throw .gapInOffsets(batchIndex: Int(batchIndex))
            }
            let timestamp = header.baseTimestamp.rawValue &+ layout.timestampDelta
            maxTimestamp = max(maxTimestamp, timestamp)
            if !usesLogAppendTime, !Self.accepts(timestamp, window) {
                faults.note(timestamp: timestamp, at: batchIndex)
            }
            if requiresKeys, layout.key.count < 0 {
                faults.noteMissingKey(at: batchIndex)
            }
            // A record has seven bytes at least, so the count of a batch's records fits.
            batchIndex += 1
        }
        guard batchIndex == header.recordCount else {
            throw .malformed(
                .recordCountMismatch(announced: header.recordCount, found: Int(batchIndex))
            )
        }
        try faults.check()
        return Timestamp(maxTimestamp)
    }

    private func timestampWindow(_ now: Timestamp) -> ClosedRange<Int64> {
        let (earliest, isTooEarly) = now.rawValue.subtractingReportingOverflow(
            max(0, timestampBeforeMax)
        )
        let (latest, isTooLate) = now.rawValue.addingReportingOverflow(max(0, timestampAfterMax))
        return (isTooEarly ? Int64.min : earliest)...(isTooLate ? Int64.max : latest)
    }

    @inline(__always)
    private static func accepts(_ timestamp: Int64, _ window: ClosedRange<Int64>) -> Bool {
        timestamp == Timestamp.none.rawValue || window.contains(timestamp)
    }
}

/// The records at fault that a walk has met; the first `BatchRules.maximumRecordErrorCount` are
/// kept.
private struct RecordFaults {
    private var timestamps: [RecordRefusal] = []
    private var keys: [RecordRefusal] = []

    mutating func note(timestamp: Int64, at batchIndex: Int32) {
        guard timestamps.count < BatchRules.maximumRecordErrorCount else {
            return
        }
        let message = "timestamp \(timestamp) is outside what the topic accepts"
        timestamps.append(RecordRefusal(batchIndex: Int(batchIndex), message: message))
    }

    mutating func noteMissingKey(at batchIndex: Int32) {
        guard keys.count < BatchRules.maximumRecordErrorCount else {
            return
        }
        keys.append(
            RecordRefusal(batchIndex: Int(batchIndex), message: "a compacted topic needs a key")
        )
    }

    func check() throws(BatchRefusal) {
        guard timestamps.isEmpty else {
            throw .timestampsOutOfRange(timestamps)
        }
        guard keys.isEmpty else {
            throw .keysMissing(keys)
        }
    }
}
