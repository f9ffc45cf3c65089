import FlotillaModel
package import struct NIOCore.ByteBuffer

/// The table as bytes: replicas that applied the same log write the same bytes. The frame is `SnapshotEnvelope`'s with the magic `FLGT`;
/// the body:
///
/// | field | form |
/// |---|---|
/// | applied index | u64 |
/// | groups, by name | list of the following |
/// | name | long text |
/// | classic group | flag, then if set the following |
/// | protocol type, generation, protocol, leader, time | long text, i32, optional long text twice, i64 |
/// | members, in their order | list of (id, instance id or none, client id, client host, rebalance and session timeout i32, subscription, assignment) |
/// | consumer group (from version 2 on) | flag, then if set the form of `ConsumerGroupState` |
/// | commits, by topic and partition | list of (topic long text, partition i32, offset i64, leader epoch i32, metadata long text, commit time i64, expiry i64, -1 for none; from version 3 on topic id, 0 for none, and index of metadata u64) |
extension GroupTable {
    private static let envelope = SnapshotEnvelope(
        magic: "FLGT",
        version: 3,
        oldestVersion: 1,
        name: "groups"
    )

    /// Everything that is applied.
    package func snapshot() -> ByteBuffer {
        var body = ByteWriter()
        body.integer(appliedIndex.rawValue)
        body.count(groups.count)
        for (name, entry) in groups.sorted(by: { $0.key < $1.key }) {
            body.longText(name)
            body.flag(entry.classic != nil)
            if let classic = entry.classic { Self.write(classic, to: &body) }
            body.flag(entry.consumer != nil)
            if let consumer = entry.consumer { consumer.write(to: &body) }
            body.count(entry.offsets.count)
            for (key, offset) in entry.offsets.sorted(by: { $0.key < $1.key }) {
                body.longText(key.topic)
                body.integer(key.partition)
                body.integer(offset.offset)
                body.integer(offset.leaderEpoch)
                body.longText(offset.metadata)
                body.integer(offset.commitTime.rawValue)
                body.integer(offset.expiryTime?.rawValue ?? -1)
                body.topicID(offset.topic?.id ?? .zero)
                body.integer(offset.topic?.knownAt.rawValue ?? 0)
            }
        }
        return Self.envelope.seal(body)
    }

    private static func write(_ group: ClassicGroupState, to body: inout ByteWriter) {
        body.longText(group.protocolType)
        body.integer(group.generation)
        body.optionalLongText(group.protocolName)
        body.optionalLongText(group.leader)
        body.integer(group.time.rawValue)
        body.count(group.members.count)
        for member in group.members {
            body.longText(member.id)
            body.optionalLongText(member.instanceID)
            body.longText(member.clientID)
            body.longText(member.clientHost)
            body.integer(member.rebalanceTimeoutMillis)
            body.integer(member.sessionTimeoutMillis)
            body.bytes(member.subscription)
            body.bytes(member.assignment)
        }
    }

    /// The table that `snapshot()` wrote.
    ///
    /// - Throws: for bytes that are damaged, of another format or of a newer version; it never traps.
    package init(snapshot: ByteBuffer) throws(CoordinationError) {
        var (version, body) = try Self.envelope.open(snapshot)
        let appliedIndex = LogIndex(try body.integer("applied index"))
        var groups: [String: Entry] = [:]
        for _ in 0..<(try body.count("groups", elementByteCount: 9)) {
            let name = try body.longText("group")
            var entry = Entry()
            if try body.flag("classic group") { entry.classic = try Self.classic(&body) }
            if version >= 2, try body.flag("consumer group") {
                entry.consumer = try ConsumerGroupState(&body)
            }
            for _ in 0..<(try body.count("commits", elementByteCount: 40)) {
                let key = OffsetKey(
                    topic: try body.longText("topic"),
                    partition: try body.integer("partition")
                )
                entry.offsets[key] = try Self.offset(&body, version)
            }
            groups[name] = entry
        }
        try body.finish("groups")
        self.init(groups: groups, appliedIndex: appliedIndex)
    }

    private static func offset(
        _ body: inout ByteReader,
        _ version: UInt16
    ) throws(CoordinationError) -> CommittedOffset {
        var offset = CommittedOffset(
            offset: try body.integer("offset"),
            leaderEpoch: try body.integer("leader epoch"),
            metadata: try body.longText("metadata"),
            commitTime: Timestamp(try body.integer("commit time"))
        )
        let expiry = try body.integer("expiry", as: Int64.self)
        offset.expiryTime = expiry == -1 ? nil : Timestamp(expiry)
        guard version >= 3 else { return offset }
        let id = try body.topicID("topic id")
        let knownAt = LogIndex(try body.integer("index of metadata"))
        if id != .zero { offset.topic = CommittedTopic(id: id, knownAt: knownAt) }
        return offset
    }

    private static func classic(_ body: inout ByteReader) throws(CoordinationError)
        -> ClassicGroupState
    {
        ClassicGroupState(
            protocolType: try body.longText("protocol type"),
            generation: try body.integer("generation"),
            protocolName: try body.optionalLongText("protocol"),
            leader: try body.optionalLongText("leader"),
            time: Timestamp(try body.integer("time")),
            members: try body.list("members", elementByteCount: 29) {
                member throws(CoordinationError) in
                ClassicGroupState.Member(
                    id: try member.longText("member id"),
                    instanceID: try member.optionalLongText("instance id"),
                    clientID: try member.longText("client id"),
                    clientHost: try member.longText("client host"),
                    rebalanceTimeoutMillis: try member.integer("rebalance timeout"),
                    sessionTimeoutMillis: try member.integer("session timeout"),
                    subscription: try member.bytes("subscription"),
                    assignment: try member.bytes("assignment")
                )
            }
        )
    }
}
