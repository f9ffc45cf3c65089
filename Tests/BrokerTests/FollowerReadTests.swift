@testable import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
@testable import FlotillaRaft
@testable import FlotillaReplication
import FlotillaStorage
import Testing

/// Consumers that read from the replica next to them.
///
/// - Source: KIP-392; SEMANTICS rules FETCH-15 and FETCH-16.
@Suite("Reading from followers")
struct FollowerReadTests {
    private let cluster: TestCluster
    private let topic: TopicID

    /// Three brokers in racks a, b and c; the first leads.
    init() throws {
        cluster = try TestCluster(racks: ["a", "b", "c"])
        topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        #expect(cluster.leaders(topic) == [0])
    }

    private func request(
        from offset: Int64 = 0,
        rack: String = "b",
        wait: Int32 = 0,
        epoch: Int32 = -1,
        lastEpoch: Int32 = -1
    ) -> FetchRequest {
        TestClient.fetchRequest(
            from: offset,
            wait: wait,
            epoch: epoch,
            lastEpoch: lastEpoch,
            rack: rack
        )
    }

    private func produce(_ value: String) throws {
        #expect(try cluster.connect(to: 0).produce(Batches.batch(value)).error == .noError)
    }

    private func part(of answer: FetchResponse) throws -> FetchResponse.PartitionData {
        try only(only(answer.responses).partitions)
    }

    // MARK: The leader

    @Test("The leader sends a consumer to the replica of its rack, which serves it (FETCH-15)")
    func redirect() throws {
        try produce("a")
        let sent = try cluster.connect(to: 0).fetch(request())
        #expect(sent.error == .noError)
        #expect(sent.preferredReadReplica == 2)
        #expect(try sent.values().isEmpty)
        #expect(sent.highWatermark == 1)
        let answer = try cluster.connect(to: 1).fetch(request())
        #expect(answer.error == .noError)
        #expect(answer.preferredReadReplica == -1)
        #expect(answer.highWatermark == 1)
        #expect(try answer.values() == [0: "a"])
        #expect(try cluster.connect(to: 0).fetch(request(rack: "c")).preferredReadReplica == 3)
    }

    @Test(
        "Nobody is sent on from the own rack, to a rack without a replica, or without a rack",
        arguments: ["a", "elsewhere", ""]
    )
    func stays(rack: String) throws {
        try produce("a")
        let answer = try cluster.connect(to: 0).fetch(request(rack: rack))
        #expect(answer.preferredReadReplica == -1)
        #expect(try answer.values() == [0: "a"])
    }

    @Test("A consumer that waits is sent on at once, though nothing is there to read (FETCH-6)")
    func redirectsAtOnce() throws {
        let client = cluster.connect(to: 0)
        let now = cluster.clock.now
        let answer = try client.fetch(request(wait: 30_000))
        #expect(answer.preferredReadReplica == 2)
        #expect(cluster.clock.now - now < .milliseconds(200))
    }

    @Test("A session is told of the replica, too (SESS-6)")
    func session() throws {
        let client = cluster.connect(to: 0)
        var first = request()
        first.sessionEpoch = 0
        let opened = try client.ask(first, version: 12)
        #expect(opened.sessionId != 0)
        #expect(try part(of: opened).preferredReadReplica == 2)
        // Back after all: this leader serves it, and later sends it on once more.
        cluster.advance(by: .seconds(2))
        var next = FetchRequest(maxWaitMs: 0, minBytes: 1, sessionId: opened.sessionId, rackId: "b")
        next.sessionEpoch = 1
        #expect(try client.ask(next, version: 12).responses.isEmpty)
        cluster.advance(by: .seconds(61))
        next.sessionEpoch = 2
        #expect(try part(of: client.ask(next, version: 12)).preferredReadReplica == 2)
    }

    @Test("A consumer that comes back within a minute found something wrong, and is served")
    func comesBack() throws {
        try produce("a")
        let client = cluster.connect(to: 0)
        #expect(try client.fetch(request()).preferredReadReplica == 2)
        // This one may have left before the answer to the first arrived.
        #expect(try client.fetch(request()).preferredReadReplica == 2)
        cluster.advance(by: .seconds(1))
        #expect(try client.fetch(request()).values() == [0: "a"])
        cluster.advance(by: .seconds(58))
        #expect(try client.fetch(request()).values() == [0: "a"])
        cluster.advance(by: .seconds(1))
        #expect(try client.fetch(request()).preferredReadReplica == 2)
    }

    @Test("Nobody is sent to a replica that does not answer")
    func unreachable() throws {
        try produce("a")
        cluster.isolate(1)
        let answer = try cluster.connect(to: 0).fetch(request())
        #expect(answer.preferredReadReplica == -1)
        #expect(try answer.values() == [0: "a"])
    }

