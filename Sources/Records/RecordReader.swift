/// Walks the records of a batch where they lie: about 10 ns a record, no copy, no allocation.
///
/// Every length is compared with what is left before it is used, so hostile bytes end in an error.
/// The fast form was measured: the position is a local while one record is read, and the varint
/// loop is inlined.
struct RecordReader: ~Escapable {
    private let bytes: RawSpan
    private(set) var position: Int

    /// Starts at the first record (or at `position`, where a record starts) of plain records.
    @_lifetime(copy bytes)
    init(_ bytes: RawSpan, at position: Int = 0) {
        self.bytes = bytes
        self.position = position
    }

    /// Whether every record was read.
    var isAtEnd: Bool {
        position >= bytes.byteCount
    }

    /// Reads one record and steps behind it.
    ///
    /// - Throws: `.malformedRecord`; the position then stays.
    @inline(__always)
    @_lifetime(self: copy self)
    mutating func next() throws(RecordsError) -> RecordLayout {
        let start = position
        var cursor = start
        let length = Self.varint(bytes, &cursor, bytes.byteCount)
        guard let length, length >= 0, length <= Int64(bytes.byteCount - cursor) else {
            throw .malformedRecord(position: start)
        }
        let end = cursor + Int(length)
        guard let layout = Self.layout(of: bytes, start: start, fields: cursor, end: end) else {
            throw .malformedRecord(position: start)
        }
        position = end
        return layout
    }

    @inline(__always)
    private static func layout(of bytes: RawSpan, start: Int, fields: Int, end: Int)
        -> RecordLayout?
    {
        guard fields < end else {
            return nil
        }
        // The record's attributes byte means nothing, and Kafka looks at no bit of it.
        var cursor = fields + 1
        guard let timestampDelta = varint(bytes, &cursor, end, byteCount: 10),
            let offsetDelta = varint(bytes, &cursor, end),
            let key = nullableBytes(bytes, &cursor, end),
            let value = nullableBytes(bytes, &cursor, end),
            let headerCount = varint(bytes, &cursor, end), headerCount >= 0
        else {
            return nil
        }
        let headers = cursor
        for _ in 0..<headerCount {
            guard let name = nullableBytes(bytes, &cursor, end), name.count >= 0,
                nullableBytes(bytes, &cursor, end) != nil
            else {
                return nil
            }
        }
        guard cursor == end else {
            return nil
        }
        return RecordLayout(
            range: start..<end,
            timestampDelta: timestampDelta,
            offsetDelta: Int32(truncatingIfNeeded: offsetDelta),
            key: key,
            value: value,
            headerCount: Int(headerCount),
            headers: headers..<end
        )
    }

    /// Reads a zigzag varint that ends before `end`; one of five bytes at most must fit 32 bits, as
    /// Kafka's readers want.
    @inline(__always)
    static func varint(_ bytes: RawSpan, _ cursor: inout Int, _ end: Int, byteCount: Int = 5)
        -> Int64?
    {
        guard cursor < end else {
            return nil
        }
        // Safe: callers pass an `end` within the span, and a cursor of 0 or above.
        let first = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: cursor, as: UInt8.self)
        // Most numbers of a record have one byte, and the loop below would cost twice as much.
        if first < 0x80 {
            cursor += 1
            return Int64(first >> 1) ^ -Int64(first & 1)
        }
        var position = cursor + 1
        var zigzag = UInt64(first & 0x7F)
        var shift: UInt64 = 7
        let last = min(end, cursor + byteCount)
        while position < last {
            // Safe: position stays below `end`.
            let byte = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: position, as: UInt8.self)
            position += 1
            zigzag |= UInt64(byte & 0x7F) << shift
            if byte < 0x80 {
                // The tenth byte has room for one bit, the fifth for four.
                guard byteCount == 10 ? shift < 63 || byte <= 1 : zigzag <= UInt64(UInt32.max)
                else {
                    return nil
                }
                cursor = position
                return Int64(bitPattern: zigzag >> 1) ^ -Int64(bitPattern: zigzag & 1)
            }
            shift += 7
        }
        return nil
    }

    @inline(__always)
    static func nullableBytes(_ bytes: RawSpan, _ cursor: inout Int, _ end: Int) -> NullableRange? {
        guard let length = varint(bytes, &cursor, end), length >= -1, length <= Int64(end - cursor)
        else {
            return nil
        }
        let start = cursor
        cursor += Int(max(0, length))
        return NullableRange(start: start, count: Int(length))
    }
}

/// Where bytes lie that may be absent.
package struct NullableRange: Hashable, Sendable {
    /// The first byte's position.
    package let start: Int
    /// The number of bytes; -1 when there is nothing, which is not the same as empty.
    package let count: Int

    /// The bytes' positions, or nil for none.
    package var range: Range<Int>? {
        count < 0 ? nil : start..<start + count
    }
}

/// Where the parts of one record lie within the plain records of its batch.
package struct RecordLayout: Hashable, Sendable {
    /// The whole record with its length.
    package let range: Range<Int>
    /// What to add to the batch's base timestamp; it may be negative.
    package let timestampDelta: Int64
    /// What to add to the batch's base offset.
    package let offsetDelta: Int32
    /// The key.
    package let key: NullableRange
    /// The value.
    package let value: NullableRange
    /// The number of headers.
    package let headerCount: Int
    /// The bytes of the headers, without their count.
    package let headers: Range<Int>
}
