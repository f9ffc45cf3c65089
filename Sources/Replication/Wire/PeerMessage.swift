package import FlotillaModel
import FlotillaRecords

package import struct NIOCore.ByteBuffer

/// What one broker says to another, after the hello: one frame of a peer connection.
///
/// Little endian. The version of all frames is `PeerGreeting.version`, which the hello carries, so
/// frames have none of their own. A frame:
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | length of what follows, at most `maximumByteCount` |
/// | 4 | kind: 1 raft, 2 beat, 3 answer to a beat, 4 application, 5 replica |
/// | 5- | body |
///
/// The body of a beat and of its answer:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | sequence |
/// | 8-15, 16-23 | the sender's incarnation, its two halves |
///
/// The body of an application message:
///
/// | bytes | field |
/// |---|---|
/// | 0-1 | which message, given by the layer above |
/// | 2- | its bytes |
///
/// `RaftEnvelope` and `Message` show the body of a raft frame, `ReplicaMessage` that of a replica's. Entries carry the checksums that they
/// have on disk; the few bytes around them rely on the connection.
package enum PeerMessage: Sendable {
    /// Between two replicas of a partition.
    case raft(RaftEnvelope)
    /// "Are you there?"
    case beat(PeerBeat)
    /// "I am": the beat's sequence, and the incarnation of who answers.
    case beatAnswer(PeerBeat)
    /// Something of the layer above.
    case application(kind: UInt16, ByteBuffer)
    /// Between two replicas of a partition, beside Raft.
    case replica(ReplicaMessage)

    /// The most that a frame's length may say: 128 MiB, room for the largest batch.
    package static let maximumByteCount = 128 << 20

    /// The bytes of a frame's length, which come before the frame itself.
    package static let lengthByteCount = 4

    /// Byte 4 of a frame, the first after its length.
    enum Kind: UInt8 {
        case raft = 1
        case beat = 2
        case beatAnswer = 3
        case application = 4
        case replica = 5
    }

    // MARK: Writing

    /// The frame with its length: a first buffer, and the payloads as they are, without a copy.
    package func encoded() -> [ByteBuffer] {
        var head = ByteBuffer()
        head.reserveCapacity(RaftEnvelope.roomyHeadByteCount)
        head.writeInteger(UInt32(0))
        head.writeInteger(kind.rawValue)
        var payloadByteCount = 0
        switch self {
        case .raft(let envelope):
            envelope.writeHead(into: &head)
            payloadByteCount = envelope.entries.reduce(0) { $0 + $1.byteCount }
        case .beat(let beat), .beatAnswer(let beat):
            beat.write(into: &head)
        case .application(let kind, let bytes):
            head.writeInteger(kind, endianness: .little)
            payloadByteCount = bytes.readableBytes
        case .replica(let message):
            message.writeHead(into: &head)
            payloadByteCount = message.parts.reduce(0) { $0 + $1.readableBytes }
        }
        let byteCount = head.readableBytes - Self.lengthByteCount + payloadByteCount
        precondition(byteCount <= Self.maximumByteCount, "a frame keeps its limit")
        head.setInteger(UInt32(byteCount), at: 0, endianness: .little)
        return withPayload(after: head)
    }

    private func withPayload(after head: ByteBuffer) -> [ByteBuffer] {
        var parts = [head]
        switch self {
        case .raft(let envelope):
            parts.reserveCapacity(1 + 2 * envelope.entries.count)
            for entry in envelope.entries {
                entry.appendParts(to: &parts)
            }
        case .beat, .beatAnswer:
            break
        case .application(_, let bytes):
            if bytes.readableBytes > 0 {
                parts.append(bytes)
            }
        case .replica(let message):
            parts += message.parts
        }
        return parts
    }

    private var kind: Kind {
        switch self {
        case .raft: .raft
        case .beat: .beat
        case .beatAnswer: .beatAnswer
        case .application: .application
        case .replica: .replica
        }
    }

    // MARK: Reading

    /// Reads a frame and checks every entry in it to the last byte.
    ///
    /// Entries and application bytes are slices of `frame`: they keep all of it in memory.
    ///
    /// - Parameter frame: the frame without its length, and nothing behind it.
    /// - Throws: what makes the bytes no frame of this version; the connection is of no use then.
    package init(decoding frame: ByteBuffer) throws(PeerWireError) {
        var fields = PeerFields(frame)
        let rawKind = try fields.integer(UInt8.self)
        guard let kind = Kind(rawValue: rawKind) else {
            throw .unknownFrameKind(rawKind)
        }
        switch kind {
        case .raft:
            self = .raft(try RaftEnvelope(reading: &fields))
        case .beat:
            self = .beat(try PeerBeat(reading: &fields))
        case .beatAnswer:
            self = .beatAnswer(try PeerBeat(reading: &fields))
        case .application:
            self = .application(kind: try fields.integer(UInt16.self), fields.takeRest())
        case .replica:
            self = .replica(try ReplicaMessage(reading: &fields))
        }
        try fields.finish()
    }

    /// The partition that a raft or replica frame is for, without reading the rest: which shard to hand it to.
    ///
    /// - Parameter frame: a frame without its length.
    /// - Returns: nil for other kinds, and for bytes that `init(decoding:)` refuses because they
    ///   name no partition.
    package static func destination(of frame: ByteBuffer) -> TopicPartition? {
        var fields = PeerFields(frame)
        guard let kind = try? fields.integer(UInt8.self),
            kind == Kind.raft.rawValue || kind == Kind.replica.rawValue
        else { return nil }
        return try? fields.partition()
    }
}

/// A sign of life of a broker, and the answer to one.
package struct PeerBeat: Hashable, Sendable {
    /// Numbers the beats of a shard; the answer repeats it.
    package var sequence: UInt64
    /// Which life of the sender's directories, in a beat and in an answer.
    package var incarnation: BrokerIncarnation

    /// Makes a beat, or the answer to the beat with this sequence.
    package init(sequence: UInt64, incarnation: BrokerIncarnation) {
        self.sequence = sequence
        self.incarnation = incarnation
    }

    init(reading fields: inout PeerFields) throws(PeerWireError) {
        sequence = try fields.integer(UInt64.self)
        let high = try fields.integer(UInt64.self)
        incarnation = BrokerIncarnation(high: high, low: try fields.integer(UInt64.self))
    }

    func write(into buffer: inout ByteBuffer) {
        buffer.writeInteger(sequence, endianness: .little)
        buffer.writeInteger(incarnation.high, endianness: .little)
        buffer.writeInteger(incarnation.low, endianness: .little)
    }
}