    @Test("Nobody is sent to a replica without the offset, or one that is behind for long")
    func behind() throws {
        try produce("a")
        cluster.brokers[1].isJournalHeld = true
        try produce("b")
        #expect(try cluster.connect(to: 0).fetch(request(from: 2)).preferredReadReplica == -1)
        #expect(try cluster.connect(to: 0).fetch(request(from: 1)).preferredReadReplica == 2)
        cluster.advance(by: .seconds(31))
        #expect(try cluster.connect(to: 0).fetch(request(from: 1)).preferredReadReplica == -1)
        cluster.brokers[1].isJournalHeld = false
        cluster.advance(by: .seconds(1))
        #expect(try cluster.connect(to: 0).fetch(request(from: 2)).preferredReadReplica == 2)
    }

    // MARK: The follower

    @Test(
        "Without a rack only the leader is read from, and the follower tells who it is (FETCH-13)"
    )
    func leaderOnly() throws {
        try produce("a")
        let answer = try cluster.connect(to: 1).fetch(request(rack: ""))
        #expect(answer.error == .notLeaderOrFollower)
        #expect(answer.currentLeader.leaderId == 1)
        let old = try cluster.connect(to: 1).fetch(version: 10)
        #expect(old.error == .notLeaderOrFollower)
    }

    @Test("A consumer that waits at a follower has a record as soon as it is committed")
    func wakes() throws {
        let client = cluster.connect(to: 1)
        let producer = cluster.connect(to: 0)
        for number in 0..<3 {
            let id = try client.send(
                request(from: Int64(number), wait: 30_000),
                version: 12
            )
            cluster.run()
            #expect(!client.hasAnswer)
            let produced = try producer.sendProduce(Batches.batch("\(number)"))
            // No time passes: the follower does not wait for a heartbeat to hear of the commit.
            cluster.run()
            #expect(try producer.produced(produced).error == .noError)
            #expect(client.hasAnswer)
            let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
            #expect(try part(of: answer).values() == [Int64(number): "\(number)"])
        }
    }

