@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

@Suite("Replicas that need files")
struct ShippingTests {
    @Test(
        "A follower whose next entries were deleted gets files, then entries, and leads with them"
    )
    func deletedStart() throws {
        let scene = try Scene()
        try scene.cluster.restart(scene.follower)
        #expect(scene.isCaughtUp())
        #expect(scene.installedCount(at: scene.follower) == 1)
        try scene.expectEqualLogs()
        // Producers are known by what came in the files alone, and by what came as entries.
        try scene.lead(scene.follower)
        let client = scene.cluster.connect(to: scene.follower)
        for sequence in [scene.lastSequence, scene.lastSequence - 3] {
            let again = try client.produce(scene.batch(sequence))
            #expect(again.error == .noError)
            #expect(again.baseOffset == Int64(sequence))
        }
        #expect(try client.produce(scene.batch(scene.lastSequence + 1)).error == .noError)
        #expect(
            try scene.values(at: scene.follower) == scene.expected(upTo: scene.lastSequence + 1)
        )
    }

    @Test("A follower catches up with what retention by size has left, and again after that")
    func retention() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(
            replicas: 3,
            configs: [
                ("segment.bytes", "1048576"), ("retention.bytes", "1048576"),
                ("compression.type", "producer"),
            ]
        )
        cluster.advance(by: .seconds(2))
        let leader = try #require(cluster.leaders(topic).first)
        let follower = (leader + 1) % 3
        for round in 1...2 {
            cluster.kill(follower)
            for _ in 0..<10 {
                #expect(
                    try cluster.connect(to: leader).produce(Batches.large(400_000)).error
                        == .noError
                )
            }
            cluster.advance(by: .seconds(70))
            try cluster.restart(follower)
            let first = try #require(cluster.partition(topic, at: leader)).replica
            #expect(
                cluster.wait {
                    cluster.partition(topic, at: follower)?.replica.appliedIndex
                        == first.appliedIndex
                }
            )
            let installed = cluster.brokers[follower].events.count {
                if case .caughtUpByFiles = $0 { true } else { false }
            }
            #expect(installed == 1, "round \(round)")
        }
        let second = try #require(cluster.partition(topic, at: follower)).replica
        #expect(second.log.logStartOffset == cluster.partition(topic, at: leader)?.logStartOffset)
    }

    @Test("A new replica of a partition whose start is gone begins with files")
    func movedReplica() throws {
        let scene = try Scene(kills: false)
        let newcomer = try scene.cluster.join()
        let others = [0, 1, 2].filter { $0 != scene.follower }.map { Int32($0 + 1) }
        let client = scene.cluster.connect(to: scene.leader)
        #expect(try client.reassign(to: others + [Int32(newcomer + 1)]) == .noError)
        #expect(
            scene.cluster.wait(.seconds(60)) {
                let place = scene.cluster.image(at: scene.cluster.controller ?? 0).place(
                    of: TopicPartition(topic: scene.topic, partition: 0)
                )
                return place?.isMoving == false
            }
        )
        #expect(scene.installedCount(at: newcomer) == 1)
        try scene.expectEqualLogs(at: newcomer)
    }

    @Test("The metadata's replica takes files as well")
    func metadata() throws {
        let cluster = try TestCluster()
        let controller = try #require(cluster.controller)
        let place = (controller + 1) % 3
        cluster.kill(place)
        let service = try #require(cluster.brokers[controller].shards[0].metadata)
        for number in 0..<4 {
            try cluster.connect(to: controller).createTopic("t\(number)", replicas: 1)
            service.replica.propose(Proposal(.roll, durability: .quorum) { _ in })
            cluster.advance(by: .seconds(3))
        }
        // Nothing deletes the metadata's start by itself yet.
        let start = service.replica.log.logEndOffset
        service.replica.propose(Proposal(.startOffset(start), durability: .quorum) { _ in })
        cluster.brokers[controller].shards[0].requestSync(service.writer)
        cluster.advance(by: .seconds(3))
        let removal = try #require(
            service.replica.log.nextRemoval(keepingFrom: service.replica.appliedIndex)
        )
        try removal.perform().get()
        cluster.advance(by: .seconds(3))
        try cluster.restart(place)
        #expect(
            cluster.wait {
                cluster.brokers[place].shards[0].metadata?.replica.appliedIndex
                    == service.replica.appliedIndex
            }
        )
        #expect(cluster.image(at: place) == cluster.image(at: controller))
        for number in 0..<4 {
            #expect(try cluster.connect(to: place).describe("t\(number)").errorCode == 0)
        }
    }

    @Test("A leader that dies in the middle leaves the rest to its successor")
    func leaderDies() throws {
        let scene = try Scene()
        var chunkCount = 0
        scene.cluster.loses = { sent, place in
            guard place == scene.leader, sent.lane == .bulk else { return false }
            chunkCount += 1
            return chunkCount > 4
        }
        try scene.cluster.restart(scene.follower)
        scene.cluster.advance(by: .milliseconds(500))
        #expect(chunkCount > 4)
        scene.cluster.kill(scene.leader)
        scene.cluster.loses = nil
        #expect(scene.cluster.wait { scene.cluster.leaders(scene.topic).count == 1 })
        #expect(scene.isCaughtUp())
        #expect(scene.installedCount(at: scene.follower) == 1)
        try scene.expectEqualLogs()
    }

    @Test("Lost frames are asked for again", arguments: 0..<8 as Range<UInt64>)
    func lostFrames(seed: UInt64) throws {
        let scene = try Scene()
        var random = SeededRandom(seed: seed)
        var lossCount = 0
        scene.cluster.loses = { sent, _ in
            guard lossCount < 30, (try? PeerMessage(decoding: sent.frame))?.isAboutFiles == true,
                Int.random(in: 0..<3, using: &random) == 0
            else { return false }
            lossCount += 1
            return true
        }
        try scene.cluster.restart(scene.follower)
        #expect(scene.isCaughtUp(within: .seconds(120)), "seed \(seed)")
        #expect(lossCount > 0)
        try scene.expectEqualLogs()
    }

    /// How the disk of a receiver fares when it dies, and how many of its operations were done before.
    static let crashes: [(operation: Int, fate: MemoryDisk.CrashFate)] = stride(
        from: 0,
        through: 156,
        by: 6
    ).map { operation in
        let fates: [MemoryDisk.CrashFate] = [
            .dropUnsynced, .keepUnsynced, .tear(seed: UInt64(operation), grain: 512),
        ]
        return (operation, fates[operation / 6 % 3])
    }

    @Test("A receiver that dies at any point begins anew, with its old log or the new one")
    func receiverCrashes() throws {
        var installedBefore = 0
        for crash in Self.crashes {
            let scene = try Scene()
            let broker = scene.cluster.brokers[scene.follower]
            var count: Int?
            broker.disk.fault = { operation in
                if case .createDirectory(let path) = operation, path.hasSuffix(".receiving") {
                    count = count ?? 0
                }
                guard let before = count else { return nil }
                count = before + 1
                return before >= crash.operation
                    ? .failed(operation: "any", path: "/data", errno: 5) : nil
            }
            try scene.cluster.restart(scene.follower)
            scene.cluster.advance(by: .seconds(3))
            #expect(count ?? 0 > crash.operation, "\(crash)")
            installedBefore += scene.installedCount(at: scene.follower)
            scene.cluster.kill(scene.follower)
            broker.disk.fault = nil
            broker.failures.removeAll()
            try scene.cluster.restart(scene.follower, after: crash.fate)
            #expect(broker.unreadable.isEmpty, "\(crash)")
            #expect(scene.isCaughtUp(), "\(crash)")
            try scene.expectEqualLogs()
            #expect(try !broker.disk.list("/data/partitions").contains { $0.hasSuffix("ing") })
        }
        #expect(installedBefore > 0, "some crashes come after the installation")
        #expect(installedBefore < Self.crashes.count, "some come before")
    }

    @Test("A replica that is deleted while it receives leaves nothing behind")
    func deletedWhileReceiving() throws {
        let scene = try Scene()
        scene.cluster.loses = { sent, place in place == scene.leader && sent.lane == .bulk }
        try scene.cluster.restart(scene.follower)
        scene.cluster.advance(by: .seconds(1))
        scene.cluster.loses = nil
        _ = try scene.cluster.connect(to: scene.leader).ask(
            DeleteTopicsRequest(
                topics: [.init(name: TestClient.topic, topicId: .zero)],
                topicNames: [],
                timeoutMs: 1_000
            ),
            version: 6
        )
        scene.cluster.advance(by: .seconds(60))
        let paths = scene.cluster.brokers[scene.follower].disk.paths
        #expect(!paths.contains { $0.contains("\(scene.topic)") })
        #expect(
            scene.cluster.brokers[scene.leader].shards.allSatisfy {
                $0.statistics.catchingUpCount == 0
            }
        )
    }

    @Test(
        "Old entries travel in bulk, what is in memory live, and no request is refused on the way"
    )
    func lanes() throws {
        let cluster = try TestCluster(adjust: { $0.tailByteCount = 1 })
        let topic = try cluster.connect(to: 0).createTopic(
            replicas: 3,
            configs: [("compression.type", "producer")]
        )
        cluster.advance(by: .seconds(2))
        let leader = try #require(cluster.leaders(topic).first)
        let follower = (leader + 1) % 3
        cluster.kill(follower)
        let client = cluster.connect(to: leader)
        for _ in 0..<100 {
            #expect(try client.produce(Batches.large(40_000)).error == .noError)
        }
        cluster.advance(by: .seconds(5))
        var entries: [PeerLane: Int] = [:]
        var refusals = 0
        var isLate = false
        cluster.loses = { sent, place in
            guard case .raft(let envelope) = try? PeerMessage(decoding: sent.frame),
                envelope.partition.topic == topic
            else { return false }
            switch envelope.message {
            case .appendRequest where sent.target == cluster.brokers[follower].id:
                entries[sent.lane, default: 0] += envelope.entries.count
                if sent.lane == .bulk, envelope.entries.isEmpty { isLate = true }
            case .appendResponse(let response) where place == follower:
                if case .rejected = response.outcome { refusals += 1 }
            default: break
            }
            return false
        }
        try cluster.restart(follower)
        for _ in 0..<50 {
            #expect(try client.produce(Batches.large(10_000)).error == .noError)
            cluster.advance(by: .milliseconds(20))
        }
        let first = try #require(cluster.partition(topic, at: leader)).replica
        #expect(
            cluster.wait {
                cluster.partition(topic, at: follower)?.replica.appliedIndex == first.appliedIndex
            }
        )
        #expect(entries[.bulk] ?? 0 >= 100)
        #expect(entries[.live] ?? 0 > 0)
        #expect(!isLate, "nothing but entries goes in bulk")
        // The first request asks where the follower stands.
        #expect(refusals <= 1)
    }

    @Test("Catching up takes no more bytes per second than the shard may read")
    func throttle() throws {
        let cluster = try TestCluster(
            shardCount: 1,
            adjust: {
                $0.tailByteCount = 1
                $0.recoveryByteRate = 1 << 20
            }
        )
        let topic = try cluster.connect(to: 0).createTopic(
            replicas: 3,
            configs: [("compression.type", "producer")]
        )
        cluster.advance(by: .seconds(2))
        let leader = try #require(cluster.leaders(topic).first)
        let follower = (leader + 1) % 3
        cluster.kill(follower)
        for _ in 0..<60 {
            #expect(
                try cluster.connect(to: leader).produce(Batches.large(200_000)).error == .noError
            )
        }
        cluster.advance(by: .seconds(5))
        try cluster.restart(follower)
        let began = cluster.clock.now
        let first = try #require(cluster.partition(topic, at: leader)).replica
        #expect(
            cluster.wait(.seconds(60)) {
                cluster.partition(topic, at: follower)?.replica.appliedIndex == first.appliedIndex
            }
        )
        // 12 MB, of which a burst may leave at once.
        let took = cluster.clock.now - began
        #expect(took >= .seconds(7) && took <= .seconds(30), "\(took)")
    }
}

