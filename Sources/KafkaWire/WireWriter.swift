package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// Writes Kafka's primitive types, one frame after the other.
///
/// What is written goes into one buffer. Records are not copied into it unless they are short: they become
/// parts of the `OutputFrame` that `finish()` gives.
package struct WireWriter {
    /// Up to here a copy costs less than one more buffer in the gathered write.
    static let copiedByteCount = 4096

    private var head: ByteBuffer
    private var inserts: [OutputFrame.Insert] = []
    private var insertedByteCount = 0

    /// Starts with an empty buffer that has room for `capacity` bytes, and grows.
    package init(capacity: Int = 256) {
        head = ByteBuffer()
        head.reserveCapacity(capacity)
    }

    /// All bytes written, inserted parts included.
    package var byteCount: Int {
        head.readableBytes + insertedByteCount
    }

    /// What was written.
    package consuming func finish() -> OutputFrame {
        OutputFrame(head: head, inserts: inserts, insertedByteCount: insertedByteCount)
    }

    // MARK: Frames

    /// Writes a frame: the length of what `body` writes, and that.
    ///
    /// If `body` throws, nothing is written.
    package mutating func frame(
        _ body: (inout WireWriter) throws(WireError) -> Void
    ) throws(WireError) {
        let start = head.writerIndex
        let startByteCount = byteCount
        let insertCount = inserts.count
        let insertedBefore = insertedByteCount
        head.writeInteger(Int32(0))
        do throws(WireError) {
            try body(&self)
            let length = byteCount - startByteCount - 4
            guard let prefix = Int32(exactly: length) else {
                throw .valueTooLong(byteCount: length)
            }
            head.setInteger(prefix, at: start)
        } catch {
            head.moveWriterIndex(to: start)
            inserts.removeSubrange(insertCount...)
            insertedByteCount = insertedBefore
            throw error
        }
    }

    // MARK: Numbers

    /// A signed byte.
    package mutating func int8(_ value: Int8) { head.writeInteger(value) }

    /// Two bytes, signed.
    package mutating func int16(_ value: Int16) { head.writeInteger(value) }

    /// Two bytes, unsigned.
    package mutating func uint16(_ value: UInt16) { head.writeInteger(value) }

    /// Four bytes, signed.
    package mutating func int32(_ value: Int32) { head.writeInteger(value) }

    /// Four bytes, unsigned.
    package mutating func uint32(_ value: UInt32) { head.writeInteger(value) }

    /// Eight bytes, signed.
    package mutating func int64(_ value: Int64) { head.writeInteger(value) }

    /// One byte, 0 or 1.
    package mutating func bool(_ value: Bool) { head.writeInteger(value ? 1 : 0, as: UInt8.self) }

    /// IEEE 754, eight bytes.
    package mutating func float64(_ value: Double) { head.writeInteger(value.bitPattern) }

    /// Sixteen bytes, most significant first.
    package mutating func uuid(_ value: TopicID) {
        head.writeInteger(value.high)
        head.writeInteger(value.low)
    }

    /// A base-128 integer.
    package mutating func uvarint(_ value: UInt32) {
        var rest = value
        while rest >= 0x80 {
            head.writeInteger(UInt8(truncatingIfNeeded: rest) | 0x80)
            rest >>= 7
        }
        head.writeInteger(UInt8(truncatingIfNeeded: rest))
    }

    // MARK: Lengths

    /// The length of bytes or the count of an array; nil is null.
    private mutating func length(_ length: Int?, compact: Bool) throws(WireError) {
        guard let value = Int32(exactly: length ?? -1) else {
            throw .valueTooLong(byteCount: length ?? 0)
        }
        if compact {
            uvarint(UInt32(bitPattern: value) &+ 1)
        } else {
            head.writeInteger(value)
        }
    }

    private mutating func null(_ isAllowed: Bool, compact: Bool) throws(WireError) {
        guard isAllowed else { throw .nullNotAllowed }
        try length(nil, compact: compact)
    }

    // MARK: Strings and bytes

    /// A string of at most 32,767 bytes.
    package mutating func string(_ value: String, compact: Bool) throws(WireError) {
        let byteCount = value.utf8.count
        guard let length = Int16(exactly: byteCount) else {
            throw .valueTooLong(byteCount: byteCount)
        }
        if compact {
            uvarint(UInt32(length) + 1)
        } else {
            head.writeInteger(length)
        }
        head.writeString(value)
    }

    /// A string, or null where `nullable`.
    package mutating func optionalString(
        _ value: String?,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        if let value {
            try string(value, compact: compact)
        } else if !nullable {
            throw .nullNotAllowed
        } else if compact {
            uvarint(0)
        } else {
            int16(-1)
        }
    }

    /// Bytes, copied.
    package mutating func bytes(_ value: ByteBuffer, compact: Bool) throws(WireError) {
        try length(value.readableBytes, compact: compact)
        head.writeImmutableBuffer(value)
    }

    /// Bytes, or null where `nullable`.
    package mutating func optionalBytes(
        _ value: ByteBuffer?,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        guard let value else { return try null(nullable, compact: compact) }
        try bytes(value, compact: compact)
    }

    /// Records, or null where `nullable`; only short ones are copied.
    package mutating func optionalRecords(
        _ value: Records?,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        guard let value else { return try null(nullable, compact: compact) }
        try length(value.byteCount, compact: compact)
        if let buffer = value.buffer {
            insert(.bytes(buffer))
        } else {
            value.parts.forEach { insert($0) }
        }
    }

    private mutating func insert(_ part: WirePart) {
        guard part.byteCount > 0 else { return }
        if case .bytes(let buffer) = part, buffer.readableBytes <= Self.copiedByteCount {
            head.writeImmutableBuffer(buffer)
        } else {
            inserts.append(OutputFrame.Insert(position: head.readableBytes, part: part))
            insertedByteCount += part.byteCount
        }
    }

    // MARK: Arrays and structs

    /// An array of structs.
    package mutating func array<Element: WireStruct>(
        _ value: [Element],
        version: Int16,
        compact: Bool
    ) throws(WireError) {
        try length(value.count, compact: compact)
        for element in value {
            try element.encode(into: &self, version: version)
        }
    }

    /// An array of structs, or null where `nullable`.
    package mutating func optionalArray<Element: WireStruct>(
        _ value: [Element]?,
        version: Int16,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        guard let value else { return try null(nullable, compact: compact) }
        try array(value, version: version, compact: compact)
    }

    /// An array of integers.
    package mutating func integers<Integer: FixedWidthInteger>(
        _ value: [Integer],
        compact: Bool
    ) throws(WireError) {
        try length(value.count, compact: compact)
        for element in value {
            head.writeInteger(element)
        }
    }

    /// An array of integers, or null where `nullable`.
    package mutating func optionalIntegers<Integer: FixedWidthInteger>(
        _ value: [Integer]?,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        guard let value else { return try null(nullable, compact: compact) }
        try integers(value, compact: compact)
    }

    /// An array of strings.
    package mutating func strings(_ value: [String], compact: Bool) throws(WireError) {
        try length(value.count, compact: compact)
        for element in value {
            try string(element, compact: compact)
        }
    }

    /// An array of strings, or null where `nullable`.
    package mutating func optionalStrings(
        _ value: [String]?,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) {
        guard let value else { return try null(nullable, compact: compact) }
        try strings(value, compact: compact)
    }

    /// A nullable struct: a byte that tells whether it is there, then the struct.
    package mutating func optionalStruct<Value: WireStruct>(
        _ value: Value?,
        version: Int16
    ) throws(WireError) {
        int8(value == nil ? -1 : 1)
        try value?.encode(into: &self, version: version)
    }

    // MARK: Tagged fields

    /// The tagged fields at the end of a struct, in ascending order.
    ///
    /// - Throws: `.tagOutOfOrder` where a tag occurs twice, such as a field that was unknown in the version
    ///   it was read in and is known in the version it is written in.
    package mutating func tags(_ fields: [TaggedField]) throws(WireError) {
        uvarint(UInt32(fields.count))
        guard !fields.isEmpty else { return }
        var lastTag = -1
        for field in fields.sorted(by: { $0.tag < $1.tag }) {
            guard Int(field.tag) > lastTag else { throw .tagOutOfOrder(field.tag) }
            lastTag = Int(field.tag)
            uvarint(field.tag)
            uvarint(UInt32(field.bytes.readableBytes))
            head.writeImmutableBuffer(field.bytes)
        }
    }
}
