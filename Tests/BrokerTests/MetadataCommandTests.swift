@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer
import Testing

private let topic = TopicID(high: 1, low: 2)
private let partition = TopicPartition(topic: topic, partition: 3)
private let member = GroupMember(broker: BrokerID(4), epoch: CreationEpoch(5))
private let changes = [ConfigChange("a", nil), ConfigChange("b", ""), ConfigChange("c", "Ω")]
private let brokers = [BrokerID(1), BrokerID(-1)]

/// Every kind of command, with the shortest and the richest form of some.
private let commands: [MetadataCommand] = [
    .createTopics([], validateOnly: false),
    .createTopics(
        [
            TopicRequest(name: String(repeating: "x", count: 70_000)),
            TopicRequest(
                name: "t",
                partitionCount: 3,
                replicationFactor: 2,
                assignments: [.init(partition: 0, brokers: brokers)],
                configs: changes
            ),
        ],
        validateOnly: true
    ),
    .deleteTopics([.name("t"), .id(topic)]),
    .createPartitions(
        [
            PartitionsRequest(name: "t", partitionCount: 4),
            PartitionsRequest(name: "u", partitionCount: 4, assignments: [brokers, []]),
        ],
        validateOnly: false
    ),
    .incrementalAlterConfigs(
        [
            ConfigAlteration(
                resource: .topic("t"),
                steps: [.init(.set, "a", "1"), .init(.delete, "b", nil)]
            ),
            ConfigAlteration(resource: .allBrokers, steps: []),
        ],
        validateOnly: true
    ),
    .alterConfigs(
        [ConfigReplacement(resource: .broker(BrokerID(7)), configs: changes)],
        validateOnly: false
    ),
    .allocateProducerIDs,
    .replicaRemoved(GroupID(partition: partition, epoch: CreationEpoch(9))),
    .registerBroker(
        BrokerRegistration(
            id: BrokerID(3),
            incarnation: BrokerIncarnation(high: 1, low: 2),
            endpoints: [BrokerEndpoint(listener: "PEER", host: "h", port: 9)],
            rack: "r"
        )
    ),
    .alterReassignments(
        [
            ReassignmentRequest(topic: "t", partition: -1, brokers: brokers),
            ReassignmentRequest(topic: "t", partition: 1, brokers: nil),
        ],
        allowsReplicationFactorChange: false
    ),
    .finishMovement(partition, revision: 8), .renewReplica(member, of: partition),
    .setBrokerState(BrokerID(1), .draining, allowsPartial: true), .unregisterBroker(BrokerID(2)),
    .setFeatureLevel(-1, validateOnly: true),
    .findMember(BrokerID(4), appliedIndex: LogIndex(7)),
]

private let place = PartitionImage(replicas: [member])
private let image = TopicImage(id: topic, name: "t", partitions: [place], configs: ["a": "1"])
private let refusal = Refusal(.invalidConfig, "no")

/// Every kind of reply.
private let replies: [MetadataReply] = [
    .topics([
        TopicOutcome(name: "t", result: .success(image)),
        TopicOutcome(name: "u", result: .failure(refusal)),
    ]),
    .deletions([
        TopicDeletionOutcome(reference: .id(topic), result: .success(image)),
        TopicDeletionOutcome(reference: .name("u"), result: .failure(refusal)),
    ]),
    .configs([
        ConfigOutcome(resource: .topic("t"), result: .success(["a": "1"])),
        ConfigOutcome(resource: .allBrokers, result: .failure(refusal)),
    ]),
    .producerIDs(ProducerIDBlock(start: ProducerID(1000), count: 1000)),
    .registered(
        RegistrationOutcome(
            clusterID: "c",
            metadataMember: member,
            renewedPartitionCount: 2,
            lostPartitions: ["t-0"]
        )
    ),
    .reassignments([
        ReassignmentOutcome(topic: "t", partition: 0, result: .success(place)),
        ReassignmentOutcome(topic: "t", partition: -4, result: .failure(refusal)),
    ]),
    .member(nil), .member(member), .done, .refused(refusal), .index(LogIndex(7)),
    .quorum(
        QuorumDescription(
            leader: BrokerID(1),
            term: Term(3),
            highWatermark: LogIndex(9),
            voters: [
                .init(member: member, logEndIndex: LogIndex(9), lastHeard: Timestamp(5))
            ],
            learners: []
        )
    ),
]