    @Test(
        "A leader that may be deposed does not tell a consumer that there is nothing at its offset (simulator, seed 1048 of its time)"
    )
    func deposed() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        let old = try #require(cluster.leaders(topic).first)
        try cluster.connect(to: old).produce(Batches.batch("a"))
        cluster.isolate(old)
        #expect(cluster.wait { cluster.leaders(topic).contains { $0 != old } })
        let new = try #require(cluster.leaders(topic).first { $0 != old })
        try cluster.connect(to: new).produce(Batches.batch("b"))
        let client = cluster.connect(to: old)
        let id = try client.send(request(from: 2), version: 12)
        cluster.advance(by: .seconds(2))
        let answer = try part(of: client.answer(to: FetchRequest.self, version: 12, id: id))
        let told = ErrorCode(rawValue: answer.errorCode)
        #expect(told == .offsetNotAvailable || told == .notLeaderOrFollower)
        let there = try cluster.connect(to: new).fetch(request(from: 3))
        #expect(there.error == .offsetOutOfRange, "who leads says so")
    }

    @Test(
        "A follower hears of a commit with the next batch, or from a message of its own a moment later"
    )
    func commitNews() throws {
        let cluster = try TestCluster { $0.commitNewsDelay = .milliseconds(1) }
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(1))
        let leader = try #require(cluster.leaders(topic).first)
        let follower = try #require(cluster.partition(topic, at: (leader + 1) % 3)?.replica)
        let client = cluster.connect(to: leader)
        // A group at rest has to be woken.
        try client.produce(Batches.batch("first"))
        let before = cluster.sentCount
        for number in 0..<10 { try client.produce(Batches.batch("\(number)")) }
        // A batch to each of the two, and their answers.
        #expect(cluster.sentCount - before == 40)
        let last = try #require(cluster.partition(topic, at: leader)?.replica.committedIndex)
        #expect(follower.committedIndex.rawValue == last.rawValue - 1)
        cluster.advance(by: .milliseconds(1))
        #expect(follower.committedIndex == last)
    }

    @Test("A follower serves nothing that is not committed, though it has it (FETCH-2)")
    func onlyCommitted() throws {
        try produce("a")
        cluster.brokers[1].isJournalHeld = true
        cluster.brokers[2].isJournalHeld = true
        let producer = cluster.connect(to: 0)
        let id = try producer.sendProduce(Batches.batch("b"))
        cluster.run()
        let partition = try #require(cluster.partition(topic, at: 1))
        #expect(partition.replica.log.logEndOffset == Offset(2))
        let client = cluster.connect(to: 1)
        #expect(try client.fetch(request()).values() == [0: "a"])
        let epoch = try only(client.describe().partitions).leaderEpoch
        // What it has beyond may yet be replaced, so it does not judge the client's epoch by it.
        for (offset, lastEpoch) in [(Int64(1), epoch), (2, 0)] {
            let answer = try client.fetch(request(from: offset, lastEpoch: lastEpoch))
            #expect(answer.error == .noError)
            #expect(answer.highWatermark == 1)
            #expect(answer.divergingEpoch.endOffset == -1)
            #expect(try answer.values().isEmpty)
        }
        cluster.brokers[1].isJournalHeld = false
        cluster.brokers[2].isJournalHeld = false
        cluster.run()
        #expect(try producer.produced(id).error == .noError)
        #expect(try client.fetch(request(from: 1)).values() == [1: "b"])
    }

    @Test("Beyond a follower's end the leader is to be asked, before its start nobody (FETCH-3)")
    func range() throws {
        try produce("a")
        try produce("b")
        let follower = cluster.connect(to: 1)
        #expect(try follower.fetch(request(from: 3)).error == .offsetNotAvailable)
        #expect(try cluster.connect(to: 0).fetch(request(from: 3)).error == .offsetOutOfRange)
        #expect(try cluster.connect(to: 0).deleteRecords(before: 1).error == .noError)
        cluster.run()
        #expect(try follower.fetch(request(from: 0)).error == .offsetOutOfRange)
        #expect(try follower.fetch(request(from: 1)).values() == [1: "b"])
        #expect(try follower.fetch(request(from: 1)).logStartOffset == 1)
    }

    @Test("Followers check the leader epoch, too (GEN-7, FETCH-10)")
    func epochs() throws {
        try produce("a")
        let epoch = try only(cluster.connect(to: 1).describe().partitions).leaderEpoch
        let follower = cluster.connect(to: 1)
        #expect(try follower.fetch(request(epoch: epoch)).values() == [0: "a"])
        let fenced = try follower.fetch(request(epoch: epoch - 1))
        #expect(fenced.error == .fencedLeaderEpoch)
        #expect(fenced.currentLeader.leaderId == 1)
        #expect(fenced.currentLeader.leaderEpoch == epoch)
        let unknown = try follower.fetch(request(epoch: epoch + 1))
        #expect(unknown.error == .unknownLeaderEpoch)
        #expect(unknown.currentLeader.leaderId == -1)
    }

    @Test("A follower that is cut off from its leader lets go of those who wait, and serves nobody")
    func cutOff() throws {
        try produce("a")
        let client = cluster.connect(to: 1)
        let id = try client.send(request(from: 1, wait: 30_000), version: 12)
        cluster.run()
        #expect(!client.hasAnswer)
        cluster.isolate(1)
        #expect(client.hasAnswer)
        let answer = try client.answer(to: FetchRequest.self, version: 12, id: id)
        #expect(try part(of: answer).error == .notLeaderOrFollower)
        #expect(try part(of: answer).currentLeader.leaderId == -1)
        #expect(try client.fetch(request()).error == .notLeaderOrFollower)
        cluster.heal(1)
        #expect(cluster.wait { (try? client.fetch(request()).values()) == [0: "a"] })
    }

    @Test("A follower that cannot apply what is committed serves nobody")
    func obstructed() throws {
        try produce("a")
        let partition = try #require(cluster.partition(topic, at: 1))
        partition.replica.obstacle = .journalUnusable(directory: "a test's")
        let client = cluster.connect(to: 1)
        #expect(try client.fetch(request()).error == .notLeaderOrFollower)
        partition.replica.repaired()
        #expect(try client.fetch(request()).values() == [0: "a"])
    }

    @Test("A follower whose log is in doubt serves nobody until its leader has matched it")
    func suspect() throws {
        try produce("a")
        let partition = try #require(cluster.partition(topic, at: 1))
        cluster.losesRaft = { [topic] envelope, _, target in
            guard target == 1, envelope.partition.topic == topic else { return false }
            if case .appendRequest = envelope.message { return true }
            return false
        }
        // As recovery leaves it that found sealed rounds of the journal damaged.
        partition.replica.raft.isDamaged = true
        cluster.advance(by: .seconds(1))
        let client = cluster.connect(to: 1)
        #expect(try client.fetch(request()).error == .notLeaderOrFollower)
        cluster.losesRaft = nil
        try produce("b")
        #expect(cluster.wait { (try? client.fetch(request()).values().count) == 2 })
    }

    @Test("A consumer reads on at a follower that becomes the leader, and loses nothing")
    func takesOver() throws {
        try produce("a")
        let client = cluster.connect(to: 1)
        #expect(try client.fetch(request()).values() == [0: "a"])
        cluster.kill(0)
        #expect(cluster.wait { !cluster.leaders(topic).isEmpty })
        let leader = try #require(cluster.leaders(topic).first)
        #expect(try cluster.connect(to: leader).produce(Batches.batch("b")).baseOffset == 1)
        #expect(try client.fetch(request(from: 1)).values() == [1: "b"])
    }

    // MARK: What is remembered of a consumer

    @Test("Redirects are remembered for a minute, and for so many partitions at most")
    func bounds() {
        var redirects = ReadRedirects()
        let start = cluster.clock.now
        for number in 0..<Int32(ReadRedirects.limit) {
            let partition = TopicPartition(topic: topic, partition: number)
            #expect(redirects.allows(partition, now: start))
            redirects.note(partition, now: start)
        }
        let next = TopicPartition(topic: topic, partition: -1)
        #expect(!redirects.allows(next, now: start))
        let first = TopicPartition(topic: topic, partition: 0)
        let later = start + ReadRedirects.patience
        #expect(redirects.allows(first, now: later))
        redirects.note(first, now: later)
        #expect(redirects.allows(next, now: later))
        #expect(!redirects.allows(first, now: later + ReadRedirects.grace))
    }
}
