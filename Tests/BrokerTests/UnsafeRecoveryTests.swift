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

/// A majority is gone for good, and somebody says so: `flotilla cluster recover --unsafe`.
@Suite("A broker that goes on alone")
struct UnsafeRecoveryTests {
    private static let expected = (0..<20).map { "\($0)" }
    private static let newID = "BBBBBBBBBBBBBBBBBBBBBA"

    /// A cluster of three of which two are gone, and a topic that was on all of them.
    private func start() throws -> (TestCluster, TopicID) {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        let leader = try #require(cluster.leaders(topic).first)
        let client = cluster.connect(to: leader)
        for value in Self.expected {
            #expect(try client.produce(Batches.batch(value)).errorCode == 0)
        }
        cluster.advance(by: .seconds(2))
        cluster.kill(0)
        cluster.kill(1)
        cluster.advance(by: .seconds(5))
        #expect(cluster.leaders(topic).isEmpty && cluster.controller == nil)
        return (cluster, topic)
    }

    private func values(_ topic: TopicID, in cluster: TestCluster) throws -> [String] {
        #expect(cluster.wait { cluster.leaders(topic).count == 1 })
        let leader = try #require(cluster.leaders(topic).first)
        return try cluster.connect(to: leader).read().sorted { $0.key < $1.key }.map(\.value)
    }

    private func voters(_ topic: TopicID, in cluster: TestCluster) -> [Int32] {
        guard let leader = cluster.leaders(topic).first,
            let replica = cluster.partition(topic, at: leader)?.replica
        else { return [] }
        return replica.membership.isJoint ? [] : replica.membership.voters.map(\.broker.rawValue)
    }

    private func isSettled(_ topic: TopicID, in cluster: TestCluster) -> Bool {
        let place = cluster.image(at: 2).place(of: TopicPartition(topic: topic, partition: 0))
        return place?.isMoving == false
    }

    private func isDone(_ reply: MetadataReply) -> Bool {
        if case .done = reply { true } else { false }
    }

    @Test(
        "The survivor serves what it had, and empty brokers under the old ids bring the topic back to three replicas"
    )
    func goesOn() throws {
        let (cluster, topic) = try start()
        let old = cluster.image(at: 2)
        cluster.kill(2)
        let plan = try cluster.brokers[2].recoverUnsafe(as: Self.newID)
        #expect(plan.kept.map(\.name) == ["(metadata)", "orders-0"])
        #expect(
            plan.kept.last?.logEndOffset == Offset(20) && plan.kept.allSatisfy(\.doubts.isEmpty)
        )
        #expect(plan.lost.isEmpty && plan.lostBrokers == [BrokerID(1), BrokerID(2)])
        try cluster.restart(2, after: .keepUnsynced)
        #expect(cluster.brokers[2].suspects.isEmpty)
        #expect(try values(topic, in: cluster) == Self.expected)
        #expect(cluster.leaders(topic) == [2] && cluster.controller == 2)
        #expect(cluster.image(at: 2).clusterID == Self.newID && old.clusterID != Self.newID)
        #expect(try cluster.connect(to: 2).produce(Batches.batch("after")).baseOffset == 20)
        for place in [0, 1] { try cluster.wipe(place, through: 2) }
        #expect(
            cluster.wait {
                isSettled(topic, in: cluster) && voters(topic, in: cluster) == [1, 2, 3]
            }
        )
        cluster.kill(2)
        #expect(try values(topic, in: cluster) == Self.expected + ["after"])
        #expect(cluster.wait { cluster.controller != nil })
    }

    @Test(
        "What the others remember counts nowhere: their members and their lives are not those that are awaited"
    )
    func othersAreOut() throws {
        let (cluster, topic) = try start()
        let old = cluster.image(at: 2)
        cluster.kill(2)
        _ = try cluster.brokers[2].recoverUnsafe(as: Self.newID)
        try cluster.restart(2, after: .keepUnsynced)
        #expect(try values(topic, in: cluster) == Self.expected)
        let image = cluster.image(at: 2)
        let id = TopicPartition(topic: topic, partition: 0)
        for broker in [BrokerID(1), BrokerID(2)] {
            #expect(image.brokers[broker]?.incarnation != old.brokers[broker]?.incarnation)
            #expect(image.metadataMembers[broker]?.epoch != old.metadataMembers[broker]?.epoch)
            let members = image.place(of: id)?.members.filter { $0.broker == broker } ?? []
            let before = old.place(of: id)?.members ?? []
            #expect(members.count == 1 && !members.contains(where: before.contains))
        }
        #expect(cluster.partition(topic, at: 2)?.replica.membership.voters.count == 1)
    }

    @Test(
        "Brokers with new ids take the places of those that are given up, which are drained and removed"
    )
    func newIDs() throws {
        let (cluster, topic) = try start()
        cluster.kill(2)
        _ = try cluster.brokers[2].recoverUnsafe(as: Self.newID)
        try cluster.restart(2, after: .keepUnsynced)
        #expect(try values(topic, in: cluster) == Self.expected)
        for _ in 0..<2 { try cluster.join(through: 2) }
        cluster.advance(by: .seconds(2))
        for id in [BrokerID(1), BrokerID(2)] {
            let reply = try cluster.command(
                .setBrokerState(id, .draining, allowsPartial: false),
                at: 2
            )
            #expect(isDone(reply))
        }
        #expect(
            cluster.wait(.seconds(90)) {
                isSettled(topic, in: cluster) && voters(topic, in: cluster) == [3, 4, 5]
            }
        )
        for id in [BrokerID(1), BrokerID(2)] {
            #expect(isDone(try cluster.command(.unregisterBroker(id), at: 2)))
        }
        cluster.advance(by: .seconds(5))
        cluster.kill(2)
        #expect(try values(topic, in: cluster) == Self.expected)
    }

    @Test(
        "A survivor whose journal is damaged as well goes on with what is left, and is in no doubt any more"
    )
    func damagedSurvivor() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(on: [[1, 2, 3]])
        cluster.advance(by: .seconds(2))
        let leader = try #require(cluster.leaders(topic).first)
        let client = cluster.connect(to: leader)
        for value in Self.expected { try client.produce(Batches.batch(value)) }
        cluster.advance(by: .seconds(2))
        try cluster.stop(2)
        try cluster.restart(2)
        cluster.advance(by: .seconds(2))
        cluster.kill(0)
        cluster.kill(1)
        cluster.kill(2)
        try cluster.brokers[2].damageRounds(withVotes: true)
        let plan = try cluster.brokers[2].recoverUnsafe(as: Self.newID)
        #expect(plan.kept.contains { !$0.doubts.isEmpty })
        try cluster.restart(2, after: .keepUnsynced)
        #expect(cluster.brokers[2].suspects.isEmpty)
        let found = try values(topic, in: cluster)
        #expect(found == Array(Self.expected.prefix(found.count)) && found.count == 20)
        try cluster.brokers[2].stopCleanly()
        cluster.kill(2)
        try cluster.restart(2, after: .keepUnsynced)
        #expect(try values(topic, in: cluster) == found)
    }
}
