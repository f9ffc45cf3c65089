import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import NIOCore
import Testing

@Suite("The first bytes of a peer connection")
struct PeerHelloTests {
    static let hello = PeerHello(
        purpose: .question,
        lane: .bulk,
        broker: BrokerID(7),
        incarnation: BrokerIncarnation(high: 0x0102, low: 0xF0E0),
        clusterID: "Ab-c",
        shard: 5,
        body: ByteBuffer(bytes: [9, 8, 7])
    )

    static let refusal = PeerHelloAnswer(
        .refused("the brokers' --join lists differ: größer"),
        broker: BrokerID(8),
        incarnation: BrokerIncarnation(high: 3, low: 4),
        clusterID: "",
        body: ByteBuffer(bytes: [1])
    )

    @Test("A hello's bytes are these")
    func layout() {
        let expected: [UInt8] =
            Array("FlotPeer".utf8) + [3, 0, 1, 1, 55, 0, 0, 0] + [7, 0, 0, 0] + [5, 0, 0, 0]
            + [2, 1, 0, 0, 0, 0, 0, 0] + [0xE0, 0xF0, 0, 0, 0, 0, 0, 0] + [4, 0, 0, 0]
            + [3, 0, 0, 0] + Array("Ab-c".utf8) + [9, 8, 7]
        #expect(Self.hello.bytes == expected)
    }

    @Test("Both come out as they went in, byte by byte, and what follows stays")
    func drip() throws {
        var stream = ByteBuffer()
        for byte in Self.hello.bytes.dropLast() {
            stream.writeInteger(byte)
            #expect(try PeerHello.take(from: &stream) == nil)
        }
        stream.writeBytes(Self.hello.bytes.suffix(1) + [42])
        #expect(try PeerHello.take(from: &stream) == Self.hello)
        #expect(Array(stream.readableBytesView) == [42])

        var answers = ByteBuffer()
        for byte in Self.refusal.bytes.dropLast() {
            answers.writeInteger(byte)
            #expect(try PeerHelloAnswer.take(from: &answers) == nil)
        }
        answers.writeBytes(Self.refusal.bytes.suffix(1))
        #expect(try PeerHelloAnswer.take(from: &answers) == Self.refusal)
        #expect(answers.readableBytes == 0)
    }

    @Test(
        "Verdicts come out as they went in",
        arguments: [
            (.refused("no"), 0), (.accepted, 1), (.notYet("it is still starting"), 2),
        ] as [(PeerHelloAnswer.Verdict, UInt8)]
    )
    func verdicts(verdict: PeerHelloAnswer.Verdict, code: UInt8) throws {
        var answer = Self.refusal
        answer.verdict = verdict
        #expect(answer.bytes[10] == code)
        var stream = ByteBuffer(bytes: answer.bytes)
        #expect(try PeerHelloAnswer.take(from: &stream) == answer)
        var bytes = answer.bytes
        bytes[10] = 3
        var other = ByteBuffer(bytes: bytes)
        #expect(throws: PeerHelloError.valueOutOfBounds(field: "verdict", value: 3)) {
            try PeerHelloAnswer.take(from: &other)
        }
    }

    @Test("Foreign bytes are known by the first eight")
    func foreign() {
        var stream = ByteBuffer(string: "SSH-2.0-")
        #expect(throws: PeerHelloError.foreignBytes) { try PeerHello.take(from: &stream) }
        var swapped = ByteBuffer(bytes: Self.refusal.bytes)
        #expect(throws: PeerHelloError.foreignBytes) { try PeerHello.take(from: &swapped) }
    }

    @Test("Another version is named when all of its hello is there")
    func version() throws {
        var bytes = Self.hello.bytes
        bytes[8] = 1
        var stream = ByteBuffer(bytes: bytes.dropLast())
        #expect(try PeerHello.take(from: &stream) == nil)
        stream.writeBytes(bytes.suffix(1))
        #expect(throws: PeerHelloError.unsupportedVersion(1)) {
            try PeerHello.take(from: &stream)
        }
        #expect(stream.readableBytes == 0)
    }

    @Test(
        "Lengths that cannot be are refused",
        arguments: [(12, 0), (12, 47), (14, 0x7F), (12, 54), (40, 65), (40, 5), (44, 2), (47, 1)]
    )
    func lengths(position: Int, value: Int) {
        var bytes = Self.hello.bytes
        bytes[position] = UInt8(value)
        var stream = ByteBuffer(bytes: bytes)
        let error = #expect(throws: PeerHelloError.self) { try PeerHello.take(from: &stream) }
        guard case .lengthOutOfBounds = error else {
            Issue.record("\(String(describing: error)) is not about a length")
            return
        }
    }

    @Test("Whatever byte is damaged, the bytes are taken, waited for or refused")
    func damage() {
        let originals = [Self.hello.bytes, Self.refusal.bytes]
        var refusedCount = 0
        for (kind, original) in originals.enumerated() {
            for position in original.indices {
                for flip: UInt8 in [1, 0x80, 0xFF] {
                    var bytes = original
                    bytes[position] ^= flip
                    var stream = ByteBuffer(bytes: bytes)
                    do {
                        if kind == 0 {
                            _ = try PeerHello.take(from: &stream)
                        } else {
                            _ = try PeerHelloAnswer.take(from: &stream)
                        }
                    } catch {
                        #expect(!error.description.isEmpty)
                        refusedCount += 1
                    }
                }
            }
        }
        #expect(refusedCount > 80)
    }

    @Test("A sentence that is too long is cut between characters")
    func longSentence() throws {
        let answer = PeerHelloAnswer(
            .refused("x" + String(repeating: "ü", count: 4000)),
            broker: BrokerID(8),
            incarnation: BrokerIncarnation(high: 3, low: 4),
            clusterID: ""
        )
        var stream = answer.encoded
        let taken = try #require(try PeerHelloAnswer.take(from: &stream))
        #expect(taken.verdict == .refused("x" + String(repeating: "ü", count: 2047)))
    }
}
