@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer
import Testing

/// One record of each kind, and the shortest and longest forms of some.
let exampleRecords: [MetadataRecord] = {
    let id = TopicID(high: 0x0102_0304_0506_0708, low: 9)
    let partitions = [
        PartitionImage(replicas: [
            GroupMember(broker: 1, epoch: 3), GroupMember(broker: 2, epoch: 3),
        ]),
        PartitionImage(replicas: [GroupMember(broker: 2, epoch: CreationEpoch(UInt64.max - 1))]),
    ]
    return [
        .clusterInitialised(clusterID: "AAAAAAAAAAAAAAAAAAAAAA", format: 1),
        .brokerRegistered(.example(1, rack: "a")), .brokerRegistered(.example(2)),
        .brokerRegistered(
            BrokerRegistration(
                id: 7,
                incarnation: BrokerIncarnation(high: UInt64.max, low: 0),
                endpoints: [],
                rack: ""
            )
        ),
        .topicCreated(
            id: id,
            name: "orders",
            partitions: partitions,
            configs: ["retention.ms": "5", "cleanup.policy": ""]
        ),
        .topicCreated(id: id, name: "o", partitions: [], configs: [:]),
        .partitionsAdded(topic: id, partitions: partitions), .topicDeleted(id),
        .replicaDeletionConfirmed(topic: id, broker: 2),
        .topicConfigsChanged(
            topic: id,
            changes: [ConfigChange("a", nil), ConfigChange("b", ""), ConfigChange("c", "Ω")]
        ),
        .brokerConfigsChanged(broker: nil, changes: []),
        .brokerConfigsChanged(broker: 0, changes: [ConfigChange("num.partitions", "7")]),
        .producerIDsAllocated(ProducerIDBlock(start: 0, count: 1000), broker: 1),
        .producerIDsAllocated(
            ProducerIDBlock(start: ProducerID(Int64.max - 1), count: 1),
            broker: 1
        ),
        .featureLevelSet(1), .featureLevelSet(Int16.min),
    ] + exampleClusterRecords
}()

/// Those that came with clusters of several brokers.
private let exampleClusterRecords: [MetadataRecord] = {
    let id = TopicID(high: 5, low: 6)
    let member = GroupMember(broker: 3, epoch: 9)
    let place = PartitionImage(replicas: [GroupMember(broker: 1, epoch: 3), member])
    return [
        .clusterFounded([
            ClusterFounder(member: member, incarnation: BrokerIncarnation(high: 1, low: 2))
        ]),
        .clusterFounded([]), .metadataMemberAdded(member),
        .brokerStateChanged(broker: 3, state: .active),
        .brokerStateChanged(broker: 3, state: .draining), .brokerUnregistered(7),
        .partitionsMoved(
            topic: id,
            changes: [
                PartitionChange(number: 0, place: place),
                PartitionChange(number: 7, place: place.moved(to: [1, 4, 5], epoch: 20)),
            ]
        ),
        .movementFinished(partition: TopicPartition(topic: id, partition: 2), revision: 4),
        .replicaRemovalConfirmed(
            RemovedReplica(member: member, partition: TopicPartition(topic: id, partition: 2))
        ),
        .clusterRecovered(clusterID: "another"),
        .groupConfigsChanged(
            group: "readers",
            changes: [ConfigChange("consumer.session.timeout.ms", "7")]
        ),
    ]
}()

/// What the program wrote before there were clusters: the first examples, in their order.
private let earlierBytes = [
    "01011a0000001600414141414141414141414141414141414141414141410100",
    "0102350000000100000001000000000000000100000000000000010000000900504c41494e544558540a"
        + "0062312e6578616d706c65842301010061",
    "0102320000000200000001000000000000000200000000000000010000000900504c41494e544558540a"
        + "0062322e6578616d706c65842300",
    "01021b00000007000000ffffffffffffffff000000000000000000000000010000",
    "01036f0000000807060504030201090000000000000006006f7264657273020000000200000001000000"
        + "03000000000000000200000003000000000000000100000002000000feffffffffffffff020000000e00"
        + "636c65616e75702e706f6c69637900000c00726574656e74696f6e2e6d73010035",
    "01031b0000000807060504030201090000000000000001006f0000000000000000",
    "010440000000080706050403020109000000000000000200000002000000010000000300000000000000"
        + "0200000003000000000000000100000002000000feffffffffffffff",
    "01051000000008070605040302010900000000000000",
    "0106140000000807060504030201090000000000000002000000",
    "010726000000080706050403020109000000000000000300000001006100010062010000010063010200"
        + "cea9",
    "0108050000000000000000",
    "01081d0000000100000000010000000e006e756d2e706172746974696f6e7301010037",
    "0109100000000000000000000000e803000001000000",
    "010910000000feffffffffffff7f0100000001000000",
    "010a020000000100",
    "010a020000000080",
]

