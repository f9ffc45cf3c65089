import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

import struct NIOCore.ByteBuffer

/// Messages between brokers, made by chance from a seed.
struct PeerWireSamples {
    var random: SeededRandom

    init(seed: UInt64) {
        random = SeededRandom(seed: seed)
    }

    /// One message of every kind, each of both outcomes and requests with and without entries.
    mutating func everyKind() -> [PeerMessage] {
        var samples: [PeerMessage] = raftMessages().map { .raft(envelope($0)) }
        samples += [0, 1, 5].map { .raft(appendEnvelope(entryCount: $0)) }
        samples.append(.beat(PeerBeat(sequence: random.next(), incarnation: incarnation())))
        samples.append(.beatAnswer(PeerBeat(sequence: random.next(), incarnation: incarnation())))
        let kind = UInt16.random(in: .min ... .max, using: &random)
        samples.append(.application(kind: kind, ByteBuffer()))
        samples.append(.application(kind: kind, bytes(upTo: 300)))
        samples.append(.replica(replicaMessage(kind, [])))
        samples.append(.replica(replicaMessage(kind, [bytes(upTo: 300), bytes(upTo: 9)])))
        samples += [
            RepairMessage.entriesWanted(
                number: random.next(),
                LogIndex(7)...LogIndex(9),
                maxByteCount: 100
            ),
            .entries(number: random.next(), entries(3, after: .zero)),
            .stateWanted(
                number: random.next(),
                SegmentName(baseOffset: Offset(8), firstIndex: LogIndex(9))
            ),
            .declined(number: random.next(), .absent, next: LogIndex(11)),
        ].map {
            .replica($0.message(of: .clusterMetadata, from: CreationEpoch(1), to: CreationEpoch(2)))
        }
        return samples
    }

    private mutating func raftMessages() -> [FlotillaRaft.Message] {
        let term = self.term()
        let flag = Bool.random(using: &random)
        return [
            .preVoteRequest(PreVoteRequest(term: term, lastEntry: position())),
            .preVoteResponse(PreVoteResponse(term: term, isGranted: flag)),
            .voteRequest(VoteRequest(term: term, lastEntry: position(), isTransfer: flag)),
            .voteResponse(VoteResponse(term: term, isGranted: !flag)),
            .appendResponse(
                AppendResponse(term: term, sequence: random.next(), outcome: .matched(index()))
            ),
            .appendResponse(
                AppendResponse(
                    term: term,
                    sequence: random.next(),
                    outcome: .rejected(previous: index(), hint: position())
                )
            ),
            .heartbeatRequest(
                HeartbeatRequest(
                    term: term,
                    round: random.next(),
                    commitIndex: index(),
                    goesQuiet: flag
                )
            ),
            .heartbeatResponse(
                HeartbeatResponse(
                    term: term,
                    round: random.next(),
                    verifiedIndex: index(),
                    commitIndex: index()
                )
            ),
            .snapshotOffer(
                SnapshotOffer(term: term, sequence: random.next(), position: position())
            ),
            .timeoutNow(TimeoutNow(term: term)),
        ]
    }

    // MARK: Append requests

    /// A request with a chain of entries of all kinds.
    mutating func appendEnvelope(entryCount: Int) -> RaftEnvelope {
        let previous = LogPosition(
            term: Term(UInt32.random(in: 0...1_000, using: &random)),
            index: LogIndex(UInt64.random(in: 0...(1 << 40), using: &random))
        )
        return appendEnvelope(entries(entryCount, after: previous), after: previous)
    }

    /// A request with these entries; its term is the highest that a term can be, so none is above.
    mutating func appendEnvelope(
        _ entries: [LogEntry],
        after previous: LogPosition,
        term: Term = Term(UInt32(Int32.max))
    ) -> RaftEnvelope {
        let request = AppendRequest(
            term: term,
            sequence: random.next(),
            previous: previous,
            entries: entries.map { EntryDescriptor($0) ?? Self.unreadable($0) },
            commitIndex: index(),
            lastIndex: index()
        )
        return envelope(.appendRequest(request), entries: entries)
    }

    /// What is said of an entry whose membership cannot be read.
    private static func unreadable(_ entry: LogEntry) -> EntryDescriptor {
        EntryDescriptor(term: entry.frame.term, kind: .other, byteCount: entry.byteCount)
    }

    /// A chain of entries; the first ones take turns among the kinds.
    mutating func entries(_ count: Int, after previous: LogPosition) -> [LogEntry] {
        var entries: [LogEntry] = []
        let shift = Int.random(in: 0..<7, using: &random)
        for place in 0..<count {
            let last = entries.last?.frame
            let kind = FlotillaRecords.EntryKind.allCases[(place * 3 + shift) % 7]
            let term = (last?.term ?? previous.term).rawValue
            let entry = entry(
                kind,
                at: LogPosition(
                    term: Term(term + UInt32.random(in: 0...2, using: &random)),
                    index: (last?.index ?? previous.index).next
                ),
                offset: last?.endOffset ?? Offset(Int64.random(in: 0...(1 << 40), using: &random)),
                previousChecksum: last?.checksum
                    ?? UInt32.random(in: .min ... .max, using: &random)
            )
            entries.append(entry)
        }
        return entries
    }

