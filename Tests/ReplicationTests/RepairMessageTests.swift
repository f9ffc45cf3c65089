import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import Testing

import struct NIOCore.ByteBuffer

/// What replicas say to each other to heal: from hostile bytes a typed error, and from ours the same message.
@Suite("Messages of repairs")
struct RepairMessageTests {
    private func samples(_ seed: UInt64) -> [RepairMessage] {
        var samples = PeerWireSamples(seed: seed)
        let entries = samples.entries(
            5,
            after: LogPosition(term: Term(3), index: LogIndex(samples.random.next() >> 8))
        )
        return [
            .entriesWanted(number: 1, LogIndex(7)...LogIndex(9), maxByteCount: 100),
            .entries(number: 2, entries),
            .entries(number: 2, [entries[0]]),
            .stateWanted(
                number: 3,
                SegmentName(baseOffset: Offset(8), firstIndex: LogIndex(9))
            ),
            .state(number: 4, ByteBuffer(bytes: [1, 2, 3])),
            .state(number: 4, ByteBuffer()),
            .declined(number: 5, .damaged, next: LogIndex(11)),
        ]
    }

    /// The message as the other side receives it.
    private func received(_ message: RepairMessage) -> ReplicaMessage {
        var received = message.message(
            of: .clusterMetadata,
            from: CreationEpoch(1),
            to: CreationEpoch(2)
        )
        var joined = ByteBuffer()
        for part in received.parts { joined.writeImmutableBuffer(part) }
        received.parts = [joined]
        return received
    }

    @Test("are read as they were written", arguments: 0..<20 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        for sample in samples(seed) {
            let message = received(sample)
            #expect(RepairMessage.kinds.contains(message.kind))
            #expect(received(try RepairMessage(message)) == message)
        }
    }

    @Test(
        "cut at any byte are refused, and so is a byte behind them",
        arguments: 0..<3 as Range<UInt64>
    )
    func cut(seed: UInt64) {
        for sample in samples(seed) {
            let isOpen = if case .state = sample { true } else { false }
            var message = received(sample)
            let bytes = message.parts[0]
            for count in 0..<(isOpen ? 8 : bytes.readableBytes) {
                message.parts = [
                    bytes.getSlice(at: bytes.readerIndex, length: count) ?? ByteBuffer()
                ]
                #expect(throws: PeerWireError.self, "\(count) bytes") { try RepairMessage(message) }
            }
            guard !isOpen else { continue }
            var longer = bytes
            longer.writeInteger(UInt8(0))
            message.parts = [longer]
            #expect(throws: PeerWireError.self) { try RepairMessage(message) }
        }
    }

    @Test("with any bit of an entry changed are refused")
    func flipped() {
        let sample = received(samples(1)[1])
        let bytes = sample.parts[0]
        for position in 20..<bytes.readableBytes {
            for bit in UInt8(0)..<8 {
                var message = sample
                var changed = bytes
                let byte: UInt8 = bytes.getInteger(at: position) ?? 0
                changed.setInteger(byte ^ (1 << bit), at: position)
                message.parts = [changed]
                #expect(throws: PeerWireError.self) { try RepairMessage(message) }
            }
        }
    }

    @Test("that lie about counts, indexes and kinds are refused, and reserve nothing")
    func lies() {
        func refuse(_ kind: UInt16, _ hexadecimal: String) {
            var bytes = ByteBuffer()
            let digits = hexadecimal.filter { $0 != " " }
            var rest = Substring(digits)
            while let byte = UInt8(rest.prefix(2), radix: 16) {
                bytes.writeInteger(byte)
                rest = rest.dropFirst(2)
            }
            let message = ReplicaMessage(
                partition: .clusterMetadata,
                senderEpoch: CreationEpoch(1),
                targetEpoch: CreationEpoch(2),
                kind: kind,
                parts: [bytes]
            )
            #expect(throws: PeerWireError.self, "\(kind) \(hexadecimal)") {
                try RepairMessage(message)
            }
        }
        let number = "0100000000000000"
        // No first entry, the last before the first, an index that has no next one.
        refuse(1, "\(number) 0000000000000000 0500000000000000 00000001")
        refuse(1, "\(number) 0600000000000000 0500000000000000 00000001")
        refuse(1, "\(number) 0600000000000000 ffffffffffffffff 00000001")
        // No entries, four billion of them, an entry 0.
        refuse(2, "\(number) 0600000000000000 00000000")
        refuse(2, "\(number) 0600000000000000 ffffffff")
        refuse(2, "\(number) 0000000000000000 01000000")
        refuse(3, "\(number) ffffffffffffffff 0600000000000000")
        refuse(3, "\(number) 0600000000000000 0000000000000000")
        refuse(5, "\(number) 00 0600000000000000")
        refuse(5, "\(number) 04 0600000000000000")
        for kind: UInt16 in [0, 6, 15, 16, 65_535] { refuse(kind, number) }
    }

    @Test("have a layout that stays")
    func layout() {
        func hexadecimal(_ message: RepairMessage) -> String {
            received(message).parts[0].readableBytesView.map { byte in
                (byte < 16 ? "0" : "") + String(byte, radix: 16)
            }.joined()
        }
        let wanted = RepairMessage.entriesWanted(
            number: 0x0102,
            LogIndex(3)...LogIndex(4),
            maxByteCount: 5
        )
        #expect(
            hexadecimal(wanted) == "0201000000000000" + "0300000000000000" + "0400000000000000"
                + "05000000"
        )
        let state = RepairMessage.stateWanted(
            number: 1,
            SegmentName(baseOffset: Offset(2), firstIndex: LogIndex(3))
        )
        #expect(hexadecimal(state) == "0100000000000000" + "0200000000000000" + "0300000000000000")
        #expect(
            hexadecimal(.declined(number: 1, .busy, next: LogIndex(2)))
                == "0100000000000000" + "03" + "0200000000000000"
        )
        #expect(hexadecimal(.state(number: 1, ByteBuffer(bytes: [0xab]))) == "0100000000000000ab")
    }
}
