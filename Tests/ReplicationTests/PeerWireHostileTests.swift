import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import Testing

import struct NIOCore.ByteBuffer

/// Bytes from a peer are never trusted: what is no frame ends in a typed error, never in a trap.
@Suite("Hostile frames between brokers")
struct PeerWireHostileTests {
    @Test("A frame cut at any byte is refused", arguments: 0..<4 as Range<UInt64>)
    func cut(seed: UInt64) {
        var samples = PeerWireSamples(seed: seed)
        for sample in samples.everyKind() {
            let frame = sample.frame
            let firstOpen = sample.openByteCount ?? frame.readableBytes
            for count in 0..<firstOpen {
                #expect(throws: PeerWireError.self, "\(count) bytes of \(sample)") {
                    try PeerMessage(decoding: frame.prefix(count))
                }
            }
        }
    }

    @Test("A byte behind a frame is refused")
    func trailing() {
        var samples = PeerWireSamples(seed: 1)
        for sample in samples.everyKind() {
            guard sample.openByteCount == nil else { continue }
            var frame = sample.frame
            frame.writeInteger(UInt8(0))
            #expect(throws: PeerWireError.trailingBytes(1)) { try PeerMessage(decoding: frame) }
        }
    }

    @Test("A change of any bit of an entry is detected", arguments: 0..<6 as Range<UInt64>)
    func flippedEntry(seed: UInt64) {
        var samples = PeerWireSamples(seed: seed)
        let envelope = samples.appendEnvelope(entryCount: 7)
        let frame = PeerMessage.raft(envelope).frame
        let start = frame.readableBytes - envelope.entries.reduce(0) { $0 + $1.byteCount }
        for position in start..<frame.readableBytes {
            for bit in 0..<8 {
                let changed = frame.changing(position, by: 1 << UInt8(bit))
                #expect(throws: PeerWireError.self, "bit \(bit) of byte \(position)") {
                    try PeerMessage(decoding: changed)
                }
            }
        }
    }

    @Test("Random changes end in errors or in other frames", arguments: 0..<40 as Range<UInt64>)
    func mutated(seed: UInt64) {
        var samples = PeerWireSamples(seed: seed)
        for sample in samples.everyKind() {
            let frame = sample.frame
            for _ in 0..<20 {
                let bytes = Self.mutated(frame, using: &samples.random)
                fuzzPeerFrame(bytes.readableBytesSpan)
            }
        }
    }

    @Test("Random bytes end in errors or in frames", arguments: 0..<40 as Range<UInt64>)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for count in 0..<200 {
            let bytes = ByteBuffer(
                bytes: (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            )
            fuzzPeerFrame(bytes.readableBytesSpan)
        }
    }

    @Test("Kinds that do not exist are refused by name")
    func unknownKinds() {
        for kind: UInt8 in [0, 6, 255] {
            #expect(throws: PeerWireError.unknownFrameKind(kind)) {
                try PeerMessage(decoding: ByteBuffer(bytes: [kind]))
            }
        }
        let frame = Self.frame(.timeoutNow(TimeoutNow(term: Term(1))))
        for kind: UInt8 in [0, 11, 255] {
            #expect(throws: PeerWireError.unknownMessageKind(kind)) {
                try PeerMessage(decoding: frame.changing(37, by: 10 ^ kind))
            }
        }
    }

    @Test("Numbers that their fields never have are refused by name")
    func outOfRange() {
        let position = LogPosition(term: Term(1), index: LogIndex(1))
        let high = UInt64(1) << 63
        let vote = Self.frame(
            .voteRequest(VoteRequest(term: Term(1), lastEntry: position, isTransfer: false))
        )
        let matched = AppendResponse(term: Term(1), sequence: 1, outcome: .matched(.zero))
        let table: [(ByteBuffer, position: Int, mask: UInt8, PeerWireError)] = [
            (vote, 20, 0x80, .fieldOutOfRange(.partition, 0x8000_0000)),
            (vote, 41, 0x80, .fieldOutOfRange(.term, 0x8000_0001)),
            (vote, 45, 0x80, .fieldOutOfRange(.lastTerm, 0x8000_0001)),
            (vote, 53, 0x80, .fieldOutOfRange(.lastIndex, high + 1)),
            (vote, 54, 0x02, .fieldOutOfRange(.isTransfer, 2)),
            (Self.frame(.appendResponse(matched)), 50, 0x02, .fieldOutOfRange(.outcome, 2)),
        ]
        for (frame, position, mask, error) in table {
            #expect(throws: error) {
                try PeerMessage(decoding: frame.changing(position, by: mask))
            }
        }
    }

    @Test("Every error is a sentence")
    func sentences() {
        let errors: [PeerWireError] = [
            .truncated(needed: 8, found: 3),
            .entryDamaged(place: 2, .batchChecksumMismatch(stored: 1, computed: 2)),
            .fieldOutOfRange(.commitIndex, 1 << 63),
        ]
        let expected = [
            "the frame ends early: 8 bytes needed, 3 there",
            "the entry in place 2 was refused: the batch fails its checksum (stored 1, computed 2)",
            "the commit index is out of range: 9223372036854775808",
        ]
        #expect(errors.map(\.description) == expected)
    }

    private static func frame(_ message: FlotillaRaft.Message) -> ByteBuffer {
        let envelope = RaftEnvelope(
            partition: .clusterMetadata,
            senderEpoch: CreationEpoch(1),
            targetEpoch: CreationEpoch(2),
            message: message
        )
        return PeerMessage.raft(envelope).frame
    }

    private static func mutated(
        _ original: ByteBuffer,
        using random: inout SeededRandom
    ) -> ByteBuffer {
        var bytes = Array(original.readableBytesView)
        let interesting: [UInt8] = [0x00, 0x01, 0x7F, 0x80, 0xFF]
        for _ in 0..<Int.random(in: 1...5, using: &random) where !bytes.isEmpty {
            let position = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &random)
            case 1: bytes[position] = UInt8.random(in: .min ... .max, using: &random)
            case 2:
                bytes[position] = interesting[Int.random(in: 0..<interesting.count, using: &random)]
            case 3: bytes.removeSubrange(position..<min(bytes.count, position + 3))
            default: bytes.insert(contentsOf: bytes.prefix(position).suffix(4), at: position)
            }
        }
        return ByteBuffer(bytes: bytes)
    }
}

extension PeerMessage {
    /// The bytes before a body that has no length of its own: as long as the frame is, it is taken.
    fileprivate var openByteCount: Int? {
        switch self {
        case .application: 3
        case .replica: 39
        case .raft, .beat, .beatAnswer: nil
        }
    }
}
