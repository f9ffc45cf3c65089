import FlotillaModel
import FlotillaRaft
import FlotillaRecords

import struct NIOCore.ByteBuffer

// The body of a raft frame. Little endian.
//
// | bytes | field |
// |---|---|
// | 0-7, 8-15 | topic id, its two halves |
// | 16-19 | partition |
// | 20-27 | creation epoch of the sending replica |
// | 28-35 | creation epoch of the replica that is meant |
// | 36 | message kind |
// | 37- | the message's fields; behind those of an append request its entries |
//
// An entry is its frame and payload exactly as in the journal: `Frame` shows the bytes.

extension RaftEnvelope {
    /// Room for the length, the kind, and all fields of any message.
    static let roomyHeadByteCount = 128

    // MARK: Writing

    /// Appends everything but the entries.
    func writeHead(into buffer: inout ByteBuffer) {
        precondition(carriesWhatItNames, "an append request travels with the entries that it names")
        buffer.writeInteger(partition.topic.high, endianness: .little)
        buffer.writeInteger(partition.topic.low, endianness: .little)
        buffer.writeInteger(partition.partition, endianness: .little)
        buffer.writeInteger(senderEpoch.rawValue, endianness: .little)
        buffer.writeInteger(targetEpoch.rawValue, endianness: .little)
        buffer.writeInteger(message.kind.rawValue)
        message.writeFields(into: &buffer)
    }

    private var carriesWhatItNames: Bool {
        guard case .appendRequest(let request) = message else {
            return entries.isEmpty
        }
        guard entries.count == request.entries.count else {
            return false
        }
        var index = request.previous.index
        for (descriptor, entry) in zip(request.entries, entries) {
            index = index.next
            guard entry.frame.index == index, entry.frame.term == descriptor.term else {
                return false
            }
        }
        return true
    }

    // MARK: Reading

    init(reading fields: inout PeerFields) throws(PeerWireError) {
        let partition = try fields.partition()
        let senderEpoch = CreationEpoch(try fields.integer(UInt64.self))
        let targetEpoch = CreationEpoch(try fields.integer(UInt64.self))
        let rawKind = try fields.integer(UInt8.self)
        guard let kind = FlotillaRaft.Message.Kind(rawValue: rawKind) else {
            throw .unknownMessageKind(rawKind)
        }
        var entries: [LogEntry] = []
        let message = try FlotillaRaft.Message(kind, reading: &fields, entries: &entries)
        self.init(
            partition: partition,
            senderEpoch: senderEpoch,
            targetEpoch: targetEpoch,
            message: message,
            entries: entries
        )
    }
}

extension PeerFields {
    /// The entries of an append request, each checked by itself and against the one before it.
    ///
    /// What the first one follows is not known here: the log that takes it compares.
    ///
    /// - Parameters:
    ///   - announced: how many entries the request says it has.
    ///   - previous: the entry before the first one.
    ///   - leaderTerm: the term of the leader that sends them.
    /// - Returns: as many entries as announced.
    /// - Throws: which entry is unfit, and why.
    mutating func entries(
        _ announced: UInt32,
        after previous: LogPosition,
        in leaderTerm: Term
    ) throws(PeerWireError) -> [LogEntry] {
        // No entry is shorter than its frame: a count that lies reserves nothing.
        guard Int(announced) <= rest.readableBytes / Frame.byteCount else {
            throw .entryCountTooLarge(announced: announced, byteCount: rest.readableBytes)
        }
        var entries: [LogEntry] = []
        entries.reserveCapacity(Int(announced))
        var before = previous
        for place in 0..<Int(announced) {
            let entry = try self.entry(at: place)
            let frame = entry.frame
            guard frame.index == before.index.next else {
                throw .entryOutOfPlace(expected: before.index.next, found: frame.index)
            }
            guard frame.term >= before.term, frame.term <= leaderTerm else {
                throw .entryTermOutOfOrder(index: frame.index, term: frame.term)
            }
            if let expected = entries.last?.frame.checksum, expected != frame.previousChecksum {
                throw .chainBroken(
                    index: frame.index,
                    expected: expected,
                    found: frame.previousChecksum
                )
            }
            entries.append(entry)
            before = frame.position
        }
        return entries
    }

    private mutating func entry(at place: Int) throws(PeerWireError) -> LogEntry {
        do {
            let entry = try parse { bytes throws(RecordsError) in try LogEntry(parsing: &bytes) }
            try entry.verifyBatch()
            return entry
        } catch {
            throw .entryDamaged(place: place, error)
        }
    }
}