    private mutating func entry(
        _ kind: FlotillaRecords.EntryKind,
        at position: LogPosition,
        offset: Offset,
        previousChecksum: UInt32
    ) -> LogEntry {
        let appendTime = Timestamp(Int64.random(in: 0...(1 << 42), using: &random))
        guard kind != .data else {
            return .data(
                batch(),
                index: position.index,
                term: position.term,
                baseOffset: offset,
                appendTime: appendTime,
                previousChecksum: previousChecksum,
                flags: Bool.random(using: &random) ? .firstOfSegment : []
            )
        }
        return .control(
            kind,
            payload: kind == .membership ? membership().payload : bytes(upTo: 40),
            index: position.index,
            term: position.term,
            nextOffset: offset,
            appendTime: appendTime,
            previousChecksum: previousChecksum
        )
    }

    private mutating func batch() -> RecordBatch {
        let codecs: [CompressionCodec] = [.none, .lz4]
        var builder = RecordBatchBuilder(codec: codecs[Int.random(in: 0...1, using: &random)])
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            builder.append(
                key: Bool.random(using: &random) ? bytes(upTo: 12) : nil,
                value: bytes(upTo: 60),
                timestamp: Timestamp(1_700_000_000_000)
            )
        }
        return builder.build(using: Compressor())
    }

    private mutating func membership() -> Membership {
        func member(_ broker: Int32) -> GroupMember {
            GroupMember(
                broker: BrokerID(broker),
                epoch: CreationEpoch(UInt64.random(in: 0...9, using: &random))
            )
        }
        let voters = (1...3).map { member($0) }
        let isJoint = Bool.random(using: &random)
        return Membership(
            voters: voters,
            outgoingVoters: isJoint ? voters.dropLast() + [member(7)] : [],
            learners: Bool.random(using: &random) ? [member(8), member(9)] : []
        )
    }

    // MARK: Values

    private mutating func envelope(
        _ message: FlotillaRaft.Message,
        entries: [LogEntry] = []
    ) -> RaftEnvelope {
        RaftEnvelope(
            partition: TopicPartition(
                topic: TopicID(high: random.next(), low: random.next()),
                partition: Int32.random(in: 0 ... .max, using: &random)
            ),
            senderEpoch: CreationEpoch(random.next()),
            targetEpoch: CreationEpoch(random.next()),
            message: message,
            entries: entries
        )
    }

    private mutating func replicaMessage(_ kind: UInt16, _ parts: [ByteBuffer]) -> ReplicaMessage {
        ReplicaMessage(
            partition: TopicPartition(
                topic: TopicID(high: random.next(), low: random.next()),
                partition: Int32.random(in: 0 ... .max, using: &random)
            ),
            senderEpoch: CreationEpoch(random.next()),
            targetEpoch: CreationEpoch(random.next()),
            kind: kind,
            parts: parts
        )
    }

    private mutating func incarnation() -> BrokerIncarnation {
        BrokerIncarnation(high: random.next(), low: random.next())
    }

    private mutating func term() -> Term {
        let terms: [UInt32] = [0, 1, UInt32(Int32.max), .random(in: 0..<1 << 31, using: &random)]
        return Term(terms[Int.random(in: 0..<4, using: &random)])
    }

    private mutating func index() -> LogIndex {
        let largest = UInt64(Int64.max) - 1
        let indexes = [0, 1, largest, UInt64.random(in: 0...largest, using: &random)]
        return LogIndex(indexes[Int.random(in: 0..<4, using: &random)])
    }

    private mutating func position() -> LogPosition {
        LogPosition(term: term(), index: index())
    }

    private mutating func bytes(upTo count: Int) -> ByteBuffer {
        let count = Int.random(in: 0...count, using: &random)
        return ByteBuffer(
            bytes: (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        )
    }
}

extension PeerMessage {
    /// The frame without its length, in one piece.
    var frame: ByteBuffer {
        var frame = ByteBuffer()
        for part in encoded() {
            frame.writeImmutableBuffer(part)
        }
        frame.moveReaderIndex(forwardBy: PeerMessage.lengthByteCount)
        return frame.slice()
    }
}

extension ByteBuffer {
    /// The same bytes with one of them changed.
    func changing(_ position: Int, by mask: UInt8) -> ByteBuffer {
        var bytes = Array(readableBytesView)
        bytes[position] ^= mask
        return ByteBuffer(bytes: bytes)
    }
}
