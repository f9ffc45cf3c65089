@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer
import Testing

@Suite("Controller")
struct ControllerTests {
    @Test("A broker that does not lead refuses every command with NOT_CONTROLLER")
    func notLeading() {
        var controller = Controller(random: SeededRandom(seed: 1))
        let refusal = #expect(throws: Refusal.self) { try controller.initialiseCluster(format: 1) }
        #expect(refusal?.code == .notController)
        #expect(throws: Refusal.self) { try controller.deleteTopics([]) }
        #expect(throws: Refusal.self) {
            try controller.createTopics(
                [],
                defaults: TopicDefaults(partitionCount: 1, replicationFactor: 1)
            )
        }
    }

    @Test("A cluster gets an id of 22 characters once and keeps it (META-4)")
    func clusterID() throws {
        let leader = try LeadingController()
        let id = try #require(leader.image.clusterID)
        #expect(id.utf8.count == 22)
        let again = try leader.controller.initialiseCluster(format: 1)
        #expect(again.records.isEmpty && again.outcomes == [id])
    }

    @Test("Before the cluster is formed nothing else is taken")
    func unformed() {
        var controller = Controller(random: SeededRandom(seed: 1))
        controller.becomeLeader()
        #expect(throws: Refusal.self) { try controller.registerBroker(.example(1)) }
        #expect(throws: Refusal.self) { try controller.setFeatureLevel(1) }
        #expect(throws: CoordinationError.self) {
            try controller.apply([.brokerRegistered(.example(1))], at: 1)
        }
    }

    @Test(
        "A broker that registers again as it was changes nothing; another address or incarnation replaces what was known"
    )
    func registration() throws {
        let leader = try LeadingController()
        #expect(try leader.controller.registerBroker(.example(1)).records.isEmpty)
        var moved = BrokerRegistration.example(1, port: 1)
        moved.incarnation.low = 99
        _ = try leader.note(leader.controller.registerBroker(moved))
        try leader.commitAll()
        #expect(leader.image.brokers[1] == moved)
        #expect(leader.image.brokers.count == 1)
    }

    @Test("What the overlay holds goes when leadership goes, and another topic may take its place")
    func stepDown() throws {
        let leader = try LeadingController()
        let lost = try leader.create(TopicRequest(name: "a"))[0].result.get()
        #expect(leader.controller.uncommittedCount == 1)
        leader.controller.stepDown()
        leader.waiting = []
        leader.controller.checkInvariants()
        #expect(throws: Refusal.self) { try leader.controller.deleteTopics([.name("a")]) }
        leader.controller.becomeLeader()
        #expect(
            try leader.controller.deleteTopics([.name("a")]).outcomes.map(\.refusal) == [
                .unknownTopicOrPartition
            ]
        )
        let kept = try leader.create(TopicRequest(name: "a"))[0].result.get()
        try leader.commitAll()
        #expect(leader.image.topic(named: "a")?.id == kept.id && kept.id != lost.id)
    }

    @Test("A leader that stepped down applies what it had proposed like anyone else")
    func commitAfterStepDown() throws {
        let leader = try LeadingController()
        _ = try leader.create(TopicRequest(name: "a"))
        leader.controller.stepDown()
        try leader.commitAll()
        #expect(leader.image.topic(named: "a") != nil)
        leader.controller.becomeLeader()
        #expect(try leader.create(TopicRequest(name: "a")).map(\.refusal) == [.topicAlreadyExists])
    }

    @Test(
        "A decision that could not be proposed goes, with those that rest on it; the ones before it stay (DESIGN §4)"
    )
    func proposalFailed() throws {
        let leader = try LeadingController()
        _ = try leader.create(TopicRequest(name: "a"))
        _ = try leader.create(TopicRequest(name: "b"))
        _ = try leader.note(
            leader.controller.createPartitions([PartitionsRequest(name: "b", partitionCount: 9)])
        )
        let failed = leader.waiting.suffix(2).map(\.number)
        leader.waiting.removeLast(2)
        leader.controller.proposalFailed(failed[0])
        #expect(leader.controller.uncommittedCount == 1)
        #expect(
            try leader.create(TopicRequest(name: "b")).map(\.refusal) == [nil],
            "b is not there"
        )
        leader.controller.proposalFailed(failed[1])
        #expect(leader.controller.uncommittedCount == 2, "what came after the failure stays")
        #expect(
            try leader.create(TopicRequest(name: "a")).map(\.refusal) == [.topicAlreadyExists],
            "a is on its way"
        )
        try leader.commitAll()
        #expect(leader.image.topics.map(\.key) == ["a", "b"])
        #expect(leader.image.topic(named: "b")?.partitions.count == 4)
    }

    @Test(
        "A topic deleted and made anew between two images is gone and new; settings and brokers are told too"
    )
    func changes() throws {
        let leader = try LeadingController()
        let old = try leader.create(TopicRequest(name: "a"))[0].result.get()
        try leader.commitAll()
        let before = leader.image
        _ = try leader.note(leader.controller.deleteTopics([.name("a")]))
        let new = try leader.create(TopicRequest(name: "a"))[0].result.get()
        let step = ConfigAlteration.Step(.set, "num.partitions", "2")
        _ = try leader.note(
            leader.controller.incrementalAlterConfigs([
                ConfigAlteration(resource: .broker(1), steps: [step])
            ])
        )
        _ = try leader.note(leader.controller.registerBroker(.example(2)))
        try leader.commitAll()
        let changes = leader.image.changes(since: before)
        #expect(changes.topics == [new] && changes.goneTopics == [old])
        #expect(changes.hasOtherDeletions && changes.hasOtherConfigs && changes.hasOtherBrokers)
    }

    @Test(
        "An entry is applied whole or not at all; one that contradicts the state is an error that names it"
    )
    func contradiction() throws {
        let leader = try LeadingController()
        leader.controller.stepDown()
        let before = leader.image
        let id = TopicID(high: 3, low: 3)
        let good = MetadataRecord.topicCreated(
            id: id,
            name: "a",
            partitions: [PartitionImage(replicas: [GroupMember(broker: 1, epoch: 50)])],
            configs: [:]
        )
        let error = #expect(throws: CoordinationError.self) {
            try leader.controller.apply([good, .topicDeleted(TopicID(high: 4, low: 4))], at: 100)
        }
        #expect(
            error?.description.contains("topicDeleted") == true
                && error?.description.contains("100") == true
        )
        #expect(leader.image == before)
        try leader.controller.apply([good], at: 100)
        #expect(leader.image.topic(named: "a")?.id == id)
    }

    @Test(
        "A record that cannot follow the state is refused, whatever it is",
        arguments: [
            .clusterInitialised(clusterID: "x", format: 1), .topicDeleted(.zero),
            .topicCreated(id: .zero, name: "a", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(id: .clusterMetadata, name: "a", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(id: id(2), name: "a", partitions: [], configs: [:]),
            .topicCreated(
                id: id(2),
                name: "a",
                partitions: [PartitionImage(replicas: [])],
                configs: [:]
            ),
            .topicCreated(id: id(2), name: "a", partitions: [place(2, 9)], configs: [:]),
            .topicCreated(id: id(2), name: "a", partitions: [place(1, 0)], configs: [:]),
            .topicCreated(id: id(2), name: "a", partitions: [place(1, UInt64.max)], configs: [:]),
            .topicCreated(id: id(2), name: "", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(id: id(2), name: "t.x", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(id: id(2), name: "t_x", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(id: id(1), name: "a", partitions: [place(1, 9)], configs: [:]),
            .topicCreated(
                id: id(2),
                name: "a",
                partitions: [place(1, 9)],
                configs: ["no.such": "1"]
            ),
            .topicCreated(
                id: id(2),
                name: "a",
                partitions: [place(1, 9)],
                configs: ["segment.ms": "01"]
            ),
            .partitionsAdded(topic: id(2), partitions: [place(1, 9)]),
            .partitionsAdded(topic: id(1), partitions: []),
            .partitionsAdded(topic: id(1), partitions: [place(1, 1)]),
            .replicaDeletionConfirmed(topic: id(1), broker: 1),
            .topicConfigsChanged(topic: id(2), changes: []),
            .topicConfigsChanged(topic: id(1), changes: [ConfigChange("no.such", "1")]),
            .brokerConfigsChanged(broker: nil, changes: [ConfigChange("num.partitions", "0")]),
            .producerIDsAllocated(ProducerIDBlock(start: 0, count: 1), broker: 1),
            .featureLevelSet(0), .featureLevelSet(-1), .featureLevelSet(2),
        ] as [MetadataRecord]
    )
    func refused(record: MetadataRecord) throws {
        var controller = Controller(random: SeededRandom(seed: 1))
        try controller.apply(
            [
                .clusterInitialised(clusterID: "c", format: 1), .brokerRegistered(.example(1)),
                .topicCreated(
                    id: Self.id(1),
                    name: "t_x",
                    partitions: [Self.place(1, 5)],
                    configs: [:]
                ),
                .producerIDsAllocated(ProducerIDBlock(start: 0, count: 1000), broker: 1),
            ],
            at: 1
        )
        let before = controller.image
        #expect(throws: CoordinationError.self) { try controller.apply([record], at: 2) }
        #expect(controller.image == before)
        controller.checkInvariants()
    }

    private static func id(_ number: UInt64) -> TopicID {
        TopicID(high: 77, low: number)
    }

    private static func place(_ broker: BrokerID, _ epoch: UInt64) -> PartitionImage {
        PartitionImage(replicas: [GroupMember(broker: broker, epoch: CreationEpoch(epoch))])
    }

    @Test(
        "Producer ids come in blocks of 1000, never twice, also after a failover and from a snapshot (PID-1)"
    )
    func producerIDs() throws {
        let leader = try LeadingController(brokerCount: 2)
        var blocks: [ProducerIDBlock] = []
        for broker in [1, 2, 1] as [BrokerID] {
            blocks += try leader.note(leader.controller.allocateProducerIDs(for: broker))
        }
        try leader.commitAll()
        var next = try Controller(
            snapshot: leader.controller.snapshot(),
            random: SeededRandom(seed: 9)
        )
        next.becomeLeader()
        blocks += try next.allocateProducerIDs(for: 2).outcomes
        #expect(blocks.map(\.start) == [0, 1000, 2000, 3000])
        #expect(blocks.allSatisfy { $0.count == 1000 })
        let refusal = #expect(throws: Refusal.self) { try next.allocateProducerIDs(for: 3) }
        #expect(refusal?.code == .brokerIdNotRegistered)
    }

    @Test("The last block of producer ids ends below the largest number, and then there are none")
    func lastProducerIDs() throws {
        let leader = try LeadingController()
        leader.controller.stepDown()
        let start = ProducerID(Int64.max - 1999)
        try leader.controller.apply(
            [.producerIDsAllocated(ProducerIDBlock(start: start, count: 1000), broker: 1)],
            at: 100
        )
        leader.controller.becomeLeader()
        #expect(throws: Refusal.self) { try leader.controller.allocateProducerIDs(for: 1) }
        leader.controller.checkInvariants()
    }

    @Test("The feature level rises to what this program knows and never falls (ADM-7)")
    func featureLevel() throws {
        let leader = try LeadingController()
        #expect(try leader.controller.setFeatureLevel(0).records.isEmpty)
        _ = try leader.note(leader.controller.setFeatureLevel(1))
        try leader.commitAll()
        #expect(leader.image.featureLevel == 1)
        for level in [0, 2, -1] as [Int16] {
            let refusal = #expect(throws: Refusal.self) {
                try leader.controller.setFeatureLevel(level)
            }
            #expect(refusal?.code == .invalidUpdateVersion)
        }
    }

    @Test("Entries without records move the index and nothing else")
    func skip() throws {
        let leader = try LeadingController()
        let before = leader.image
        leader.controller.skip(to: before.appliedIndex + 5)
        #expect(leader.image.appliedIndex == before.appliedIndex + 5)
        var same = leader.image
        same.appliedIndex = before.appliedIndex
        #expect(same == before)
        leader.controller.checkInvariants()
    }

    @Test("A snapshot cut, changed or lengthened at any byte is an error and never a trap")
    func damagedSnapshot() throws {
        let leader = try LeadingController(brokerCount: 2)
        _ = try leader.create(
            TopicRequest(name: "a", configs: [ConfigChange("segment.ms", "5")]),
            TopicRequest(name: "b")
        )
        _ = try leader.note(leader.controller.deleteTopics([.name("b")]))
        try leader.commitAll()
        let bytes = Array(leader.controller.snapshot().readableBytesView)
        let read = { (bytes: [UInt8]) throws(CoordinationError) in
            try Controller(snapshot: ByteBuffer(bytes: bytes), random: SeededRandom(seed: 1))
        }
        #expect(try read(bytes).image == leader.image)
        for place in bytes.indices {
            #expect(throws: CoordinationError.self) { try read(Array(bytes[..<place])) }
            var flipped = bytes
            flipped[place] ^= 1 << UInt8(place % 8)
            #expect(throws: CoordinationError.self) { try read(flipped) }
        }
        #expect(throws: CoordinationError.self) { try read(bytes + [0]) }
        #expect(throws: CoordinationError.foreignFormat(expected: "metadata snapshot")) {
            try read([0] + bytes)
        }
    }

    @Test(
        "A snapshot whose checksum is right and whose content is not is an error and never a trap"
    )
    func hostileSnapshot() throws {
        let leader = try LeadingController(brokerCount: 2)
        _ = try leader.create(
            TopicRequest(name: "a", configs: [ConfigChange("segment.ms", "5")]),
            TopicRequest(name: "b")
        )
        _ = try leader.note(leader.controller.deleteTopics([.name("b")]))
        try leader.commitAll()
        let bytes = Array(leader.controller.snapshot().readableBytesView.dropLast(4))
        var readable = 0
        for place in bytes.indices {
            for value in [0, 1, 0x7F, 0xFF, bytes[place] ^ 4] as [UInt8] {
                var hostile = bytes
                hostile[place] = value
                var buffer = ByteBuffer(bytes: hostile)
                buffer.writeInteger(crc32c(hostile), endianness: .little)
                if let controller = try? Controller(snapshot: buffer, random: SeededRandom(seed: 1))
                {
                    readable += 1
                    controller.checkInvariants()
                }
            }
        }
        #expect(readable > 0, "some bytes may be anything")
    }

    @Test(
        "The checksum is CRC32C",
        arguments: [("", 0), ("123456789", 0xE306_9283), ("a", 0xC1D0_4330)] as [(String, UInt32)]
    )
    func checksum(text: String, value: UInt32) {
        #expect(crc32c(text.utf8) == value)
    }
}
