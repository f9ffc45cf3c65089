import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A partition's log")
struct PartitionLogTests {
    /// Entries of all sizes and kinds: large batches keep their slices, small ones lie in the ring.
    static func mixed(_ fixture: LogFixture, count: Int = 40) {
        for number in 0..<count {
            fixture.maker.time = Timestamp(fixture.maker.time.rawValue + 1)
            switch number % 5 {
            case 0: fixture.append { $0.control(.termStart) }
            case 1: fixture.append { $0.data(recordCount: 3, valueByteCount: 20_000) }
            case 4:
                fixture.append {
                    $0.data(
                        recordCount: 1,
                        valueByteCount: 5,
                        flags: number % 10 == 9 ? .firstOfSegment : []
                    )
                }
            default: fixture.append { $0.data(recordCount: number % 7 + 1, valueByteCount: 100) }
            }
        }
    }

    @Test("is empty when it is made, and touches no disk")
    func empty() {
        let fixture = LogFixture()
        fixture.disk.isRecording = true
        #expect(fixture.log.firstIndex == LogIndex(1))
        #expect(fixture.log.lastIndex == .zero)
        #expect(fixture.log.lastPosition == .zero)
        #expect(fixture.log.logEndOffset == .zero)
        #expect(fixture.log.nextWrite(minimumByteCount: 1) == nil)
        #expect(fixture.log.nextSync() == nil)
        #expect(fixture.disk.operations.isEmpty)
    }