extension PeerMessage {
    fileprivate var isAboutFiles: Bool {
        if case .replica(let message) = self {
            ShippingMessage.kinds.contains(message.kind)
        } else {
            false
        }
    }
}

/// A partition whose start is gone, and a follower that lacks what went.
private final class Scene {
    let cluster: TestCluster
    let topic: TopicID
    let leader: Int
    let follower: Int
    private(set) var lastSequence: Int32 = -1

    /// `kills`: whether the follower is down while the log goes on and loses its start.
    init(kills: Bool = true) throws {
        cluster = try TestCluster()
        topic = try cluster.connect(to: 0).createTopic(replicas: 3)
        cluster.advance(by: .seconds(2))
        leader = try #require(cluster.leaders(topic).first)
        follower = (leader + 1) % 3
        try produce(3)
        cluster.advance(by: .seconds(2))
        if kills { cluster.kill(follower) }
        for _ in 0..<6 {
            try produce(2)
            replica(at: leader).propose(Proposal(.roll, durability: .quorum) { _ in })
            cluster.advance(by: .seconds(2))
        }
        try produce(2)
        #expect(try cluster.connect(to: leader).deleteRecords(before: 7).lowWatermark == 7)
        cluster.advance(by: .seconds(1))
        // Followers delete when the journal wants its file back; here nobody shall have what the follower lacks.
        for place in cluster.brokers.indices where place != follower || !kills {
            for shard in cluster.brokers[place].shards {
                if let partition = shard.allPartitions.first { shard.requestSync(partition.writer) }
            }
        }
        cluster.advance(by: .seconds(5))
        for place in cluster.brokers.indices where place != follower || !kills {
            #expect(replica(at: place).log.firstIndex > LogIndex(7))
        }
    }

