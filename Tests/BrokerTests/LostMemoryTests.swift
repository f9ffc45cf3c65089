@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing

/// Replicas that lost a part of what they promised: each comes back as far as the others can vouch for it, and never as its old self.
@Suite("Replicas that lost their memory")
struct LostMemoryTests {
    private static let expected = (0..<20).map { "\($0)" }

    /// A cluster of three, and a topic with one partition on all of them and twenty acknowledged records.
    private func start() throws -> (TestCluster, TopicID) {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        let leader = try #require(cluster.leaders(topic).first)
        let client = cluster.connect(to: leader)
        for value in Self.expected {
            #expect(try client.produce(Batches.batch(value)).errorCode == 0)
        }
        cluster.advance(by: .seconds(1))
        return (cluster, topic)
    }

    private func values(_ topic: TopicID, in cluster: TestCluster) throws -> [String] {
        #expect(cluster.wait { cluster.leaders(topic).count == 1 })
        let leader = try #require(cluster.leaders(topic).first)
        return try cluster.connect(to: leader).read().sorted { $0.key < $1.key }.map(\.value)
    }

    private func group(_ topic: TopicID, at place: Int, in cluster: TestCluster) throws -> GroupID {
        try #require(cluster.partition(topic, at: place)?.replica.group)
    }

    // MARK: Damage to the journal