    @Test("reads the same batches at every offset, from memory, from both and from segments")
    func readsAtEveryOffset() throws {
        let fixture = LogFixture(tailByteCount: 0)
        Self.mixed(fixture)
        try fixture.commit()
        for step in 0..<3 {
            if step == 1, let write = fixture.log.nextWrite(minimumByteCount: 1) {
                try fixture.log.finish(write.perform())
            }
            if step == 2 { try fixture.write() }
            for offset in 0..<fixture.log.logEndOffset.rawValue {
                let start = Offset(offset)
                #expect(
                    try fixture.readAll(from: start, maxByteCount: 30_000)
                        == fixture.expectedBytes(from: start)
                )
            }
        }
        #expect(fixture.log.segmentCount == 5)
    }

    @Test("a read obeys its bounds: whole batches, the upper offset, the bytes, the first batch")
    func readBounds() throws {
        for isWritten in [false, true] {
            let fixture = LogFixture(tailByteCount: 0)
            for _ in 0..<10 { fixture.append { $0.data(recordCount: 4, valueByteCount: 50) } }
            try fixture.commit()
            if isWritten { try fixture.write() }
            let size = fixture.entries[0].payloadByteCount
            let two = try fixture.read(from: Offset(5), maxByteCount: 2 * size + 1)
            #expect(
                two.firstOffset == Offset(4) && two.endOffset == Offset(12)
                    && two.byteCount == 2 * size
            )
            let bounded = try fixture.read(from: .zero, upTo: Offset(11))
            #expect(bounded.endOffset == Offset(8))
            let oversized = try fixture.read(from: .zero, maxByteCount: 1)
            #expect(oversized.endOffset == Offset(4))
            let refused = try fixture.read(from: .zero, maxByteCount: 1, allowOversizedFirst: false)
            #expect(refused.isEmpty && refused.endOffset == .zero)
            #expect(try fixture.read(from: fixture.log.logEndOffset).isEmpty)
            #expect(
                throws: StorageError.offsetOutOfRange(
                    Offset(41),
                    logStartOffset: .zero,
                    logEndOffset: Offset(40)
                )
            ) {
                try fixture.read(from: Offset(41))
            }
        }
    }

    @Test("small batches that follow each other are one part, in memory and in a segment")
    func contiguousRuns() throws {
        let fixture = LogFixture(tailByteCount: 1 << 20)
        for _ in 0..<50 { fixture.append { $0.data(valueByteCount: 100) } }
        try fixture.commit()
        #expect(try fixture.read(from: .zero).parts.count == 1)
        try fixture.write()
        #expect(try fixture.read(from: .zero).parts.count == 1)
        let end = fixture.log.logEndOffset
        fixture.append { $0.data(valueByteCount: 1 << 20) }
        let slice = try fixture.read(from: .zero, upTo: end)
        #expect(slice.parts.count == 1)
        guard case .segment(_, let range) = try #require(slice.parts.first) else {
            Issue.record("an evicted batch is read from its segment")
            return
        }
        #expect(range == 0..<slice.byteCount)
    }

    @Test("a read says whether the broker compressed a batch")
    func compressedByBroker() throws {
        for isWritten in [false, true] {
            let fixture = LogFixture(tailByteCount: 0)
            fixture.append { $0.data() }
            fixture.append { $0.data(flags: .compressedByBroker) }
            try fixture.commit()
            if isWritten { try fixture.write() }
            #expect(
                try fixture.read(from: .zero, upTo: Offset(1)).containsBrokerCompressed == false
            )
            #expect(try fixture.read(from: .zero).containsBrokerCompressed)
        }
    }

    @Test("gives entries back byte for byte, wherever they are")
    func entries() throws {
        let fixture = LogFixture(tailByteCount: 0)
        Self.mixed(fixture)
        try fixture.commit()
        for isWritten in [false, true] {
            if isWritten { try fixture.write() }
            for first in fixture.entries.indices {
                let found = try fixture.readEntries(from: LogIndex(UInt64(first) + 1), maxCount: 7)
                #expect(zip(found, fixture.entries[first...]).allSatisfy(areEqual))
                #expect(found.count == min(7, fixture.entries.count - first) || found.count >= 1)
            }
        }
        #expect(try fixture.readEntries(from: fixture.log.lastIndex.next).isEmpty)
        #expect(throws: StorageError.self) {
            try fixture.readEntries(from: fixture.log.lastIndex.next.next)
        }
    }

    @Test("truncation takes back entries, terms, memberships and counts")
    func truncation() throws {
        let fixture = LogFixture()
        let first = Membership(voters: [GroupMember(broker: BrokerID(1), epoch: CreationEpoch(1))])
        let second = Membership(voters: [GroupMember(broker: BrokerID(2), epoch: CreationEpoch(1))])
        fixture.append { $0.control(.membership, payload: first.payload) }
        fixture.append { $0.data() }
        try fixture.commit()
        let before = fixture.log.unsegmentedByteCount
        fixture.maker.term = Term(2)
        fixture.append { $0.control(.membership, payload: second.payload) }
        fixture.append { $0.data(recordCount: 5) }
        #expect(fixture.log.memberships.map(\.membership) == [first, second])
        fixture.truncate(from: LogIndex(3))
        #expect(
            fixture.log.memberships == [IndexedMembership(index: LogIndex(1), membership: first)]
        )
        #expect(fixture.log.term(at: LogIndex(2)) == Term(1))
        #expect(fixture.log.term(at: LogIndex(3)) == nil)
        #expect(fixture.log.lastPosition == LogPosition(term: Term(1), index: LogIndex(2)))
        #expect(fixture.log.logEndOffset == Offset(1))
        #expect(fixture.log.unsegmentedByteCount == before)
        fixture.maker.term = Term(3)
        fixture.append { $0.data() }
        #expect(
            fixture.log.endOffset(ofEpoch: Term(2)).map { [$0.0.rawValue, UInt32($0.1.rawValue)] }
                == [1, 1]
        )
    }

    @Test("epochs end where the next one begins")
    func epochs() throws {
        let fixture = LogFixture()
        for term: UInt32 in [2, 5, 6] {
            fixture.maker.term = Term(term)
            fixture.append { $0.control(.termStart) }
            fixture.append { $0.data(recordCount: 10) }
        }
        let expected: [UInt32: (UInt32, Int64)?] = [
            1: nil, 2: (2, 10), 3: (2, 10), 5: (5, 20), 6: (6, 30), 7: nil,
        ]
        for (term, answer) in expected {
            let found = fixture.log.endOffset(ofEpoch: Term(term))
            #expect(found?.term.rawValue == answer?.0)
            #expect(found?.endOffset.rawValue == answer?.1)
        }
    }

    @Test("what Raft restores from follows the segments that are left")
    func restoredState() throws {
        let fixture = LogFixture()
        Self.mixed(fixture, count: 10)
        fixture.maker.term = Term(2)
        Self.mixed(fixture, count: 10)
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        let whole = fixture.log.restoredState(
            hardState: .initial,
            initialMembership: .empty,
            isElectable: true
        )
        #expect(whole.base == .zero)
        #expect(
            whole.termRuns == [
                TermRun(term: Term(1), firstIndex: LogIndex(1)),
                TermRun(term: Term(2), firstIndex: LogIndex(11)),
            ]
        )
        try fixture.moveStart(to: fixture.entries[15].frame.baseOffset)
        #expect(fixture.log.nextRemoval(keepingFrom: LogIndex(100))?.perform() != nil)
        let rest = fixture.log.restoredState(
            hardState: .initial,
            initialMembership: .empty,
            isElectable: true
        )
        #expect(rest.base == LogPosition(term: Term(1), index: LogIndex(9)))
        #expect(
            rest.termRuns == [
                TermRun(term: Term(1), firstIndex: LogIndex(10)),
                TermRun(term: Term(2), firstIndex: LogIndex(11)),
            ]
        )
        #expect(rest.lastIndex == fixture.log.lastIndex && rest.commitIndex == rest.lastIndex)
    }
}