@Suite("Metadata records")
struct MetadataRecordTests {
    @Test(
        "A record is read back as it was written, and a second time to the same bytes",
        arguments: exampleRecords
    )
    func roundTrip(record: MetadataRecord) throws {
        let bytes = record.encoded()
        let decoded = try MetadataRecord(decoding: bytes)
        #expect(decoded == record)
        #expect(decoded.encoded() == bytes)
    }

    @Test("The bytes of a record are what the format's table says")
    func golden() {
        let record = MetadataRecord.replicaDeletionConfirmed(
            topic: TopicID(high: 0x0102_0304_0506_0708, low: 0x1112_1314_1516_1718),
            broker: 0x2122_2324
        )
        #expect(
            Array(record.encoded().readableBytesView) == [
                1, 6, 20, 0, 0, 0,
                8, 7, 6, 5, 4, 3, 2, 1, 0x18, 0x17, 0x16, 0x15, 0x14, 0x13, 0x12, 0x11,
                0x24, 0x23, 0x22, 0x21,
            ]
        )
    }

    @Test(
        "The bytes of records of earlier programs mean what they meant",
        arguments: zip(earlierBytes, exampleRecords)
    )
    func earlier(hex: String, record: MetadataRecord) throws {
        let bytes = ByteBuffer(hex: hex)
        #expect(try MetadataRecord(decoding: bytes) == record)
        #expect(record.encoded() == bytes)
    }

    @Test("A record cut at any byte is an error", arguments: exampleRecords)
    func truncated(record: MetadataRecord) {
        let bytes = record.encoded()
        for length in 0..<bytes.readableBytes {
            let cut = ByteBuffer(bytes: bytes.readableBytesView.prefix(length))
            #expect(throws: CoordinationError.self) { try MetadataRecord(decoding: cut) }
        }
    }

    @Test(
        "A record with a byte too many is an error, outside and inside of its body",
        arguments: exampleRecords
    )
    func trailing(record: MetadataRecord) {
        var bytes = Array(record.encoded().readableBytesView) + [0]
        #expect(throws: CoordinationError.self) {
            try MetadataRecord(decoding: ByteBuffer(bytes: bytes))
        }
        bytes[2] += 1
        #expect(throws: CoordinationError.self) {
            try MetadataRecord(decoding: ByteBuffer(bytes: bytes))
        }
    }

    @Test("No byte, whatever it becomes, makes the reader trap", arguments: exampleRecords)
    func flipped(record: MetadataRecord) {
        let bytes = Array(record.encoded().readableBytesView)
        for place in bytes.indices {
            for value in [0, 1, 0x7F, 0x80, 0xFF, bytes[place] ^ 1] as [UInt8] {
                var hostile = bytes
                hostile[place] = value
                if let decoded = try? MetadataRecord(decoding: ByteBuffer(bytes: hostile)) {
                    #expect(decoded.encoded().readableBytes <= bytes.count + 2)
                }
            }
        }
    }

    @Test(
        "Random bytes behind a good head never make the reader trap",
        arguments: 0..<18 as Range<UInt8>
    )
    func random(kind: UInt8) {
        var random = SeededRandom(seed: UInt64(kind))
        for _ in 0..<2000 {
            let body = (0..<Int.random(in: 0..<80, using: &random)).map { _ in
                Bool.random(using: &random)
                    ? UInt8.random(in: 0...3, using: &random)
                    : UInt8.random(in: 0...255, using: &random)
            }
            let bytes = [1, kind, UInt8(body.count), 0, 0, 0] + body
            if let decoded = try? MetadataRecord(decoding: ByteBuffer(bytes: bytes)) {
                #expect((try? MetadataRecord(decoding: decoded.encoded())) == decoded)
            }
        }
    }

    @Test("A list that says it has 2^32 - 1 elements is refused before anything is reserved for it")
    func hugeCount() {
        let bytes =
            [1, 4, 20, 0, 0, 0] + [UInt8](repeating: 1, count: 16) + [0xFF, 0xFF, 0xFF, 0xFF]
        #expect(
            throws: CoordinationError.lengthOutOfBounds(field: "partitions", length: 4_294_967_295)
        ) {
            try MetadataRecord(decoding: ByteBuffer(bytes: bytes))
        }
    }

    @Test(
        "An unknown kind and a newer version stop the reader: they are never skipped (architecture §4)"
    )
    func unknown() {
        #expect(throws: CoordinationError.unknownRecordKind(20)) {
            try MetadataRecord(decoding: ByteBuffer(bytes: [1, 20, 0, 0, 0, 0]))
        }
        #expect(throws: CoordinationError.unknownRecordKind(0)) {
            try MetadataRecord(decoding: ByteBuffer(bytes: [1, 0, 0, 0, 0, 0]))
        }
        #expect(throws: CoordinationError.unsupportedVersion(format: "metadata record", version: 2))
        {
            try MetadataRecord(decoding: ByteBuffer(bytes: [2, 5, 0, 0, 0, 0]))
        }
    }
}
