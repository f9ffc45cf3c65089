import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import Testing

import struct NIOCore.ByteBuffer

@Suite("Frames between brokers")
struct PeerWireTests {
    @Test("Every kind of message survives the wire", arguments: 0..<60 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var samples = PeerWireSamples(seed: seed)
        for sample in samples.everyKind() {
            let frame = sample.frame
            let received = try PeerMessage(decoding: frame)
            try expectSame(received, sample)
            #expect(received.frame == frame)
        }
    }

    private func expectSame(_ received: PeerMessage, _ sent: PeerMessage) throws {
        switch (received, sent) {
        case (.raft(let received), .raft(let sent)):
            #expect(received.partition == sent.partition)
            #expect(received.senderEpoch == sent.senderEpoch)
            #expect(received.targetEpoch == sent.targetEpoch)
            #expect(received.message == sent.message)
            #expect(received.entries.map(\.frame) == sent.entries.map(\.frame))
            #expect(received.entries.map(\.payload) == sent.entries.map(\.payload))
        case (.beat(let received), .beat(let sent)):
            #expect(received == sent)
        case (.beatAnswer(let received), .beatAnswer(let sent)):
            #expect(received == sent)
        case (.application(let kind, let bytes), .application(let sentKind, let sentBytes)):
            #expect(kind == sentKind)
            #expect(bytes == sentBytes)
        case (.replica(let received), .replica(let sent)):
            #expect(received.partition == sent.partition)
            #expect(received.senderEpoch == sent.senderEpoch)
            #expect(received.targetEpoch == sent.targetEpoch)
            #expect(received.kind == sent.kind)
            #expect(received.parts.joined == sent.parts.joined)
        default:
            Issue.record("another kind arrived: \(received) for \(sent)")
        }
    }

    @Test("The length counts all that follows it", arguments: 0..<10 as Range<UInt64>)
    func length(seed: UInt64) {
        var samples = PeerWireSamples(seed: seed)
        for sample in samples.everyKind() {
            let parts = sample.encoded()
            let length = parts[0].getInteger(at: 0, endianness: .little, as: UInt32.self)
            let byteCount = parts.reduce(0) { $0 + $1.readableBytes }
            #expect(length.map(Int.init) == byteCount - PeerMessage.lengthByteCount)
        }
    }

    @Test("Frames between replicas have a destination, and it is their partition")
    func destination() {
        var samples = PeerWireSamples(seed: 1)
        for sample in samples.everyKind() {
            switch sample {
            case .raft(let envelope):
                #expect(PeerMessage.destination(of: sample.frame) == envelope.partition)
            case .replica(let message):
                #expect(PeerMessage.destination(of: sample.frame) == message.partition)
            case .beat, .beatAnswer, .application:
                #expect(PeerMessage.destination(of: sample.frame) == nil)
            }
        }
    }

    @Test("A destination needs no more than the first 21 bytes, and no fewer")
    func destinationOfCutFrame() {
        var samples = PeerWireSamples(seed: 2)
        let envelope = samples.appendEnvelope(entryCount: 1)
        let frame = PeerMessage.raft(envelope).frame
        for count in 0..<21 {
            #expect(PeerMessage.destination(of: frame.prefix(count)) == nil)
        }
        #expect(PeerMessage.destination(of: frame.prefix(21)) == envelope.partition)
        // A partition below zero would be routed by a negative number.
        #expect(PeerMessage.destination(of: frame.changing(20, by: 0x80)) == nil)
    }

    @Test("Payloads leave as they lie in memory")
    func encodingCopiesNoPayload() {
        var samples = PeerWireSamples(seed: 3)
        let envelope = samples.appendEnvelope(entryCount: 7)
        let parts = PeerMessage.raft(envelope).encoded()
        let expected = envelope.entries.flatMap { entry in
            entry.body.readableBytes > 0 ? [entry.frameAndHead, entry.body] : [entry.frameAndHead]
        }
        #expect(parts.dropFirst().map(\.address) == expected.map(\.address))

        let bytes = ByteBuffer(string: "forwarded")
        let application = PeerMessage.application(kind: 1, bytes).encoded()
        #expect(application.last?.address == bytes.address)
    }

    @Test("Payloads are received as slices of their frame")
    func decodingCopiesNoPayload() throws {
        var samples = PeerWireSamples(seed: 4)
        let frame = PeerMessage.raft(samples.appendEnvelope(entryCount: 7)).frame
        guard case .raft(let envelope) = try PeerMessage(decoding: frame) else {
            Issue.record("a raft frame is one")
            return
        }
        let room = frame.address...frame.address + UInt(frame.readableBytes)
        #expect(envelope.entries.count == 7)
        for entry in envelope.entries {
            #expect(room.contains(entry.frameAndHead.address))
            #expect(room.contains(entry.body.address))
        }
    }

    @Test("A frame may be as long as its limit says")
    func longestFrame() {
        let kindByteCount = 3
        let bytes = ByteBuffer(
            repeating: 7,
            count: PeerMessage.maximumByteCount - kindByteCount
        )
        let parts = PeerMessage.application(kind: 9, bytes).encoded()
        let length = parts[0].getInteger(at: 0, endianness: .little, as: UInt32.self)
        #expect(length.map(Int.init) == PeerMessage.maximumByteCount)
        #expect(parts.last?.readableBytes == bytes.readableBytes)
    }