    func replica(at place: Int) -> Replica {
        guard let partition = cluster.partition(topic, at: place) else {
            preconditionFailure("the partition is there")
        }
        return partition.replica
    }

    func batch(_ sequence: Int32) -> ByteBuffer {
        Batches.batch("v\(sequence)", producer: 7, sequence: sequence)
    }

    private func produce(_ count: Int) throws {
        for _ in 0..<count {
            lastSequence += 1
            let answer = try cluster.connect(to: leader).produce(batch(lastSequence))
            #expect(answer.error == .noError)
            #expect(answer.baseOffset == Int64(lastSequence))
        }
    }

    /// Waits until the follower has all that its leader has.
    func isCaughtUp(within limit: Duration = .seconds(40)) -> Bool {
        cluster.wait(limit) {
            guard let place = cluster.leaders(topic).first,
                let replica = cluster.partition(topic, at: follower)?.replica
            else { return false }
            let first = self.replica(at: place)
            replica.checkInvariants()
            return place != follower && replica.appliedIndex == first.appliedIndex
                && replica.log.lastIndex == first.log.lastIndex && !replica.isInstalling
        }
    }

    func installedCount(at place: Int) -> Int {
        cluster.brokers[place].events.count {
            if case .caughtUpByFiles(let group, _, _) = $0 {
                group.partition.topic == topic
            } else {
                false
            }
        }
    }

