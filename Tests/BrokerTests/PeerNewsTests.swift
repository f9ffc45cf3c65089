@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaModel
import FlotillaReplication
import Testing
import struct NIOCore.ByteBuffer

@Suite("News between brokers")
struct PeerNewsTests {
    private static let partition = TopicPartition(
        topic: TopicID(high: 1, low: 2),
        partition: 3
    )

    private static let news: [PeerNews] = [
        .leadership([
            LeadershipUpdate(partition: partition, term: Term(4), leader: BrokerID(5)),
            LeadershipUpdate(partition: partition, term: Term(6), leader: nil, isResignation: true),
        ]),
        .command(number: 7, ByteBuffer(bytes: [1, 2, 3])),
        .reply(number: 8, appliedIndex: LogIndex(9), ByteBuffer()),
        .transfer(
            number: 10,
            partition,
            to: GroupMember(broker: BrokerID(11), epoch: CreationEpoch(12))
        ),
        .transferred(number: 13, nil),
        .transferred(number: 14, Refusal(.preferredLeaderNotAvailable, "not there")),
        .question(number: 15, ByteBuffer(bytes: [4, 5])),
        .answer(number: 16, ByteBuffer(bytes: [6])),
    ]

    private func parts(_ news: PeerNews) throws -> (kind: UInt16, body: ByteBuffer) {
        guard case .application(let kind, let body) = news.message else {
            throw TestFailure("news are application messages")
        }
        return (kind, body)
    }

    @Test("News are read back as they were written", arguments: news.indices)
    func roundTrip(_ place: Int) throws {
        let news = Self.news[place]
        let (kind, body) = try parts(news)
        let read = try #require(PeerNews(kind: kind, body))
        #expect(try parts(read).body == body)
        #expect("\(read)" == "\(news)")
    }

    @Test("Cut or changed bytes never make the reader trap", arguments: news.indices)
    func damaged(_ place: Int) throws {
        let (kind, body) = try parts(Self.news[place])
        let bytes = Array(body.readableBytesView)
        for length in 0..<min(bytes.count, 10) {
            #expect(PeerNews(kind: kind, ByteBuffer(bytes: bytes[..<min(length, 3)])) == nil)
            _ = PeerNews(kind: kind, ByteBuffer(bytes: bytes[..<length]))
        }
        for place in bytes.indices {
            for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
                var other = bytes
                other[place] = value
                _ = PeerNews(kind: kind, ByteBuffer(bytes: other))
            }
        }
        #expect(PeerNews(kind: 99, body) == nil)
    }

    // MARK: Questions

    private static let questions: [PeerQuestion] = [
        .history(GroupPlace(partition: partition, group: "readers")),
        .lag(GroupPlace(partition: partition, group: "readers")),
        .positions([PositionCall(partition: partition, offset: Offset(9))]),
    ]

    private static let answers: [PeerAnswer] = [
        .refused(Refusal(.groupIdNotFound, "there is no group readers")),
        .history(GroupHistoryReply(coordinator: BrokerID(2), droppedCount: 3, lines: [])),
        .lag(
            GroupLagReply(
                coordinator: BrokerID(2),
                time: Timestamp(3),
                positions: [
                    GroupPosition(
                        key: OffsetKey(topic: "orders", partition: 4),
                        committed: Offset(5),
                        end: Offset(7),
                        start: Offset(6),
                        time: Timestamp(8)
                    ),
                    GroupPosition(
                        key: OffsetKey(topic: "orders", partition: 5),
                        committed: Offset(9)
                    ),
                ]
            )
        ),
        .positions([
            PositionReply(error: .noError, highWatermark: Offset(3), time: Timestamp(4)),
            PositionReply(error: .notLeaderOrFollower),
        ]),
    ]

    @Test("Questions and answers are read back as they were written")
    func questions() throws {
        for question in Self.questions { #expect(try PeerQuestion(question.bytes) == question) }
        for answer in Self.answers { #expect(try PeerAnswer(answer.bytes) == answer) }
    }

    @Test("Cut or changed questions and answers never make the reader trap")
    func damagedQuestions() throws {
        func prefixes(_ whole: ByteBuffer) -> [ByteBuffer] {
            let bytes = Array(whole.readableBytesView)
            return bytes.indices.map { ByteBuffer(bytes: bytes[..<$0]) }
        }
        for cut in Self.questions.flatMap({ prefixes($0.bytes) }) {
            #expect(throws: CoordinationError.self) { try PeerQuestion(cut) }
        }
        for cut in Self.answers.flatMap({ prefixes($0.bytes) }) {
            #expect(throws: CoordinationError.self) { try PeerAnswer(cut) }
        }
        for whole in Self.questions.map(\.bytes) + Self.answers.map(\.bytes) {
            let bytes = Array(whole.readableBytesView)
            for place in bytes.indices {
                for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
                    var other = bytes
                    other[place] = value
                    _ = try? PeerQuestion(ByteBuffer(bytes: other))
                    _ = try? PeerAnswer(ByteBuffer(bytes: other))
                }
            }
        }
    }
}
