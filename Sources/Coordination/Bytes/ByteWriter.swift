package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// Writes the fields of our own formats, little endian; equal values give equal bytes.
package struct ByteWriter {
    /// What has been written.
    package private(set) var buffer = ByteBuffer()

    /// Nothing written yet.
    package init() {}

    /// A fixed-width integer.
    package mutating func integer<Number: FixedWidthInteger>(_ number: Number) {
        buffer.writeInteger(number, endianness: .little)
    }

    /// A flag: 0 or 1.
    package mutating func flag(_ isSet: Bool) {
        integer(isSet ? 1 : 0 as UInt8)
    }

    /// A count of elements.
    package mutating func count(_ count: Int) {
        precondition(UInt64(count) <= UInt64(UInt32.max), "a list has at most 2^32 - 1 elements")
        integer(UInt32(count))
    }

    /// Text: a 16-bit byte count and UTF-8.
    package mutating func text(_ text: String) {
        let byteCount = text.utf8.count
        precondition(
            byteCount <= TextLimit.byteCount,
            "commands refuse longer text before it becomes a record"
        )
        integer(UInt16(byteCount))
        buffer.writeString(text)
    }

    /// Text of any length, such as a client sends it: a 32-bit byte count and UTF-8.
    package mutating func longText(_ text: String) {
        count(text.utf8.count)
        buffer.writeString(text)
    }

    /// Text or nothing: a flag, then the text.
    package mutating func optionalText(_ text: String?) {
        flag(text != nil)
        if let text {
            self.text(text)
        }
    }

    /// Long text or nothing: a flag, then the text.
    package mutating func optionalLongText(_ text: String?) {
        flag(text != nil)
        if let text { longText(text) }
    }

    /// Bytes behind their 32-bit count.
    package mutating func bytes(_ bytes: ByteBuffer) {
        count(bytes.readableBytes)
        buffer.writeImmutableBuffer(bytes)
    }

    /// A topic's id: 16 bytes.
    package mutating func topicID(_ id: TopicID) {
        integer(id.high)
        integer(id.low)
    }

    /// A body behind its 32-bit byte count.
    package mutating func sized(_ body: ByteWriter) {
        integer(UInt32(body.buffer.readableBytes))
        buffer.writeImmutableBuffer(body.buffer)
    }
}

/// How long a single text in a record may be.
package enum TextLimit {
    /// The bytes that a 16-bit length can state.
    package static let byteCount = Int(UInt16.max)
}