    @Test(
        "Damage in a sealed round costs the vote until a leader has matched the log, and then no more"
    )
    func suspect() throws {
        let (cluster, topic) = try start()
        cluster.kill(2)
        try cluster.brokers[2].damageRounds(withVotes: false)
        try cluster.restart(2)
        let group = GroupID(
            partition: TopicPartition(topic: topic, partition: 0),
            epoch: try epoch(topic, cluster)
        )
        #expect(cluster.brokers[2].suspects.contains(group))
        #expect(
            cluster.wait { cluster.partition(topic, at: 2)?.replica.isElectable == true },
            "a leader has matched it"
        )
        cluster.kill(2)
        try cluster.restart(2)
        #expect(cluster.brokers[2].suspects.isEmpty, "the journal was told")
        cluster.advance(by: .seconds(1))
        // Now it counts: with one of the two others it has everything.
        cluster.kill(0)
        #expect(try values(topic, in: cluster) == Self.expected)
    }

    private func epoch(_ topic: TopicID, _ cluster: TestCluster) throws -> CreationEpoch {
        let place = cluster.image().place(of: TopicPartition(topic: topic, partition: 0))
        return try #require(place?.replica(on: BrokerID(3))?.epoch)
    }

    @Test(
        "Where a majority may lack what it acknowledged nobody is elected, and readiness says why"
    )
    func majorityInDoubt() throws {
        let (cluster, topic) = try start()
        for place in [1, 2] {
            cluster.kill(place)
            try cluster.brokers[place].damageRounds(withVotes: false)
        }
        cluster.kill(0)
        for place in [0, 1, 2] { try cluster.restart(place) }
        cluster.advance(by: .seconds(20))
        #expect(cluster.leaders(topic).isEmpty && cluster.controller == nil)
        let told = try #require(cluster.brokers[1].shards[0].whatIsMissing)
        #expect(told.contains("has no leader, and what it acknowledged may be missing"))
    }

    @Test(
        "After a power cut of all brokers in the middle of a round, the cluster comes back by itself with all that was acknowledged",
        arguments: 0..<12 as Range<UInt64>
    )
    func powerCut(seed: UInt64) throws {
        let (cluster, topic) = try start()
        let leader = try #require(cluster.leaders(topic).first)
        for broker in cluster.brokers {
            broker.disk.fault = { operation in
                guard case .sync(let path) = operation, path.contains("/journal/") else {
                    return nil
                }
                return .failed(operation: "fdatasync", path: path, errno: 5)
            }
        }
        let request = TestClient.produceRequest(Batches.batch("unanswered"))
        _ = try cluster.connect(to: leader).send(request, version: 11)
        cluster.advance(by: .milliseconds(200))
        for place in [0, 1, 2] {
            #expect(!cluster.brokers[place].failures.isEmpty, "each was writing a round")
            cluster.kill(place)
        }
        for place in [0, 1, 2] {
            let broker = cluster.brokers[place]
            broker.disk.fault = nil
            broker.failures = []
            try cluster.restart(place, after: .tear(seed: seed &* 3 &+ UInt64(place), grain: 512))
            #expect(broker.suspects.isEmpty, "a torn tail is no damage")
        }
        let found = try values(topic, in: cluster)
        #expect(found.filter { $0 != "unanswered" } == Self.expected)
    }

    // MARK: Lost votes

    @Test(
        "A replica that lost its vote takes no part any more; a new member takes its place, and its files go when that is whole (bugs 2, 13)"
    )
    func lostVote() throws {
        let (cluster, topic) = try start()
        let old = try group(topic, at: 2, in: cluster)
        cluster.kill(2)
        cluster.brokers[2].forgottenVotes = [old.partition]
        try cluster.restart(2)
        #expect(
            cluster.partition(topic, at: 2)?.replica.group != old,
            "it is not opened as the member that it was"
        )
        #expect(
            cluster.wait {
                let place = cluster.image(at: 2).place(of: old.partition)
                return place?.isMoving == false
                    && place?.replica(on: BrokerID(3))?.epoch != old.epoch
                    && cluster.image(at: 2).removedReplicas.isEmpty
            }
        )
        let fresh = try group(topic, at: 2, in: cluster)
        #expect(fresh.epoch > old.epoch)
        let names = try cluster.brokers[2].disk.list("/data/partitions")
        #expect(!names.contains(old.description), "what is left of the old one is deleted")
        cluster.kill(0)
        #expect(try values(topic, in: cluster) == Self.expected)
    }

    @Test(
        "A replica of which a damaged journal may have known alone is not made anew under its old name (simulator, seed 594 of its time)"
    )
    func forgottenReplica() throws {
        let (cluster, topic) = try start()
        let old = try group(topic, at: 2, in: cluster)
        cluster.kill(2)
        cluster.brokers[2].forgottenGroups = [old.partition]
        try cluster.restart(2)
        cluster.brokers[2].forgottenGroups = []
        #expect(cluster.partition(topic, at: 2)?.replica.group != old, "it may have voted")
        #expect(
            cluster.wait {
                let place = cluster.image(at: 2).place(of: old.partition)
                return place?.isMoving == false
                    && place?.replica(on: BrokerID(3))?.epoch != old.epoch
            }
        )
        #expect(try group(topic, at: 2, in: cluster).epoch > old.epoch)
        cluster.kill(0)
        #expect(try values(topic, in: cluster) == Self.expected)
    }

    @Test(
        "Two of three that lost their votes are not replaced by empty ones: the partition stands still, says so, and keeps its files"
    )
    func majorityOfVotesLost() throws {
        let (cluster, topic) = try start()
        let groups = try [1, 2].map { try group(topic, at: $0, in: cluster) }
        for place in [1, 2] {
            cluster.kill(place)
            cluster.brokers[place].forgottenVotes = [groups[0].partition]
        }
        for place in [1, 2] { try cluster.restart(place) }
        cluster.advance(by: .seconds(20))
        #expect(cluster.leaders(topic).isEmpty)
        for (place, group) in zip([1, 2], groups) {
            #expect(
                try cluster.brokers[place].disk.list("/data/partitions").contains(group.description)
            )
        }
        let told = cluster.brokers[1...2].flatMap(\.shards).compactMap(\.whatIsMissing)
        #expect(told.contains { $0.contains("lost their votes and wait to be replaced") })
    }

    @Test(
        "A broker that lost the journal comes back with new members everywhere, and what it had is deleted when they are whole"
    )
    func lostJournal() throws {
        let (cluster, topic) = try start()
        let old = try group(topic, at: 2, in: cluster)
        let oldMetadata = try #require(cluster.brokers[2].shards[0].metadata?.replica.member)
        // What it had lies in segments, as after a while.
        try cluster.stop(2)
        cluster.advance(by: .seconds(2))
        try cluster.loseJournal(2, through: 0)
        #expect(try cluster.brokers[2].disk.list("/data/partitions").contains(old.description))
        #expect(
            cluster.wait {
                let place = cluster.image(at: 2).place(of: old.partition)
                return place?.isMoving == false && cluster.image(at: 2).removedReplicas.isEmpty
            }
        )
        let fresh = try group(topic, at: 2, in: cluster)
        #expect(fresh.epoch > old.epoch)
        #expect(cluster.brokers[2].shards[0].metadata?.replica.member != oldMetadata)
        let names = try cluster.brokers[2].disk.list("/data/partitions")
        #expect(!names.contains(old.description))
        cluster.kill(1)
        #expect(try values(topic, in: cluster) == Self.expected)
    }
}