    func lead(_ place: Int) throws {
        guard let first = cluster.leaders(topic).first, first != place else { return }
        replica(at: first).transferLeadership(to: replica(at: place).member)
        #expect(cluster.wait { cluster.leaders(topic) == [place] })
    }

    func values(at place: Int) throws -> [String] {
        var found: [Int64: String] = [:]
        var next: Int64 = 7
        // A fetch ends with a segment.
        while true {
            let part = try cluster.connect(to: place).read(from: next)
            guard let last = part.keys.max() else { break }
            found.merge(part) { $1 }
            next = last + 1
        }
        return found.sorted { $0.key < $1.key }.map(\.value)
    }

    func expected(upTo sequence: Int32) -> [String] { (7...sequence).map { "v\($0)" } }

    /// Compares all segments, byte for byte, when everything is in segments.
    func expectEqualLogs(at place: Int? = nil) throws {
        let place = place ?? follower
        cluster.advance(by: .seconds(5))
        let first = try #require(cluster.leaders(topic).first)
        let (ours, theirs) = (segments(at: place), segments(at: first))
        #expect(!ours.isEmpty)
        // What either has deleted the other may still have to delete.
        let common = Set(ours.keys).intersection(theirs.keys)
        #expect(common.count >= 3 * 3)
        for name in common.sorted() { #expect(ours[name] == theirs[name], "\(name)") }
        #expect(replica(at: place).log.logStartOffset == replica(at: first).log.logStartOffset)
        #expect(
            replica(at: place).log.lastFrameChecksum == replica(at: first).log.lastFrameChecksum
        )
    }

    private func segments(at place: Int) -> [String: ByteBuffer] {
        let disk = cluster.brokers[place].disk
        let directory = "\(TestBroker.directory)/partitions/\(replica(at: place).group)/"
        var files: [String: ByteBuffer] = [:]
        for path in disk.paths where path.hasPrefix(directory) && !path.hasSuffix(".state") {
            files[String(path.dropFirst(directory.count))] = disk.contents(path)
        }
        return files
    }
}
