import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Requests of a consumer group as most tests need them.
extension TestClient {
    static let group = "readers"

    /// Looks for the coordinator, which makes the topic that holds groups.
    func findCoordinator(of group: String = group) throws -> FindCoordinatorResponse.Coordinator {
        try only(
            try ask(FindCoordinatorRequest(coordinatorKeys: [group]), version: 6).coordinators
        )
    }

    static func join(
        _ member: String = "",
        instance: String? = nil,
        group: String = group,
        protocols: [String] = ["range"],
        type: String = "consumer",
        metadata: String = "topics",
        session: Int32 = 10_000,
        rebalance: Int32 = 10_000
    ) -> JoinGroupRequest {
        JoinGroupRequest(
            groupId: group,
            sessionTimeoutMs: session,
            rebalanceTimeoutMs: rebalance,
            memberId: member,
            groupInstanceId: instance,
            protocolType: type,
            protocols: protocols.map { .init(name: $0, metadata: ByteBuffer(string: metadata)) }
        )
    }

    /// Gets an id for a member.
    func memberID(_ group: String = group) throws -> String {
        let answer = try ask(Self.join(group: group), version: 9)
        guard answer.errorCode == ErrorCode.memberIdRequired.rawValue else {
            throw TestFailure("no id: \(answer.errorCode)")
        }
        return answer.memberId
    }

    /// Leads a group of itself; the member's id and the generation.
    func lead(_ run: (Duration) -> Void) throws -> (member: String, generation: Int32) {
        let member = try memberID()
        let id = try send(Self.join(member), version: 9)
        run(.seconds(1))
        let joined = try answer(to: JoinGroupRequest.self, version: 9, id: id)
        guard joined.errorCode == 0 else { throw TestFailure("not joined: \(joined.errorCode)") }
        let synced = try sync(member, joined.generationId, [member: "all"])
        guard synced.errorCode == 0 else { throw TestFailure("not synced: \(synced.errorCode)") }
        return (member, joined.generationId)
    }

    func sync(
        _ member: String,
        _ generation: Int32,
        _ assignments: [String: String] = [:]
    ) throws -> SyncGroupResponse {
        try ask(Self.sync(member, generation, assignments), version: 5)
    }

    static func sync(
        _ member: String,
        _ generation: Int32,
        _ assignments: [String: String] = [:]
    ) -> SyncGroupRequest {
        SyncGroupRequest(
            groupId: group,
            generationId: generation,
            memberId: member,
            assignments: assignments.sorted { $0.key < $1.key }.map {
                .init(memberId: $0.key, assignment: ByteBuffer(string: $0.value))
            }
        )
    }

    func heartbeat(_ member: String, _ generation: Int32) throws -> ErrorCode? {
        let request = HeartbeatRequest(
            groupId: Self.group,
            generationId: generation,
            memberId: member
        )
        return ErrorCode(rawValue: try ask(request, version: 4).errorCode)
    }

    static func commit(
        _ offset: Int64,
        of topic: String = topic,
        partition: Int32 = 0,
        group: String = group,
        member: String = "",
        generation: Int32 = -1,
        metadata: String? = nil
    ) -> OffsetCommitRequest {
        OffsetCommitRequest(
            groupId: group,
            generationIdOrMemberEpoch: generation,
            memberId: member,
            topics: [
                .init(
                    name: topic,
                    partitions: [
                        .init(
                            partitionIndex: partition,
                            committedOffset: offset,
                            committedMetadata: metadata
                        )
                    ]
                )
            ]
        )
    }

    /// Commits an offset of one partition; the partition's error.
    func commit(
        _ offset: Int64,
        group: String = group,
        member: String = "",
        generation: Int32 = -1,
        metadata: String? = nil
    ) throws -> ErrorCode? {
        let answer = try ask(
            Self.commit(
                offset,
                group: group,
                member: member,
                generation: generation,
                metadata: metadata
            ),
            version: 9
        )
        return ErrorCode(rawValue: try only(try only(answer.topics).partitions).errorCode)
    }

    /// The committed offset of one partition, -1 for none.
    func committed(group: String = group) throws -> Int64 {
        let answer = try ask(
            OffsetFetchRequest(groups: [
                .init(
                    groupId: group,
                    topics: [.init(name: Self.topic, partitionIndexes: [0])]
                )
            ]),
            version: 9
        )
        let found = try only(answer.groups)
        guard found.errorCode == 0 else { throw TestFailure("no offsets: \(found.errorCode)") }
        return try only(try only(found.topics).partitions).committedOffset
    }

    func describeGroup(_ group: String = group) throws -> DescribeGroupsResponse.DescribedGroup {
        try only(try ask(DescribeGroupsRequest(groups: [group]), version: 6).groups)
    }
}
