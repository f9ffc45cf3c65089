@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer
import Testing

/// A snapshot that the program wrote before there were clusters: three brokers, a topic with two partitions, one that is deleted,
/// settings, producer ids, a feature level.
private let earlierSnapshot =
    "464c434d0100b90100000900000000000000011600735f4b7662515f48454d57464f315757527a5a4d36"
    + "6701000100e8030000000000000300000000000000030000000100000001000000000000000100000000"
    + "000000010000000900504c41494e544558540a0062312e6578616d706c65842300020000000100000000"
    + "0000000200000000000000010000000900504c41494e544558540a0062322e6578616d706c6584230003"
    + "00000001000000000000000300000000000000010000000900504c41494e544558540a0062332e657861"
    + "6d706c65842300010000007336239ae2487ab222a7fd6f1223c12406006f726465727302000000020000"
    + "000200000001000000000000000300000001000000000000000200000001000000010000000000000002"
    + "0000000100000000000000010000000a007365676d656e742e6d7304003530303001000000214aedb98a"
    + "b4fdddd0b1a53a8cdb3c8d0400676f6e6501000000020000000300000002000000000000000100000002"
    + "00000000000000020000000100000003000000010000000e006e756d2e706172746974696f6e73010033"
    + "0100000001000000010000000e006e756d2e706172746974696f6e73010032637bf0f1"

@Suite("Snapshots of the metadata")
struct ControllerSnapshotTests {
    @Test("A snapshot of version 1 is read; the first broker is the founder, and none moves")
    func earlier() throws {
        let controller = try Controller(
            snapshot: ByteBuffer(hex: earlierSnapshot),
            random: SeededRandom(seed: 1)
        )
        controller.checkInvariants()
        let image = controller.image
        #expect(image.clusterID == "s_KvbQ_HEMWFO1WWRzZM6g" && image.appliedIndex == 9)
        #expect(image.brokers.map(\.key) == [1, 2, 3] && image.drainingBrokers.isEmpty)
        let topic = try #require(image.topic(named: "orders"))
        #expect(topic.partitions.map(\.brokers) == [[2, 3], [1, 2]])
        #expect(topic.partitions.allSatisfy { !$0.isMoving && $0.revision == 0 })
        #expect(image.deletedTopics.map(\.value.name) == ["gone"])
        #expect(image.metadataMembers.map(\.key) == [1] && image.metadataMembers[1]?.epoch == 0)
        #expect(image.featureLevel == 1 && image.nextProducerID == 1000)
        #expect(image.configs(of: 1)["num.partitions"] == "2")
    }

    @Test("A snapshot read from version 1 is written as version 3 and read back the same")
    func rewritten() throws {
        let random = SeededRandom(seed: 1)
        let controller = try Controller(snapshot: ByteBuffer(hex: earlierSnapshot), random: random)
        let bytes = controller.snapshot()
        #expect(bytes.getInteger(at: 4, endianness: .little, as: UInt16.self) == 3)
        #expect(try Controller(snapshot: bytes, random: random).image == controller.image)
    }

    @Test("Movements, removals, draining brokers and metadata members outlive a snapshot")
    func cluster() throws {
        let controller = try Self.busy().controller
        let restored = try Controller(
            snapshot: controller.snapshot(),
            random: SeededRandom(seed: 2)
        )
        restored.checkInvariants()
        #expect(restored.image == controller.image)
        #expect(!restored.image.removedReplicas.isEmpty && restored.image.movingPartitionCount == 1)
        #expect(restored.image.drainingBrokers == [4])
    }

    @Test("A snapshot cut at any byte, or with any byte changed, is an error and never a trap")
    func damaged() throws {
        let bytes = Array(try Self.busy().controller.snapshot().readableBytesView)
        for place in bytes.indices {
            let cut = ByteBuffer(bytes: bytes[..<place])
            #expect(throws: CoordinationError.self) {
                try Controller(snapshot: cut, random: SeededRandom(seed: 1))
            }
            var flipped = bytes
            flipped[place] ^= 0x10
            #expect(throws: CoordinationError.self) {
                try Controller(snapshot: ByteBuffer(bytes: flipped), random: SeededRandom(seed: 1))
            }
        }
    }

    /// One partition moves, a replica is to be deleted, and a broker drains.
    private static func busy() throws -> LeadingController {
        let leader = try LeadingController(brokerCount: 4)
        _ = try leader.topic("a", on: [[1, 2], [2, 3]])
        try leader.reassign("a", 0, to: [1, 3])
        try leader.finish("a", 0)
        try leader.reassign("a", 1, to: [3, 1])
        try leader.run { try $0.setBrokerState(4, .draining) }
        return leader
    }
}
