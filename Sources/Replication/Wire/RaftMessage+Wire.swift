import FlotillaModel
import FlotillaRaft
import FlotillaRecords

import struct NIOCore.ByteBuffer

// A message's fields, with their sizes in bytes and in their order. Little endian; a position is a
// term (4) and an index (8), a flag is 0 or 1.
//
// | kind | message | fields |
// |---|---|---|
// | 1 | pre-vote request | term 4, last entry 12 |
// | 2 | pre-vote response | term 4, granted 1 |
// | 3 | vote request | term 4, last entry 12, transfer 1 |
// | 4 | vote response | term 4, granted 1 |
// | 5 | append request | previous 12, commit index 8, last index 8, sequence 8, term 4, entry count 4 |
// | 6 | append response | term 4, sequence 8, outcome 1, then what the outcome has |
// | | outcome 0, matched | index 8 |
// | | outcome 1, rejected | previous index 8, hint 12 |
// | 7 | heartbeat request | term 4, round 8, commit index 8, goes quiet 1 |
// | 8 | heartbeat response | term 4, round 8, verified index 8, commit index 8 |
// | 9 | snapshot offer | term 4, sequence 8, position 12 |
// | 10 | timeout now | term 4 |
//
// The descriptors of an append request do not travel: they are made from the entries, so the two
// cannot contradict each other.

extension FlotillaRaft.Message {
    /// The byte before a message's fields.
    enum Kind: UInt8, CaseIterable {
        case preVoteRequest = 1
        case preVoteResponse = 2
        case voteRequest = 3
        case voteResponse = 4
        case appendRequest = 5
        case appendResponse = 6
        case heartbeatRequest = 7
        case heartbeatResponse = 8
        case snapshotOffer = 9
        case timeoutNow = 10
    }

    /// The message's kind.
    var kind: Kind {
        switch self {
        case .preVoteRequest: .preVoteRequest
        case .preVoteResponse: .preVoteResponse
        case .voteRequest: .voteRequest
        case .voteResponse: .voteResponse
        case .appendRequest: .appendRequest
        case .appendResponse: .appendResponse
        case .heartbeatRequest: .heartbeatRequest
        case .heartbeatResponse: .heartbeatResponse
        case .snapshotOffer: .snapshotOffer
        case .timeoutNow: .timeoutNow
        }
    }

    // MARK: Writing

    /// Appends the fields; of an append request without its entries.
    func writeFields(into buffer: inout ByteBuffer) {
        switch self {
        case .preVoteRequest(let request):
            buffer.write(request.term)
            buffer.write(request.lastEntry)
        case .preVoteResponse(let response):
            buffer.write(response.term)
            buffer.write(response.isGranted)
        case .voteRequest(let request):
            buffer.write(request.term)
            buffer.write(request.lastEntry)
            buffer.write(request.isTransfer)
        case .voteResponse(let response):
            buffer.write(response.term)
            buffer.write(response.isGranted)
        case .appendRequest(let request):
            request.writeFields(into: &buffer)
        case .appendResponse(let response):
            response.writeFields(into: &buffer)
        case .heartbeatRequest(let request):
            buffer.write(request.term)
            buffer.writeInteger(request.round, endianness: .little)
            buffer.write(request.commitIndex)
            buffer.write(request.goesQuiet)
        case .heartbeatResponse(let response):
            buffer.write(response.term)
            buffer.writeInteger(response.round, endianness: .little)
            buffer.write(response.verifiedIndex)
            buffer.write(response.commitIndex)
        case .snapshotOffer(let offer):
            buffer.write(offer.term)
            buffer.writeInteger(offer.sequence, endianness: .little)
            buffer.write(offer.position)
        case .timeoutNow(let order):
            buffer.write(order.term)
        }
    }

    // MARK: Reading

    /// Reads the fields of a message of this kind; the entries of an append request go to `entries`.
    init(
        _ kind: Kind,
        reading fields: inout PeerFields,
        entries: inout [LogEntry]
    ) throws(PeerWireError) {
        switch kind {
        case .preVoteRequest:
            self = .preVoteRequest(try PreVoteRequest(reading: &fields))
        case .preVoteResponse:
            let term = try fields.term()
            let isGranted = try fields.flag(.isGranted)
            self = .preVoteResponse(PreVoteResponse(term: term, isGranted: isGranted))
        case .voteRequest:
            self = .voteRequest(try VoteRequest(reading: &fields))
        case .voteResponse:
            let term = try fields.term()
            let isGranted = try fields.flag(.isGranted)
            self = .voteResponse(VoteResponse(term: term, isGranted: isGranted))
        case .appendRequest:
            self = .appendRequest(try AppendRequest(reading: &fields, entries: &entries))
        case .appendResponse:
            self = .appendResponse(try AppendResponse(reading: &fields))
        case .heartbeatRequest:
            self = .heartbeatRequest(try HeartbeatRequest(reading: &fields))
        case .heartbeatResponse:
            self = .heartbeatResponse(try HeartbeatResponse(reading: &fields))
        case .snapshotOffer:
            self = .snapshotOffer(try SnapshotOffer(reading: &fields))
        case .timeoutNow:
            self = .timeoutNow(TimeoutNow(term: try fields.term()))
        }
    }
}

