import FlotillaModel

import struct NIOCore.ByteBuffer

/// The bytes of a frame that are still to be read, taken field by field.
///
/// Every length is compared with what is left before it is used, and every number with its range:
/// whatever is built from them adds and counts without overflow.
struct PeerFields {
    /// What is left.
    private(set) var rest: ByteBuffer

    init(_ frame: ByteBuffer) {
        rest = frame
    }

    /// The next integer, of any value.
    mutating func integer<Number: FixedWidthInteger>(
        _ type: Number.Type
    ) throws(PeerWireError) -> Number {
        let found = rest.readableBytes
        guard let number = rest.readInteger(endianness: .little, as: type) else {
            throw .truncated(needed: Number.bitWidth / 8, found: found)
        }
        return number
    }

    /// A byte that is 0 or 1.
    mutating func flag(_ field: PeerWireField) throws(PeerWireError) -> Bool {
        switch try integer(UInt8.self) {
        case 0: false
        case 1: true
        case let value: throw .fieldOutOfRange(field, UInt64(value))
        }
    }

    /// A term, at most what Kafka's leader epoch holds.
    mutating func term(_ field: PeerWireField = .term) throws(PeerWireError) -> Term {
        let number = try integer(UInt32.self)
        guard number <= UInt32(Int32.max) else {
            throw .fieldOutOfRange(field, UInt64(number))
        }
        return Term(number)
    }

    /// An index, in the range that frames have: the index after it is one too.
    mutating func index(_ field: PeerWireField) throws(PeerWireError) -> LogIndex {
        let number = try integer(UInt64.self)
        guard number < UInt64(Int64.max) else {
            throw .fieldOutOfRange(field, number)
        }
        return LogIndex(number)
    }

    /// The term and the index of an entry, or zeros for "before the log".
    mutating func position(
        _ term: PeerWireField,
        _ index: PeerWireField
    ) throws(PeerWireError) -> LogPosition {
        let entryTerm = try self.term(term)
        return LogPosition(term: entryTerm, index: try self.index(index))
    }

    /// A topic and the number of one of its partitions.
    mutating func partition() throws(PeerWireError) -> TopicPartition {
        let high = try integer(UInt64.self)
        let low = try integer(UInt64.self)
        let number = try integer(Int32.self)
        guard number >= 0 else {
            throw .fieldOutOfRange(.partition, UInt64(UInt32(bitPattern: number)))
        }
        return TopicPartition(topic: TopicID(high: high, low: low), partition: number)
    }

    /// Reads with a parser of another target, which moves the reader or leaves it and throws.
    mutating func parse<Value, Failure: Error>(
        _ parser: (inout ByteBuffer) throws(Failure) -> Value
    ) throws(Failure) -> Value {
        try parser(&rest)
    }

    /// All that is left, without a copy.
    mutating func takeRest() -> ByteBuffer {
        let all = rest.slice()
        rest.moveReaderIndex(forwardBy: all.readableBytes)
        return all
    }

    /// Says that the last field was read.
    func finish() throws(PeerWireError) {
        guard rest.readableBytes == 0 else {
            throw .trailingBytes(rest.readableBytes)
        }
    }
}
