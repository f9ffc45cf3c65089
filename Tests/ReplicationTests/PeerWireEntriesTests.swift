import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import Testing

import struct NIOCore.ByteBuffer

/// What an append request carries is checked against its own fields, entry by entry.
@Suite("Entries between brokers")
struct PeerWireEntriesTests {
    /// Where the fields of an append request begin in a frame without its length.
    private static let fields = 38
    private static let entries = fields + 44

    private let previous = LogPosition(term: Term(3), index: LogIndex(10))
    private let first: LogEntry
    private let second: LogEntry

    init() {
        first = Self.control(.termStart, index: 11, term: 3, previousChecksum: 77)
        second = Self.control(.roll, index: 12, term: 4, previousChecksum: first.frame.checksum)
    }

    private static func control(
        _ kind: FlotillaRecords.EntryKind,
        index: UInt64,
        term: UInt32,
        previousChecksum: UInt32,
        payload: ByteBuffer = ByteBuffer(string: "payload")
    ) -> LogEntry {
        .control(
            kind,
            payload: payload,
            index: LogIndex(index),
            term: Term(term),
            nextOffset: Offset(5),
            appendTime: Timestamp(1_700_000_000_000),
            previousChecksum: previousChecksum
        )
    }

    /// A frame whose fields are as given and whose entries are whatever is given.
    private func frame(
        _ entries: [LogEntry],
        announcing count: UInt32? = nil,
        term: UInt32 = 9
    ) -> ByteBuffer {
        var samples = PeerWireSamples(seed: 1)
        let empty = samples.appendEnvelope([], after: previous, term: Term(term))
        var frame = PeerMessage.raft(empty).frame
        let place = frame.readerIndex + Self.entries - 4
        frame.setInteger(count ?? UInt32(entries.count), at: place, endianness: .little)
        for entry in entries {
            entry.write(into: &frame)
        }
        return frame
    }

    private func expect(
        _ error: PeerWireError,
        for frame: ByteBuffer,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        #expect(throws: error, sourceLocation: sourceLocation) {
            try PeerMessage(decoding: frame)
        }
    }

    @Test("Sound entries are taken, with descriptors made from their frames")
    func sound() throws {
        guard case .raft(let envelope) = try PeerMessage(decoding: frame([first, second])),
            case .appendRequest(let request) = envelope.message
        else {
            Issue.record("an append request is one")
            return
        }
        #expect(envelope.entries.map(\.frame) == [first.frame, second.frame])
        #expect(request.range == LogIndex(11)..<LogIndex(13))
        #expect(
            request.entries == [
                EntryDescriptor(term: Term(3), kind: .termStart, byteCount: first.byteCount),
                EntryDescriptor(term: Term(4), kind: .other, byteCount: second.byteCount),
            ]
        )
    }

    @Test("A membership comes back from its payload")
    func membership() throws {
        let membership = Membership(
            voters: [GroupMember(broker: BrokerID(1), epoch: CreationEpoch(4))],
            learners: [GroupMember(broker: BrokerID(2), epoch: CreationEpoch(5))]
        )
        let entry = Self.control(
            .membership,
            index: 11,
            term: 3,
            previousChecksum: 0,
            payload: membership.payload
        )
        guard case .raft(let envelope) = try PeerMessage(decoding: frame([entry])),
            case .appendRequest(let request) = envelope.message
        else {
            Issue.record("an append request is one")
            return
        }
        #expect(request.entries.map(\.kind) == [.membership(membership)])
    }

    @Test("A membership that cannot be read is refused")
    func unreadableMembership() {
        let entry = Self.control(.membership, index: 11, term: 3, previousChecksum: 0)
        expect(.membershipUnreadable(index: LogIndex(11)), for: frame([entry]))
    }

    @Test("More entries than the frame has room for are refused before any is read")
    func hostileCount() {
        let byteCount = first.byteCount
        for count in [2, 1_000_000, UInt32.max] {
            expect(
                .entryCountTooLarge(announced: count, byteCount: byteCount),
                for: frame([first], announcing: count)
            )
        }
    }

    @Test("Fewer entries than there are leave bytes behind, and are refused")
    func shortCount() {
        expect(.trailingBytes(second.byteCount), for: frame([first, second], announcing: 1))
    }

    @Test("An entry that does not follow is refused")
    func misplaced() {
        expect(
            .entryOutOfPlace(expected: LogIndex(11), found: LogIndex(12)),
            for: frame([second])
        )
        expect(
            .entryOutOfPlace(expected: LogIndex(12), found: LogIndex(11)),
            for: frame([first, first])
        )
    }

    @Test("A term that falls, or is above the leader's, is refused")
    func terms() {
        let low = Self.control(.roll, index: 11, term: 2, previousChecksum: 0)
        expect(.entryTermOutOfOrder(index: LogIndex(11), term: Term(2)), for: frame([low]))
        expect(
            .entryTermOutOfOrder(index: LogIndex(12), term: Term(4)),
            for: frame([first, second], term: 3)
        )
        expect(.fieldOutOfRange(.previousTerm, 3), for: frame([], term: 2))
    }

    @Test("A sound entry of another chain is refused")
    func brokenChain() {
        let stranger = Self.control(.roll, index: 12, term: 4, previousChecksum: 1)
        expect(
            .chainBroken(index: LogIndex(12), expected: first.frame.checksum, found: 1),
            for: frame([first, stranger])
        )
    }

    @Test("A damaged entry is named by its place")
    func damaged() {
        let sound = frame([first, second])
        let position = Self.entries + first.byteCount + Frame.byteCount
        #expect {
            try PeerMessage(decoding: sound.changing(position, by: 0x10))
        } throws: { error in
            guard case .entryDamaged(place: 1, .frameChecksumMismatch) = error as? PeerWireError
            else { return false }
            return true
        }
    }

    @Test("A batch is checked beyond what its frame covers")
    func damagedBatch() {
        var samples = PeerWireSamples(seed: 5)
        // Of seven entries in turn, one is a batch.
        let entries = samples.entries(7, after: previous)
        var position = Self.entries
        for (place, entry) in entries.enumerated() {
            position += entry.byteCount
            guard entry.frame.kind == .data else {
                continue
            }
            #expect {
                try PeerMessage(
                    decoding: frame(entries, term: 1_000).changing(position - 1, by: 1)
                )
            } throws: { error in
                guard case .entryDamaged(place, .batchChecksumMismatch) = error as? PeerWireError
                else { return false }
                return true
            }
        }
        #expect(entries.contains { $0.frame.kind == .data })
    }
}
