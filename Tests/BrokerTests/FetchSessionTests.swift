import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import Testing
import struct NIOCore.ByteBuffer

/// Incremental fetches.
///
/// - Source: SEMANTICS section 2.1, KIP-227.
@Suite("Fetch sessions")
struct FetchSessionTests {
    private let broker: TestBroker
    private let client: TestClient

    init() throws {
        broker = try TestBroker(configs: [
            .init("max.incremental.fetch.session.cache.slots", "4")
        ])
        client = try broker.connect()
        try client.createTopic(partitions: 3)
        for partition in Int32(0)..<3 {
            try client.produce(Batches.batch("p\(partition)"), partition: partition)
        }
    }

    /// A fetch within a session that names these partitions with their offsets.
    private func request(
        _ session: Int32,
        _ epoch: Int32,
        _ partitions: [(Int32, Int64)],
        forget: [Int32] = [],
        maxBytes: Int32 = 1 << 20
    ) -> FetchRequest {
        FetchRequest(
            minBytes: 0,
            maxBytes: maxBytes,
            sessionId: session,
            sessionEpoch: epoch,
            topics: partitions.isEmpty
                ? []
                : [
                    .init(
                        topic: "orders",
                        partitions: partitions.map {
                            .init(partition: $0.0, fetchOffset: $0.1, partitionMaxBytes: 1 << 20)
                        }
                    )
                ],
            forgottenTopicsData: forget.isEmpty
                ? [] : [.init(topic: "orders", partitions: forget)]
        )
    }

    private func fetch(_ request: FetchRequest) throws -> FetchResponse {
        try client.ask(request, version: 12)
    }

    private func open(_ partitions: [(Int32, Int64)]) throws -> Int32 {
        let answer = try fetch(request(0, 0, partitions))
        try #require(answer.sessionId > 0)
        return answer.sessionId
    }

    private func numbers(_ response: FetchResponse) -> [Int32] {
        response.responses.flatMap(\.partitions).map(\.partitionIndex)
    }

    @Test("epoch -1 without a session is a plain fetch (SESS-1)")
    func sessionless() throws {
        let answer = try fetch(request(0, -1, [(0, 0)]))
        #expect(answer.sessionId == 0)
        #expect(numbers(answer) == [0])
    }

    @Test("epoch 0 opens a session and answers in full (SESS-2)")
    func opening() throws {
        let answer = try fetch(request(0, 0, [(0, 1), (1, 1)]))
        #expect(answer.sessionId > 0)
        #expect(numbers(answer) == [0, 1])
    }

    @Test("epoch 0 with an old session ends that one (SESS-2)")
    func reopening() throws {
        let old = try open([(0, 0)])
        let new = try fetch(request(old, 0, [(0, 0)])).sessionId
        #expect(new > 0)
        let answer = try fetch(request(old, 1, []))
        if new != old {
            #expect(answer.errorCode == ErrorCode.fetchSessionIdNotFound.rawValue)
        }
    }

    @Test("epoch -1 with a session ends it, and answers in full (SESS-3)")
    func closing() throws {
        let session = try open([(0, 0)])
        let answer = try fetch(request(session, -1, [(1, 0)]))
        #expect(answer.sessionId == 0)
        #expect(numbers(answer) == [1])
        let gone = try fetch(request(session, 1, []))
        #expect(gone.errorCode == ErrorCode.fetchSessionIdNotFound.rawValue)
        #expect(gone.responses.isEmpty)
    }

    @Test("a session that nobody knows and an epoch out of turn are refused (SESS-4)")
    func wrongEpochs() throws {
        let unknown = try fetch(request(12_345, 1, []))
        #expect(unknown.errorCode == ErrorCode.fetchSessionIdNotFound.rawValue)
        let session = try open([(0, 1)])
        let early = try fetch(request(session, 2, []))
        #expect(early.errorCode == ErrorCode.invalidFetchSessionEpoch.rawValue)
        #expect(early.responses.isEmpty)
        #expect(try fetch(request(session, 1, [])).errorCode == 0)
        let again = try fetch(request(session, 1, []))
        #expect(again.errorCode == ErrorCode.invalidFetchSessionEpoch.rawValue)
        #expect(try fetch(request(session, 2, [])).errorCode == 0)
    }

