package import FlotillaModel

import struct NIOCore.ByteBuffer

/// Where a record stands, and when.
package struct RecordPosition: Hashable, Sendable {
    /// The record's offset.
    package var offset: Offset
    /// The record's time.
    package var timestamp: Timestamp

    /// Names a record.
    package init(offset: Offset, timestamp: Timestamp) {
        self.offset = offset
        self.timestamp = timestamp
    }
}

extension RecordBatch {
    /// The first record, in the order of offsets, whose time is `timestamp` or later; nil when
    /// there is none.
    ///
    /// `start`: records before this offset are passed over, when the log begins within the batch.
    /// `limit`: the most bytes that the records may unfold to.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`, `.malformedRecord`.
    package func firstPosition(
        atOrAfter timestamp: Timestamp,
        from start: Offset = .zero,
        using decompressor: Decompressor,
        limit: Int
    ) throws(RecordsError) -> RecordPosition? {
        guard header.maxTimestamp >= timestamp else {
            return nil
        }
        return try firstPosition(from: start, using: decompressor, limit: limit) { $0 >= timestamp }
    }

    /// The first record that carries the batch's largest timestamp; nil when no record does.
    ///
    /// - Throws: `.corruptCompression`, `.decompressedTooLarge`, `.malformedRecord`.
    package func positionOfMaxTimestamp(
        from start: Offset = .zero,
        using decompressor: Decompressor,
        limit: Int
    ) throws(RecordsError) -> RecordPosition? {
        let maxTimestamp = header.maxTimestamp
        return try firstPosition(from: start, using: decompressor, limit: limit) {
            $0 == maxTimestamp
        }
    }

    private func firstPosition(
        from start: Offset,
        using decompressor: Decompressor,
        limit: Int,
        where isWanted: (Timestamp) -> Bool
    ) throws(RecordsError) -> RecordPosition? {
        // Log append time is the same for all, so an uncompacted batch need not be opened.
        let isWhole = Int64(header.recordCount) == header.offsetSpan
        if header.attributes.isLogAppendTime, isWhole, header.baseOffset >= start {
            return isWanted(header.maxTimestamp)
                ? RecordPosition(offset: header.baseOffset, timestamp: header.maxTimestamp) : nil
        }
        let records = try plainRecords(using: decompressor, limit: limit)
        var reader = RecordReader(records.readableBytesSpan)
        while !reader.isAtEnd {
            let layout = try reader.next()
            let offset = Offset(header.baseOffset.rawValue &+ Int64(layout.offsetDelta))
            let timestamp = header.timestamp(of: layout)
            if offset >= start, isWanted(timestamp) {
                return RecordPosition(offset: offset, timestamp: timestamp)
            }
        }
        return nil
    }
}