@Suite("Commands between brokers")
struct MetadataCommandTests {
    @Test("A command is read back as it was written", arguments: commands)
    func command(_ command: MetadataCommand) throws {
        let bytes = try command.encoded()
        #expect(try MetadataCommand(decoding: bytes) == command)
    }

    @Test("A reply is read back as it was written", arguments: replies)
    func reply(_ reply: MetadataReply) throws {
        let bytes = try reply.encoded()
        let decoded = try MetadataReply(decoding: bytes)
        #expect(try decoded.encoded() == bytes)
        #expect("\(decoded)".count == "\(reply)".count)
    }

    @Test("A topic in a reply is the topic, with all that a client is told of it")
    func topicReply() throws {
        guard case .topics(let outcomes) = try MetadataReply(decoding: replies[0].encoded()) else {
            Issue.record("another reply")
            return
        }
        #expect(outcomes.map { try? $0.result.get() } == [image, nil])
        #expect(outcomes.map(\.name) == ["t", "u"])
    }

    @Test("Cut at any byte or with a byte too many it is an error, with any byte changed no trap")
    func damaged() throws {
        let long = try commands.filter { try $0.encoded().readableBytes < 1000 }
        let commandBytes = try long.map { Array(try $0.encoded().readableBytesView) }
        let replyBytes = try replies.map { Array(try $0.encoded().readableBytesView) }
        let parsers: [([[UInt8]], (ByteBuffer) throws -> Void)] = [
            (commandBytes, { _ = try MetadataCommand(decoding: $0) }),
            (replyBytes, { _ = try MetadataReply(decoding: $0) }),
        ]
        for (examples, parse) in parsers {
            for bytes in examples {
                for length in 0..<bytes.count {
                    let cut = ByteBuffer(bytes: bytes[..<length])
                    #expect(throws: CoordinationError.self) { try parse(cut) }
                }
                #expect(throws: CoordinationError.self) {
                    try parse(ByteBuffer(bytes: bytes + [0]))
                }
                for place in bytes.indices {
                    for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
                        var other = bytes
                        other[place] = value
                        try? parse(ByteBuffer(bytes: other))
                    }
                }
            }
        }
    }

    @Test("Another version, an unknown kind, and a length that no bytes stand behind are errors")
    func foreign() {
        #expect(
            throws: CoordinationError.unsupportedVersion(format: "metadata command", version: 2)
        ) {
            try MetadataCommand(decoding: ByteBuffer(bytes: [2, 6]))
        }
        #expect(throws: CoordinationError.unknownCommandKind(18)) {
            try MetadataCommand(decoding: ByteBuffer(bytes: [1, 18]))
        }
        #expect(throws: CoordinationError.unknownCommandKind(12)) {
            try MetadataReply(decoding: ByteBuffer(bytes: [1, 12]))
        }
        #expect(throws: CoordinationError.lengthOutOfBounds(field: "topics", length: 0xFFFF_FFFF)) {
            try MetadataCommand(decoding: ByteBuffer(bytes: [1, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0]))
        }
    }

    @Test("A command longer than the limit is neither written nor read")
    func limit() throws {
        let name = String(repeating: "x", count: MetadataCommand.byteLimit)
        #expect(throws: CoordinationError.self) {
            try MetadataCommand.deleteTopics([.name(name)]).encoded()
        }
        let bytes = ByteBuffer(repeating: 1, count: MetadataCommand.byteLimit + 1)
        #expect(throws: CoordinationError.self) { try MetadataCommand(decoding: bytes) }
    }

    @Test("Random bytes never make the reader trap", arguments: 0..<16 as Range<UInt8>)
    func random(kind: UInt8) {
        var random = SeededRandom(seed: UInt64(kind))
        for _ in 0..<1000 {
            let body = (0..<Int.random(in: 0..<60, using: &random)).map { _ in
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...2, using: &random)
                    : UInt8.random(in: 0...255, using: &random)
            }
            let bytes = ByteBuffer(bytes: [1, kind] + body)
            if let decoded = try? MetadataCommand(decoding: bytes) {
                #expect((try? MetadataCommand(decoding: decoded.encoded())) == decoded)
            }
            _ = try? MetadataReply(decoding: bytes)
        }
    }
}
