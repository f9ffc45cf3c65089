import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

@Suite("LogEntry")
struct LogEntryTests {
    static func data(_ batch: RecordBatch, previousChecksum: UInt32 = 7, index: UInt64 = 5)
        -> LogEntry
    {
        LogEntry.data(
            batch,
            index: LogIndex(index),
            term: Term(3),
            baseOffset: Offset(1000),
            appendTime: Timestamp(1_700_000_000_123),
            previousChecksum: previousChecksum
        )
    }

    @Test("A data entry is a 69-byte head and a slice of what was received")
    func dataParts() throws {
        let batch = RecordBatch.of("hello")
        let entry = Self.data(batch)
        var parts: [ByteBuffer] = []
        entry.appendParts(to: &parts)
        #expect(parts.map(\.readableBytes) == [69, batch.byteCount - 21])
        #expect(parts[1] == ByteBuffer(bytes: batch.bytes.array[21...]))
        #expect(parts.flatMap(\.array) == entry.contiguous.array)
        #expect(entry.byteCount == entry.contiguous.readableBytes)
        parts = []
        entry.appendPayloadParts(to: &parts)
        #expect(parts.flatMap(\.array) == entry.payload.array)
        #expect(entry.payload.array == Array(entry.contiguous.array[48...]))
    }

    @Test("The leader stamps base offset and epoch, and the batch's own CRC still holds")
    func stamping() throws {
        let batch = RecordBatch.of("hello")
        let stamped = try RecordBatch(parsing: Self.data(batch).payload)
        #expect(stamped.header.baseOffset == Offset(1000))
        #expect(stamped.header.leaderEpoch == 3)
        #expect(stamped.header.checksum == batch.header.checksum)
        #expect(stamped.bytes.array[21...] == batch.bytes.array[21...])
    }

    @Test("A batch that the broker compressed says so in its frame")
    func compressedByBroker() throws {
        let batch = RecordBatch.of(String(repeating: "abc", count: 1000))
        let smaller = try CompressionPolicy.auto.applied(
            to: batch,
            using: Compressor(),
            Decompressor(),
            limit: 1 << 20
        )
        #expect(Self.data(batch).frame.flags == [])
        #expect(Self.data(smaller).frame.flags == .compressedByBroker)
    }

    @Test("Entries read back from one range, and the chain links them")
    func chain() throws {
        let first = Self.data(.of("one"), previousChecksum: 0, index: 1)
        let second = LogEntry.control(
            .startOffset,
            payload: ByteBuffer(string: "12345678"),
            index: LogIndex(2),
            term: Term(3),
            nextOffset: first.frame.endOffset,
            appendTime: Timestamp(1_700_000_000_124),
            previousChecksum: first.frame.checksum
        )
        let third = LogEntry.control(
            .termStart,
            payload: ByteBuffer(),
            index: LogIndex(3),
            term: Term(4),
            nextOffset: first.frame.endOffset,
            appendTime: Timestamp(1_700_000_000_125),
            previousChecksum: second.frame.checksum
        )
        var journal = ByteBuffer(string: "before")
        journal.moveReaderIndex(forwardBy: 6)
        for entry in [first, second, third] {
            entry.write(into: &journal)
        }
        var previous: UInt32 = 0
        for expected in [first, second, third] {
            let entry = try LogEntry(parsing: &journal)
            #expect(entry.frame == expected.frame)
            #expect(entry.frame.previousChecksum == previous)
            #expect(entry.contiguous == expected.contiguous)
            #expect(entry.payload == expected.payload)
            try entry.verifyBatch()
            previous = entry.frame.checksum
        }
        #expect(journal.readableBytes == 0)
        #expect(first.frame.endOffset == Offset(1001))
    }