extension PreVoteRequest {
    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        self.init(term: term, lastEntry: try fields.position(.lastTerm, .lastIndex))
    }
}

extension VoteRequest {
    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        let lastEntry = try fields.position(.lastTerm, .lastIndex)
        let isTransfer = try fields.flag(.isTransfer)
        self.init(term: term, lastEntry: lastEntry, isTransfer: isTransfer)
    }
}

extension AppendRequest {
    fileprivate func writeFields(into buffer: inout ByteBuffer) {
        buffer.write(previous)
        buffer.write(commitIndex)
        buffer.write(lastIndex)
        buffer.writeInteger(sequence, endianness: .little)
        buffer.write(term)
        buffer.writeInteger(UInt32(entries.count), endianness: .little)
    }

    fileprivate init(
        reading fields: inout PeerFields,
        entries: inout [LogEntry]
    ) throws(PeerWireError) {
        let previous = try fields.position(.previousTerm, .previousIndex)
        let commitIndex = try fields.index(.commitIndex)
        let lastIndex = try fields.index(.lastIndex)
        let sequence = try fields.integer(UInt64.self)
        let term = try fields.term()
        guard previous.term <= term else {
            throw .fieldOutOfRange(.previousTerm, UInt64(previous.term.rawValue))
        }
        let count = try fields.integer(UInt32.self)
        entries = try fields.entries(count, after: previous, in: term)
        var descriptors: [EntryDescriptor] = []
        descriptors.reserveCapacity(entries.count)
        for entry in entries {
            guard let descriptor = EntryDescriptor(entry) else {
                throw .membershipUnreadable(index: entry.frame.index)
            }
            descriptors.append(descriptor)
        }
        self.init(
            term: term,
            sequence: sequence,
            previous: previous,
            entries: descriptors,
            commitIndex: commitIndex,
            lastIndex: lastIndex
        )
    }
}

extension AppendResponse {
    private static let matchedByte: UInt8 = 0
    private static let rejectedByte: UInt8 = 1

    fileprivate func writeFields(into buffer: inout ByteBuffer) {
        buffer.write(term)
        buffer.writeInteger(sequence, endianness: .little)
        switch outcome {
        case .matched(let index):
            buffer.writeInteger(Self.matchedByte)
            buffer.write(index)
        case .rejected(let previous, let hint):
            buffer.writeInteger(Self.rejectedByte)
            buffer.write(previous)
            buffer.write(hint)
        }
    }

    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        let sequence = try fields.integer(UInt64.self)
        let outcome: Outcome
        switch try fields.integer(UInt8.self) {
        case Self.matchedByte:
            outcome = .matched(try fields.index(.matchedIndex))
        case Self.rejectedByte:
            let previous = try fields.index(.rejectedIndex)
            let hint = try fields.position(.hintTerm, .hintIndex)
            outcome = .rejected(previous: previous, hint: hint)
        case let value:
            throw .fieldOutOfRange(.outcome, UInt64(value))
        }
        self.init(term: term, sequence: sequence, outcome: outcome)
    }
}

extension HeartbeatRequest {
    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        let round = try fields.integer(UInt64.self)
        let commitIndex = try fields.index(.commitIndex)
        let goesQuiet = try fields.flag(.goesQuiet)
        self.init(term: term, round: round, commitIndex: commitIndex, goesQuiet: goesQuiet)
    }
}

extension HeartbeatResponse {
    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        let round = try fields.integer(UInt64.self)
        let verified = try fields.index(.verifiedIndex)
        let commit = try fields.index(.commitIndex)
        self.init(term: term, round: round, verifiedIndex: verified, commitIndex: commit)
    }
}

extension SnapshotOffer {
    fileprivate init(reading fields: inout PeerFields) throws(PeerWireError) {
        let term = try fields.term()
        let sequence = try fields.integer(UInt64.self)
        let position = try fields.position(.snapshotTerm, .snapshotIndex)
        self.init(term: term, sequence: sequence, position: position)
    }
}

extension ByteBuffer {
    fileprivate mutating func write(_ term: Term) {
        writeInteger(term.rawValue, endianness: .little)
    }

    fileprivate mutating func write(_ index: LogIndex) {
        writeInteger(index.rawValue, endianness: .little)
    }

    fileprivate mutating func write(_ position: LogPosition) {
        write(position.term)
        write(position.index)
    }

    fileprivate mutating func write(_ flag: Bool) {
        writeInteger(UInt8(flag ? 1 : 0))
    }
}
