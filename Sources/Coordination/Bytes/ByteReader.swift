package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// Reads the fields of our own formats, little endian, and never past the end.
///
/// Every method throws instead of trapping: the bytes may come from a damaged disk or a hostile peer. A count is checked
/// against the bytes that are left before anything is allocated for it.
package struct ByteReader {
    private var buffer: ByteBuffer

    /// Reads from the buffer's readable bytes.
    package init(_ buffer: ByteBuffer) {
        self.buffer = buffer
    }

    /// Bytes not yet read.
    package var remainingByteCount: Int {
        buffer.readableBytes
    }

    /// A fixed-width integer.
    package mutating func integer<Number: FixedWidthInteger>(
        _ field: String,
        as type: Number.Type = Number.self
    ) throws(CoordinationError) -> Number {
        guard let number = buffer.readInteger(endianness: .little, as: type) else {
            throw .truncated(field: field)
        }
        return number
    }

    /// A flag: 0 or 1.
    package mutating func flag(_ field: String) throws(CoordinationError) -> Bool {
        let byte = try integer(field, as: UInt8.self)
        guard byte <= 1 else { throw .valueOutOfBounds(field: field, value: Int64(byte)) }
        return byte == 1
    }

    /// A count of elements of at least `elementByteCount` bytes each.
    package mutating func count(_ field: String, elementByteCount: Int) throws(CoordinationError)
        -> Int
    {
        let count = Int(try integer(field, as: UInt32.self))
        guard count <= remainingByteCount / elementByteCount else {
            throw .lengthOutOfBounds(field: field, length: count)
        }
        return count
    }

    /// A list: its count, and elements of at least `elementByteCount` bytes each.
    package mutating func list<Element>(
        _ field: String,
        elementByteCount: Int,
        _ element: (inout ByteReader) throws(CoordinationError) -> Element
    ) throws(CoordinationError) -> [Element] {
        var elements: [Element] = []
        for _ in 0..<(try count(field, elementByteCount: elementByteCount)) {
            elements.append(try element(&self))
        }
        return elements
    }

    /// Text: a 16-bit byte count and UTF-8.
    package mutating func text(_ field: String) throws(CoordinationError) -> String {
        let byteCount = Int(try integer(field, as: UInt16.self))
        guard let bytes = buffer.readBytes(length: byteCount) else {
            throw .lengthOutOfBounds(field: field, length: byteCount)
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw .malformedText(field: field)
        }
        return text
    }

    /// Text of any length: a 32-bit byte count and UTF-8.
    package mutating func longText(_ field: String) throws(CoordinationError) -> String {
        let byteCount = try count(field, elementByteCount: 1)
        guard let bytes = buffer.readBytes(length: byteCount),
            let text = String(validating: bytes, as: UTF8.self)
        else { throw .malformedText(field: field) }
        return text
    }

    /// Text or nothing: a flag, then the text.
    package mutating func optionalText(_ field: String) throws(CoordinationError) -> String? {
        try flag(field) ? try text(field) : nil
    }

    /// Long text or nothing: a flag, then the text.
    package mutating func optionalLongText(_ field: String) throws(CoordinationError) -> String? {
        try flag(field) ? try longText(field) : nil
    }

    /// Bytes behind their 32-bit count.
    package mutating func bytes(_ field: String) throws(CoordinationError) -> ByteBuffer {
        let byteCount = try count(field, elementByteCount: 1)
        guard let bytes = buffer.readSlice(length: byteCount) else {
            throw .lengthOutOfBounds(field: field, length: byteCount)
        }
        return bytes
    }

    /// A topic's id: 16 bytes.
    package mutating func topicID(_ field: String) throws(CoordinationError) -> TopicID {
        TopicID(high: try integer(field), low: try integer(field))
    }

    /// A broker's id; negative ones do not exist.
    package mutating func brokerID(_ field: String) throws(CoordinationError) -> BrokerID {
        let number = try integer(field, as: Int32.self)
        guard number >= 0 else { throw .valueOutOfBounds(field: field, value: Int64(number)) }
        return BrokerID(number)
    }

    /// The next `byteCount` bytes as a reader of their own.
    package mutating func slice(_ field: String, byteCount: Int) throws(CoordinationError)
        -> ByteReader
    {
        guard byteCount >= 0, let slice = buffer.readSlice(length: byteCount) else {
            throw .lengthOutOfBounds(field: field, length: byteCount)
        }
        return ByteReader(slice)
    }

    /// States that nothing is left.
    package func finish(_ format: String) throws(CoordinationError) {
        guard remainingByteCount == 0 else {
            throw .trailingBytes(of: format, count: remainingByteCount)
        }
    }
}
