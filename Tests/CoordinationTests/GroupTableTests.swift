import FlotillaModel
import Testing
import struct NIOCore.ByteBuffer

@testable import FlotillaCoordination

@Suite("What the log says of groups")
struct GroupTableTests {
    private static let state = ClassicGroupState(
        protocolType: "consumer",
        generation: 3,
        protocolName: "range",
        leader: "a",
        time: Timestamp(77),
        members: [
            ClassicGroupState.Member(
                id: "a",
                instanceID: "left",
                clientID: "client",
                clientHost: "/10.0.0.1",
                rebalanceTimeoutMillis: 60_000,
                sessionTimeoutMillis: 10_000,
                subscription: ByteBuffer(string: "topics"),
                assignment: ByteBuffer(string: "share")
            )
        ]
    )

    private static func table() -> GroupTable {
        var table = GroupTable()
        let key = OffsetKey(topic: "orders", partition: 1)
        let offset = CommittedOffset(offset: 9, metadata: "note", commitTime: Timestamp(5))
        table.apply(
            [
                .classicGroup(name: "readers", state),
                .offset(group: "readers", key: key, offset),
                .offset(group: "simple", key: key, offset),
            ],
            at: LogIndex(4)
        )
        return table
    }

    @Test("a snapshot brings back what it was made of, byte by byte")
    func snapshot() throws {
        let table = Self.table()
        let copy = try GroupTable(snapshot: table.snapshot())
        #expect(copy == table)
        #expect(copy.snapshot() == table.snapshot())
    }

    @Test("a snapshot with any byte changed, or cut anywhere, is refused")
    func damaged() {
        let whole = Self.table().snapshot()
        for position in 0..<whole.readableBytes {
            var changed = whole
            let byte = changed.getInteger(at: position, as: UInt8.self) ?? 0
            changed.setInteger(byte ^ 0x10, at: position)
            #expect(throws: CoordinationError.self) { try GroupTable(snapshot: changed) }
            let cut = whole.getSlice(at: 0, length: position) ?? ByteBuffer()
            #expect(throws: CoordinationError.self) { try GroupTable(snapshot: cut) }
        }
    }

    @Test("what is void takes with it what rests on it")
    func tombstones() {
        var table = Self.table()
        let key = OffsetKey(topic: "orders", partition: 1)
        table.apply([.offset(group: "simple", key: key, nil)], at: LogIndex(5))
        #expect(table.groups["simple"] == nil)
        table.apply([.classicGroup(name: "readers", nil)], at: LogIndex(6))
        #expect(table.groups.isEmpty)
        #expect(table.appliedIndex == LogIndex(6))
    }

    @Test(
        "a group lies where Kafka's tools look for it (FC-2)",
        arguments: [("", 0), ("a", 97), ("hello", 99_162_322), ("polygenelubricants", Int32.min)]
    )
    func hashes(text: String, hash: Int32) {
        #expect(GroupPlacement.javaHash(text) == hash)
        #expect((0..<50).contains(GroupPlacement.partition(of: text, count: 50)))
    }
}
