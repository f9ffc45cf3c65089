package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// One record as a client sees it; key and value are slices of the batch, or of what it was
/// unfolded into.
package struct Record: Hashable, Sendable {
    /// The record's place in its partition.
    package var offset: Offset
    /// The time that the producer gave it, or the broker's where the batch says so; `.none` when
    /// there is none.
    package var timestamp: Timestamp
    /// The key; nil is not the same as empty.
    package var key: ByteBuffer?
    /// The value; nil is a tombstone.
    package var value: ByteBuffer?
    /// The headers in their order; names may repeat.
    package var headers: [RecordHeader]

    /// A record with all its parts.
    package init(
        offset: Offset,
        timestamp: Timestamp,
        key: ByteBuffer?,
        value: ByteBuffer?,
        headers: [RecordHeader] = []
    ) {
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
    }
}

/// A header of a record.
package struct RecordHeader: Hashable, Sendable {
    /// The name, UTF-8 on the wire; bytes that are not are replaced.
    package var name: String
    /// The value; nil is not the same as empty.
    package var value: ByteBuffer?

    /// Names a value.
    package init(name: String, value: ByteBuffer?) {
        self.name = name
        self.value = value
    }
}

/// The records of a batch, one by one; a compressed batch is unfolded once, within a bound.
package struct RecordIterator: Sendable {
    private let header: RecordBatchHeader
    private let records: ByteBuffer
    private var position = 0
    private var count = 0

    /// Opens a batch.
    ///
    /// `limit`: the most bytes that the records may unfold to.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`.
    package init(_ batch: RecordBatch, using decompressor: Decompressor, limit: Int)
        throws(RecordsError)
    {
        header = batch.header
        records = try batch.plainRecords(using: decompressor, limit: limit)
    }

    /// The next record; nil after the last one.
    ///
    /// - Throws: `.malformedRecord`, `.recordCountMismatch`.
    package mutating func next() throws(RecordsError) -> Record? {
        guard let layout = try nextLayout() else {
            return nil
        }
        return Record(
            offset: Offset(header.baseOffset.rawValue &+ Int64(layout.offsetDelta)),
            timestamp: header.timestamp(of: layout),
            key: layout.key.range.map { records.piece($0) },
            value: layout.value.range.map { records.piece($0) },
            headers: headers(of: layout)
        )
    }

    /// The bytes that a layout's positions count from.
    package var plainRecords: ByteBuffer {
        records
    }

    /// Where the next record lies within `plainRecords`; nil after the last one.
    ///
    /// - Throws: `.malformedRecord`, `.recordCountMismatch`.
    package mutating func nextLayout() throws(RecordsError) -> RecordLayout? {
        var reader = RecordReader(records.readableBytesSpan, at: position)
        guard !reader.isAtEnd else {
            guard count == Int(header.recordCount) else {
                throw .recordCountMismatch(announced: header.recordCount, found: count)
            }
            return nil
        }
        let layout = try reader.next()
        position = reader.position
        count += 1
        return layout
    }

    private func headers(of layout: RecordLayout) -> [RecordHeader] {
        var headers: [RecordHeader] = []
        var cursor = layout.headers.lowerBound
        let end = layout.headers.upperBound
        // The walk has checked every length, so each header is there.
        for _ in 0..<layout.headerCount {
            guard
                let name = RecordReader.nullableBytes(records.readableBytesSpan, &cursor, end)?
                    .range,
                let value = RecordReader.nullableBytes(records.readableBytesSpan, &cursor, end)
            else {
                preconditionFailure("a record's headers were read once already")
            }
            let header = RecordHeader(
                name: records.getString(at: name.lowerBound, length: name.count) ?? "",
                value: value.range.map { records.piece($0) }
            )
            headers.append(header)
        }
        return headers
    }
}

extension RecordBatchHeader {
    /// The time of one of the batch's records.
    func timestamp(of layout: RecordLayout) -> Timestamp {
        if attributes.isLogAppendTime {
            return maxTimestamp
        }
        // Deltas are the client's: a sum that wraps is wrong but must not stop the broker.
        return Timestamp(baseTimestamp.rawValue &+ layout.timestampDelta)
    }
}