    @Test("later requests name only what changes (SESS-5)")
    func incremental() throws {
        let session = try open([(0, 0), (1, 0)])
        let moved = try fetch(request(session, 1, [(0, 1), (1, 1)]))
        #expect(numbers(moved).isEmpty)
        let added = try fetch(request(session, 2, [(2, 0)]))
        #expect(numbers(added) == [2])
        let forgotten = try fetch(request(session, 3, [(2, 1)], forget: [0, 1]))
        #expect(numbers(forgotten).isEmpty)
        let other = try broker.connect()
        try other.produce(Batches.batch("x"), partition: 0)
        try other.produce(Batches.batch("y"), partition: 2)
        #expect(numbers(try fetch(request(session, 4, []))) == [2])
    }

    @Test("a session without partitions ends (SESS-5)")
    func emptied() throws {
        let session = try open([(0, 0)])
        let answer = try fetch(request(session, 1, [], forget: [0]))
        #expect(answer.sessionId == 0)
        #expect(answer.errorCode == 0)
        let gone = try fetch(request(session, 2, []))
        #expect(gone.errorCode == ErrorCode.fetchSessionIdNotFound.rawValue)
    }

    @Test("only partitions with news are listed, one in error every time (SESS-6)")
    func news() throws {
        let session = try open([(0, 1), (1, 1), (2, 99)])
        #expect(numbers(try fetch(request(session, 1, []))) == [2])
        #expect(numbers(try fetch(request(session, 2, []))) == [2])
        let other = try broker.connect()
        try other.produce(Batches.batch("x"), partition: 1)
        #expect(numbers(try fetch(request(session, 3, [(2, 1)]))).sorted() == [1, 2])
        _ = try other.deleteRecords(before: 1, partition: 0)
        #expect(numbers(try fetch(request(session, 4, [(1, 2)]))) == [0])
        #expect(numbers(try fetch(request(session, 5, []))).isEmpty)
    }

    @Test("names and ids do not mix in a session (SESS-7)")
    func mixed() throws {
        let session = try open([(0, 0)])
        let answer = try client.ask(
            FetchRequest(sessionId: session, sessionEpoch: 1),
            version: 13
        )
        #expect(answer.errorCode == ErrorCode.fetchSessionTopicIdError.rawValue)
    }

    @Test("a partition that returned data comes last next time (SESS-8)")
    func fairness() throws {
        for partition in Int32(0)..<3 {
            for _ in 0..<4 {
                try client.produce(Batches.batch("more"), partition: partition)
            }
        }
        let session = try open([(0, 0), (1, 0), (2, 0)])
        var served: [Int32] = []
        var offsets: [Int32: Int64] = [0: 5, 1: 5, 2: 5]
        // A budget of one batch: each turn has room for one partition only.
        for partition in Int32(0)..<3 { offsets[partition] = 1 }
        var epoch: Int32 = 1
        for _ in 0..<3 {
            let updates =
                epoch == 1 ? offsets.sorted { $0.key < $1.key }.map { ($0.key, $0.value) } : []
            let answer = try fetch(request(session, epoch, updates, maxBytes: 1))
            let withData = answer.responses.flatMap(\.partitions).filter {
                $0.bytes.readableBytes > 0
            }
            served += withData.map(\.partitionIndex)
            epoch += 1
        }
        #expect(served.count == 3)
        #expect(Set(served) == [0, 1, 2])
    }

    @Test("a full cache gives no session until one has been idle for two minutes (SESS-2)")
    func cacheLimit() throws {
        // Four slots on two shards: two sessions here.
        _ = try open([(0, 0)])
        let second = try open([(0, 0)])
        #expect(try fetch(request(0, 0, [(0, 0)])).sessionId == 0)
        broker.advance(by: .seconds(119))
        #expect(try fetch(request(second, 1, [])).errorCode == 0)
        broker.advance(by: .seconds(2))
        #expect(try fetch(request(0, 0, [(0, 0)])).sessionId > 0)
        #expect(try fetch(request(second, 2, [])).errorCode == 0)
    }
}