    @Test("The layout of version 3 stays as it is")
    func layout() {
        let beat = PeerBeat(
            sequence: 0x0102_0304_0506_0708,
            incarnation: BrokerIncarnation(high: 0x11, low: 0x22)
        )
        let beatBytes = "0807060504030201 1100000000000000 2200000000000000"
        #expect(PeerMessage.beat(beat).hex == hex("19000000 02 \(beatBytes)"))
        #expect(PeerMessage.beatAnswer(beat).hex == hex("19000000 03 \(beatBytes)"))
        let application = PeerMessage.application(kind: 0x0102, ByteBuffer(bytes: [0xAB, 0xCD]))
        #expect(application.hex == hex("05000000 04 0201 abcd"))
        let replica = ReplicaMessage(
            partition: TopicPartition(topic: TopicID(high: 1, low: 2), partition: 3),
            senderEpoch: CreationEpoch(4),
            targetEpoch: CreationEpoch(5),
            kind: 0x0102,
            parts: [ByteBuffer(bytes: [0xAB]), ByteBuffer(bytes: [0xCD])]
        )
        let address = "0100000000000000 0200000000000000 03000000 0400000000000000 0500000000000000"
        #expect(PeerMessage.replica(replica).hex == hex("29000000 05 \(address) 0201 abcd"))
        let position = LogPosition(term: Term(3), index: LogIndex(4))
        expectFields(
            .preVoteRequest(PreVoteRequest(term: Term(5), lastEntry: position)),
            "01 05000000 03000000 0400000000000000"
        )
        expectFields(
            .preVoteResponse(PreVoteResponse(term: Term(5), isGranted: true)),
            "02 05000000 01"
        )
        expectFields(
            .voteRequest(VoteRequest(term: Term(5), lastEntry: position, isTransfer: true)),
            "03 05000000 03000000 0400000000000000 01"
        )
        expectFields(.voteResponse(VoteResponse(term: Term(5), isGranted: false)), "04 05000000 00")
        expectFields(
            .appendResponse(
                AppendResponse(term: Term(5), sequence: 6, outcome: .matched(LogIndex(7)))
            ),
            "06 05000000 0600000000000000 00 0700000000000000"
        )
        expectFields(
            .appendResponse(
                AppendResponse(
                    term: Term(5),
                    sequence: 6,
                    outcome: .rejected(previous: LogIndex(7), hint: position)
                )
            ),
            "06 05000000 0600000000000000 01 0700000000000000 03000000 0400000000000000"
        )
    }

    @Test("The layout of version 3 stays as it is, for what leaders say")
    func leadersLayout() {
        let position = LogPosition(term: Term(3), index: LogIndex(4))
        expectFields(
            .appendRequest(
                AppendRequest(
                    term: Term(5),
                    sequence: 6,
                    previous: position,
                    entries: [],
                    commitIndex: LogIndex(2),
                    lastIndex: LogIndex(9)
                )
            ),
            """
            05 03000000 0400000000000000 0200000000000000 0900000000000000 0600000000000000
            05000000 00000000
            """
        )
        expectFields(
            .heartbeatRequest(
                HeartbeatRequest(term: Term(5), round: 6, commitIndex: LogIndex(7), goesQuiet: true)
            ),
            "07 05000000 0600000000000000 0700000000000000 01"
        )
        expectFields(
            .heartbeatResponse(
                HeartbeatResponse(
                    term: Term(5),
                    round: 6,
                    verifiedIndex: LogIndex(8),
                    commitIndex: LogIndex(7)
                )
            ),
            "08 05000000 0600000000000000 0800000000000000 0700000000000000"
        )
        expectFields(
            .snapshotOffer(SnapshotOffer(term: Term(5), sequence: 6, position: position)),
            "09 05000000 0600000000000000 03000000 0400000000000000"
        )
        expectFields(.timeoutNow(TimeoutNow(term: Term(5))), "0a 05000000")
    }

    private func expectFields(
        _ message: FlotillaRaft.Message,
        _ fields: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let envelope = RaftEnvelope(
            partition: TopicPartition(topic: TopicID(high: 1, low: 2), partition: 3),
            senderEpoch: CreationEpoch(4),
            targetEpoch: CreationEpoch(5),
            message: message
        )
        let address = """
            0100000000000000 0200000000000000 03000000 0400000000000000 0500000000000000
            """
        let body = hex("01 \(address) \(fields)")
        let length = hex(ByteBuffer(integer: UInt32(body.count / 2), endianness: .little))
        #expect(PeerMessage.raft(envelope).hex == length + body, sourceLocation: sourceLocation)
    }

    private func hex(_ text: String) -> String {
        text.filter { !$0.isWhitespace }
    }

    private func hex(_ buffer: ByteBuffer) -> String {
        buffer.readableBytesView.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension PeerMessage {
    /// The frame with its length as hexadecimal digits.
    fileprivate var hex: String {
        encoded().flatMap(\.readableBytesView)
            .map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}

extension ByteBuffer {
    /// Where the readable bytes lie; equal for slices that share their memory.
    fileprivate var address: UInt {
        unsafe withUnsafeReadableBytes { bytes in UInt(bitPattern: bytes.baseAddress) }
    }

    /// The first bytes, as if the rest had not arrived.
    func prefix(_ count: Int) -> ByteBuffer {
        ByteBuffer(bytes: readableBytesView.prefix(count))
    }
}

extension [ByteBuffer] {
    /// All parts in one piece.
    fileprivate var joined: ByteBuffer {
        reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) }
    }
}
