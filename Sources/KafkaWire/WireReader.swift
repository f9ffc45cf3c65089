package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// Reads Kafka's primitive types from a received frame, and never past its end.
///
/// Every length is compared with the bytes left, and every count with the least that so many elements
/// take, before anything is allocated. Strings are copied; byte fields and records are slices of the
/// frame. Malformed UTF-8 is repaired as Kafka does, so such a name does not survive a round trip.
///
/// - Source: Kafka's protocol guide; KIP-482 for the compact forms and tagged fields.
package struct WireReader: ~Escapable {
    /// The most array elements (numbers aside) and tagged fields of one message.
    ///
    /// An element of two bytes on the wire can take two hundred in memory, so the frame's size alone
    /// bounds too little.
    package static let defaultElementLimit = 1 << 20

    /// The same bytes as `frame`'s readable ones: this view is for reading numbers fast.
    private let bytes: RawSpan
    private let frame: ByteBuffer
    private let elementLimit: Int
    private var elementsLeft: Int
    /// Bytes consumed.
    package private(set) var position = 0
    /// Where the innermost thing with a size of its own ends: the frame, or a tagged field.
    private var end: Int

    /// Reads the readable bytes of `frame`.
    @_lifetime(borrow frame)
    package init(_ frame: borrowing ByteBuffer, elementLimit: Int = Self.defaultElementLimit) {
        self.bytes = frame.readableBytesSpan
        self.frame = copy frame
        self.elementLimit = elementLimit
        self.elementsLeft = elementLimit
        self.end = bytes.byteCount
    }

    /// Bytes not yet consumed.
    package var left: Int {
        end - position
    }

    // MARK: Numbers

    /// A big-endian integer.
    @inline(__always)
    private mutating func integer<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type
    ) throws(WireError) -> Integer {
        let next = position &+ MemoryLayout<Integer>.size
        guard next <= end else {
            throw .truncated(byteCount: MemoryLayout<Integer>.size, left: end - position)
        }
        // Safe: `position + size <= end <= bytes.byteCount`, just checked; all bit patterns are values.
        let value = unsafe bytes.unsafeLoadUnaligned(fromUncheckedByteOffset: position, as: type)
        position = next
        return Integer(bigEndian: value)
    }

    /// A signed byte.
    package mutating func int8() throws(WireError) -> Int8 { try integer(Int8.self) }

    /// Two bytes, signed.
    package mutating func int16() throws(WireError) -> Int16 { try integer(Int16.self) }

    /// Two bytes, unsigned.
    package mutating func uint16() throws(WireError) -> UInt16 { try integer(UInt16.self) }

    /// Four bytes, signed.
    package mutating func int32() throws(WireError) -> Int32 { try integer(Int32.self) }

    /// Four bytes, unsigned.
    package mutating func uint32() throws(WireError) -> UInt32 { try integer(UInt32.self) }

    /// Eight bytes, signed.
    package mutating func int64() throws(WireError) -> Int64 { try integer(Int64.self) }

    /// Any byte but 0 is true.
    package mutating func bool() throws(WireError) -> Bool { try integer(UInt8.self) != 0 }

    /// IEEE 754, eight bytes.
    package mutating func float64() throws(WireError) -> Double {
        Double(bitPattern: try integer(UInt64.self))
    }

    /// Sixteen bytes, most significant first.
    package mutating func uuid() throws(WireError) -> TopicID {
        let high = try integer(UInt64.self)
        return TopicID(high: high, low: try integer(UInt64.self))
    }

    /// A base-128 integer of at most five bytes.
    ///
    /// The loop runs on local copies and stores the position once: measured at half the time of
    /// advancing `position` byte by byte.
    @inline(__always)
    package mutating func uvarint() throws(WireError) -> UInt32 {
        var offset = position
        var value: UInt64 = 0
        var shift: UInt64 = 0
        while true {
            guard offset < end else { throw .truncated(byteCount: 1, left: 0) }
            // Safe: `offset < end <= bytes.byteCount`, just checked.
            let byte = unsafe bytes.unsafeLoad(fromUncheckedByteOffset: offset, as: UInt8.self)
            offset &+= 1
            value |= UInt64(byte & 0x7F) &<< shift
            guard byte >= 0x80 else { break }
            shift &+= 7
            guard shift < 35 else { throw .varintTooLong }
        }
        guard value <= UInt64(UInt32.max) else { throw .varintTooLong }
        position = offset
        return UInt32(truncatingIfNeeded: value)
    }

    // MARK: Lengths

    /// The length of a string, nil for null; the bytes are there.
    ///
    /// The compact form could say more, but Kafka bounds both alike.
    private mutating func stringLength(compact: Bool) throws(WireError) -> Int? {
        let length = compact ? Int(try uvarint()) - 1 : Int(try int16())
        guard length <= Int(Int16.max) else { throw .invalidLength(length, left: left) }
        return try checked(length, minimumByteCount: 1)
    }

    /// The length of bytes, or the count of an array whose elements take `minimumByteCount` or more; nil
    /// for null.
    private mutating func length(
        compact: Bool,
        minimumByteCount: Int
    ) throws(WireError) -> Int? {
        let length = compact ? Int(try uvarint()) - 1 : Int(try int32())
        return try checked(length, minimumByteCount: minimumByteCount)
    }

    @inline(__always)
    private func checked(_ length: Int, minimumByteCount: Int) throws(WireError) -> Int? {
        guard length >= 0 else {
            guard length == -1 else { throw .invalidLength(length, left: end - position) }
            return nil
        }
        // No overflow: a length has 32 bits, and no element's minimum is near 31.
        guard length * minimumByteCount <= end - position else {
            throw .invalidLength(length, left: end - position)
        }
        return length
    }

    /// Takes `count` elements from the message's allowance.
    private mutating func spend(_ count: Int) throws(WireError) {
        guard count <= elementsLeft else { throw .tooManyElements(limit: elementLimit) }
        elementsLeft -= count
    }

    // MARK: Strings and bytes

    /// A string that must not be null.
    package mutating func string(compact: Bool) throws(WireError) -> String {
        guard let string = try optionalString(compact: compact) else { throw .unexpectedNull }
        return string
    }

    /// A string, or null where `nullable`.
    package mutating func optionalString(
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) -> String? {
        guard let length = try stringLength(compact: compact) else { return try null(nullable) }
        guard length > 0 else { return "" }
        let string = frame.getString(at: frame.readerIndex + position, length: length)
        guard let string else { throw .truncated(byteCount: length, left: left) }
        position += length
        return string
    }

    /// Bytes that must not be null: a slice of the frame.
    package mutating func bytes(compact: Bool) throws(WireError) -> ByteBuffer {
        guard let bytes = try optionalBytes(compact: compact) else { throw .unexpectedNull }
        return bytes
    }

    /// Bytes, or null where `nullable`: a slice of the frame.
    package mutating func optionalBytes(
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) -> ByteBuffer? {
        guard let length = try length(compact: compact, minimumByteCount: 1) else {
            return try null(nullable)
        }
        return try slice(length)
    }

    /// Records, or null where `nullable`: a slice of the frame.
    package mutating func optionalRecords(
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) -> Records? {
        try optionalBytes(compact: compact, nullable: nullable).map { Records($0) }
    }

    private mutating func slice(_ length: Int) throws(WireError) -> ByteBuffer {
        guard length <= left else { throw .truncated(byteCount: length, left: left) }
        let slice = frame.getSlice(at: frame.readerIndex + position, length: length)
        guard let slice else { throw .truncated(byteCount: length, left: left) }
        position += length
        return slice
    }

    private func null<Value>(_ isAllowed: Bool) throws(WireError) -> Value? {
        guard isAllowed else { throw .unexpectedNull }
        return nil
    }

    // MARK: Arrays and structs

    /// An array of structs that must not be null.
    package mutating func array<Element: WireStruct>(
        of type: Element.Type,
        version: Int16,
        compact: Bool,
        minimumByteCount: Int
    ) throws(WireError) -> [Element] {
        let array = try optionalArray(
            of: type,
            version: version,
            compact: compact,
            minimumByteCount: minimumByteCount
        )
        guard let array else { throw .unexpectedNull }
        return array
    }

    /// An array of structs, or null where `nullable`.
    ///
    /// `minimumByteCount` is the least that an element takes in any version.
    package mutating func optionalArray<Element: WireStruct>(
        of type: Element.Type,
        version: Int16,
        compact: Bool,
        minimumByteCount: Int,
        nullable: Bool = true
    ) throws(WireError) -> [Element]? {
        let length = try length(compact: compact, minimumByteCount: minimumByteCount)
        guard let count = length else { return try null(nullable) }
        try spend(count)
        var array: [Element] = []
        array.reserveCapacity(count)
        for _ in 0..<count {
            array.append(try Element(from: &self, version: version))
        }
        return array
    }

    /// An array of integers that must not be null.
    package mutating func integers<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type,
        compact: Bool
    ) throws(WireError) -> [Integer] {
        let array = try optionalIntegers(type, compact: compact)
        guard let array else { throw .unexpectedNull }
        return array
    }

    /// An array of integers, or null where `nullable`.
    package mutating func optionalIntegers<Integer: FixedWidthInteger & BitwiseCopyable>(
        _ type: Integer.Type,
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) -> [Integer]? {
        let size = MemoryLayout<Integer>.size
        guard let count = try length(compact: compact, minimumByteCount: size) else {
            return try null(nullable)
        }
        var array: [Integer] = []
        array.reserveCapacity(count)
        for _ in 0..<count {
            array.append(try integer(type))
        }
        return array
    }

    /// An array of strings that must not be null.
    package mutating func strings(compact: Bool) throws(WireError) -> [String] {
        guard let array = try optionalStrings(compact: compact) else { throw .unexpectedNull }
        return array
    }

    /// An array of strings, or null where `nullable`.
    package mutating func optionalStrings(
        compact: Bool,
        nullable: Bool = true
    ) throws(WireError) -> [String]? {
        guard let count = try length(compact: compact, minimumByteCount: compact ? 1 : 2) else {
            return try null(nullable)
        }
        try spend(count)
        var array: [String] = []
        array.reserveCapacity(count)
        for _ in 0..<count {
            array.append(try string(compact: compact))
        }
        return array
    }

    /// A nullable struct: a byte that tells whether it is there, then the struct.
    package mutating func optionalStruct<Value: WireStruct>(
        _ type: Value.Type,
        version: Int16
    ) throws(WireError) -> Value? {
        let marker = try int8()
        switch marker {
        case -1: return nil
        case 1: return try Value(from: &self, version: version)
        default: throw .invalidMarker(marker)
        }
    }

    // MARK: Tagged fields

    /// The tagged fields at the end of a struct, while they are read.
    package struct Tags {
        fileprivate var fieldsLeft: Int
        fileprivate var lastTag: Int
        /// The end of what encloses the struct, while `end` is that of one field.
        fileprivate var outerEnd: Int
    }

    /// Begins the tagged fields of a struct.
    package mutating func openTags() throws(WireError) -> Tags {
        let count = Int(try uvarint())
        // A tag and a size take a byte each.
        guard count * 2 <= left else { throw .invalidLength(count, left: left) }
        try spend(count)
        return Tags(fieldsLeft: count, lastTag: -1, outerEnd: end)
    }

    /// The next tag, or nil after the last; until `closeTag` only the bytes of its value can be read.
    package mutating func nextTag(_ tags: inout Tags) throws(WireError) -> UInt32? {
        guard tags.fieldsLeft > 0 else { return nil }
        tags.fieldsLeft -= 1
        let tag = try uvarint()
        guard Int(tag) > tags.lastTag else { throw .tagOutOfOrder(tag) }
        tags.lastTag = Int(tag)
        let size = Int(try uvarint())
        guard size <= left else { throw .invalidLength(size, left: left) }
        end = position + size
        return tag
    }

    /// The value of a tag that the schema does not know.
    package mutating func unknownTag(_ tag: UInt32) throws(WireError) -> TaggedField {
        TaggedField(tag: tag, bytes: try slice(left))
    }

    /// Ends the value of a tag, which must have been read to its end.
    package mutating func closeTag(_ tags: Tags) throws(WireError) {
        guard left == 0 else { throw .tagSizeMismatch(left: left) }
        end = tags.outerEnd
    }

    /// The tagged fields of a struct whose schema knows none.
    package mutating func unknownTags() throws(WireError) -> [TaggedField] {
        var tags = try openTags()
        var fields: [TaggedField] = []
        while let tag = try nextTag(&tags) {
            fields.append(try unknownTag(tag))
            try closeTag(tags)
        }
        return fields
    }
}
