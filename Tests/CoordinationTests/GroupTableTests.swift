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
        let offset = CommittedOffset(
            offset: 9,
            topic: CommittedTopic(id: TopicID(high: 7, low: 8), knownAt: LogIndex(6)),
            metadata: "note",
            commitTime: Timestamp(5),
            expiryTime: Timestamp(50)
        )
        table.apply(
            [
                .classicGroup(name: "readers", state),
                .offset(group: "readers", key: key, offset),
                .offset(group: "simple", key: key, offset),
            ],
            at: LogIndex(4),
            appendTime: Timestamp(5)
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
        table.apply(
            [.offset(group: "simple", key: key, nil)],
            at: LogIndex(5),
            appendTime: Timestamp(6)
        )
        #expect(table.groups["simple"] == nil)
        table.apply(
            [.classicGroup(name: "readers", nil)],
            at: LogIndex(6),
            appendTime: Timestamp(7)
        )
        #expect(table.groups.isEmpty)
        #expect(table.appliedIndex == LogIndex(6))
    }

    @Test("what is written by a clock that is days behind is not days old (bug 23)")
    func slowClock() throws {
        var table = GroupTable()
        let key = OffsetKey(topic: "orders", partition: 1)
        let offset = CommittedOffset(
            offset: 9,
            commitTime: Timestamp(1_000),
            expiryTime: Timestamp(1_500)
        )
        var state = Self.state
        state.members = []
        let late = Timestamp(700_000)
        table.apply(
            [
                .classicGroup(name: "readers", state),
                .offset(group: "readers", key: key, offset),
            ],
            at: LogIndex(4),
            appendTime: late
        )
        let entry = try #require(table.groups["readers"])
        #expect(entry.classic?.time == late)
        #expect(entry.offsets[key]?.commitTime == late)
        #expect(entry.offsets[key]?.expiryTime == Timestamp(700_500))
        // A clock that is ahead of the log's has its say.
        table.apply(
            [.offset(group: "readers", key: key, offset)],
            at: LogIndex(5),
            appendTime: Timestamp(10)
        )
        #expect(table.groups["readers"]?.offsets[key] == offset)
    }

    @Test("a commit is for the topic that it was made for, not for the next one of its name")
    func topicOfCommit() {
        let id = TopicID(high: 7, low: 1)
        var image = MetadataImage.withBrokers([1])
        func created(_ id: TopicID) -> MetadataRecord {
            let member = GroupMember(broker: 1, epoch: image.nextCreationEpoch)
            return .topicCreated(
                id: id,
                name: "orders",
                partitions: [PartitionImage(replicas: [member])],
                configs: [:]
            )
        }
        image = image.applying(created(id))
        image.appliedIndex = 5
        func commit(knownAt: LogIndex, for id: TopicID) -> CommittedOffset {
            CommittedOffset(
                offset: 1_000,
                topic: CommittedTopic(id: id, knownAt: knownAt),
                commitTime: Timestamp(1)
            )
        }
        #expect(!commit(knownAt: 5, for: id).isVoid(in: image))
        // What another broker knew that is ahead of this one is not gone.
        let next = TopicID(high: 7, low: 2)
        #expect(!commit(knownAt: 6, for: next).isVoid(in: image))
        image = image.applying(.topicDeleted(id))
        image.appliedIndex = 7
        #expect(commit(knownAt: 5, for: id).isVoid(in: image))
        image = image.applying(created(next))
        #expect(commit(knownAt: 5, for: id).isVoid(in: image))
        #expect(!commit(knownAt: 7, for: next).isVoid(in: image))
        // What programs wrote that knew names only counts for whoever has the name.
        #expect(!CommittedOffset(offset: 1, commitTime: Timestamp(1)).isVoid(in: image))
    }

    @Test("a snapshot of version 2 says nothing of the topics of commits")
    func olderSnapshot() throws {
        var body = ByteWriter()
        body.integer(UInt64(4))
        body.count(1)
        body.longText("simple")
        body.flag(false)
        body.flag(false)
        body.count(1)
        body.longText("orders")
        body.integer(Int32(1))
        body.integer(Int64(9))
        body.integer(Int32(-1))
        body.longText("note")
        body.integer(Int64(5))
        body.integer(Int64(-1))
        let envelope = SnapshotEnvelope(magic: "FLGT", version: 2, name: "groups")
        let table = try GroupTable(snapshot: envelope.seal(body))
        #expect(table.appliedIndex == LogIndex(4))
        let key = OffsetKey(topic: "orders", partition: 1)
        #expect(
            table.groups["simple"]?.offsets
                == [key: CommittedOffset(offset: 9, metadata: "note", commitTime: Timestamp(5))]
        )
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