    @Test("Frame and payload that are kept apart join again")
    func joining() throws {
        for entry in [Self.data(.of("joined")), Self.control("payload"), Self.control("")] {
            let joined = try LogEntry(frame: entry.frame, payload: entry.payload)
            #expect(joined.contiguous == entry.contiguous)
            var longer = entry.payload
            longer.writeInteger(UInt8(0))
            #expect(throws: RecordsError.trailingBytes(1)) {
                try LogEntry(frame: entry.frame, payload: longer)
            }
        }
    }

    @Test("An entry cut at any byte is truncated, and the reader stays")
    func truncatedEverywhere() {
        for entry in [Self.data(.of("cut me")), Self.control("cut me too")] {
            let whole = entry.contiguous.array
            for count in 0..<whole.count {
                var buffer = ByteBuffer(bytes: whole[..<count])
                let needed = count < Frame.byteCount ? Frame.byteCount : whole.count
                #expect(throws: RecordsError.truncated(needed: needed, found: count)) {
                    try LogEntry(parsing: &buffer)
                }
                #expect(buffer.readableBytes == count)
            }
        }
    }

    @Test("Any turned bit of an entry is found by the frame or by the batch's CRC")
    func flippedEverywhere() {
        let entry = Self.data(.of("flip me")).contiguous
        for position in 0..<entry.readableBytes {
            for bit in 0..<8 {
                var damaged = entry.flipping(bit: bit, ofByte: position)
                #expect(throws: RecordsError.self, "byte \(position), bit \(bit)") {
                    let parsed = try LogEntry(parsing: &damaged)
                    try parsed.verifyBatch()
                }
            }
        }
    }

    @Test("A frame over another batch of the same length is found out")
    func foreignBatch() throws {
        let first = Self.data(.of("first"))
        let other = LogEntry.data(
            .of("other"),
            index: LogIndex(5),
            term: Term(3),
            baseOffset: Offset(1000),
            appendTime: Timestamp(1_700_000_000_123),
            previousChecksum: 7
        )
        // The head belongs to the frame, so a foreign body fails the CRC that the head holds.
        var mixed = first.frameAndHead
        mixed.writeBytes(other.body.readableBytesSpan)
        let entry = try LogEntry(parsing: &mixed)
        #expect(throws: RecordsError.self) {
            try entry.verifyBatch()
        }
        #expect(throws: RecordsError.self) {
            try LogEntry(frame: first.frame, payload: other.payload)
        }
    }

    @Test("A frame that is sound but tells another story than its batch is found out")
    func disagreement() throws {
        let batch = RecordBatch.of("story")
        var head = Self.data(batch).head
        // The frame says offset 1001; the head under it, which it covers, says 1000.
        let frame = Frame(
            kind: .data,
            flags: [],
            index: LogIndex(5),
            term: Term(3),
            baseOffset: Offset(1001),
            offsetSpan: 1,
            appendTime: Timestamp(0),
            previousChecksum: 7,
            payloadByteCount: batch.byteCount,
            covering: head.readableBytesSpan
        )
        head.writeBytes(Self.data(batch).body.readableBytesSpan)
        let entry = try LogEntry(frame: frame, payload: head)
        #expect(
            throws: RecordsError.frameDisagreesWithBatch(index: LogIndex(5), field: .baseOffset)
        ) {
            try entry.verifyBatch()
        }
    }

    @Test("Random runs of entries survive writing and reading", arguments: 0..<50 as Range<UInt64>)
    func randomRuns(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var journal = ByteBuffer()
        var entries: [LogEntry] = []
        var checksum: UInt32 = 0
        for index in 1...UInt64(10) {
            let entry =
                if Bool.random(using: &random) {
                    Self.data(
                        .of((0..<4).map { random.record(offset: $0) }),
                        previousChecksum: checksum,
                        index: index
                    )
                } else {
                    Self.control(
                        String(repeating: "x", count: Int(index)),
                        previousChecksum: checksum
                    )
                }
            checksum = entry.frame.checksum
            entry.write(into: &journal)
            entries.append(entry)
        }
        for expected in entries {
            let entry = try LogEntry(parsing: &journal)
            try entry.verifyBatch()
            #expect(entry.contiguous == expected.contiguous)
        }
    }

    private static func control(_ payload: String, previousChecksum: UInt32 = 0) -> LogEntry {
        LogEntry.control(
            .snapshotMark,
            payload: ByteBuffer(string: payload),
            index: LogIndex(9),
            term: Term(3),
            nextOffset: Offset(1001),
            appendTime: Timestamp(1_700_000_000_000),
            previousChecksum: previousChecksum
        )
    }
}
