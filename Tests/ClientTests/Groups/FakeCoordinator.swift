import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Synchronization

@testable import FlotillaClient

/// A coordinator in memory for one member: it answers as it was told to, and remembers what it was asked.
final class FakeCoordinator: Sendable {
    /// What it says, and what it was asked.
    struct State: Sendable {
        /// The partitions that the member is to read; a classic leader decides that itself.
        var target: Set<Int32> = [0]
        var committed: [Int32: Int64] = [:]
        /// Error codes of the next answers, per API.
        var codes: [APIKey: [Int16]] = [:]
        /// Error codes of the next commits, per partition.
        var commitCodes: [Int32: [Int16]] = [:]
        /// What it was asked to commit, whether or not it did.
        var wishes: [[Int32: Int64]] = []
        /// What is not answered.
        var silent: Set<APIKey> = []
        var generation: Int32 = 0
        /// How often a member joined: with which id or epoch.
        var joins: [String] = []
        var leaves: [String] = []
        var beats: [ConsumerGroupHeartbeatRequest] = []
        fileprivate var isTold = false
    }

    private let state = Mutex(State())
    private let port = Mutex(0)

    /// Looks at the state, or changes it.
    func with<Value: Sendable>(_ body: (inout sending State) -> sending Value) -> Value {
        state.withLock(body)
    }

    /// A broker whose groups it coordinates.
    func start(partitions: Int = 1, isModern: Bool = false) async throws -> FakeBroker {
        var extras: [APIKey: FakeBroker.Extra] = [
            .findCoordinator: answer(.findCoordinator, findCoordinator),
            .joinGroup: answer(.joinGroup, join), .syncGroup: answer(.syncGroup, sync),
            .heartbeat: answer(.heartbeat) { HeartbeatResponse(errorCode: $2) },
            .leaveGroup: answer(.leaveGroup, leave),
            .offsetCommit: answer(.offsetCommit, commit),
            .offsetFetch: answer(.offsetFetch, fetch),
        ]
        if isModern {
            extras[.consumerGroupHeartbeat] = answer(.consumerGroupHeartbeat, beat)
        }
        let broker = try await FakeBroker.start(partitions: partitions, extras: extras)
        port.withLock { $0 = broker.address.port }
        return broker
    }

    private typealias Handler = @Sendable (ByteBuffer, Int16, Int16) throws -> any KafkaResponse

    /// Takes the next error code from the list, and is silent where it should be.
    private func answer(_ api: APIKey, _ handler: @escaping Handler) -> FakeBroker.Extra {
        { body, version in
            let (isSilent, code) = self.state.withLock { state in
                guard !state.silent.contains(api) else { return (true, Int16(0)) }
                guard let next = state.codes[api]?.first else { return (false, 0) }
                state.codes[api]?.removeFirst()
                return (false, next)
            }
            return isSilent ? nil : try handler(body, version, code)
        }
    }

    private func findCoordinator(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try FindCoordinatorRequest(from: body, version: version)
        let port = Int32(port.withLock { $0 })
        return FindCoordinatorResponse(
            coordinators: request.coordinatorKeys.map {
                .init(key: $0, nodeId: 1, host: "127.0.0.1", port: port, errorCode: code)
            }
        )
    }

    // MARK: Classic

    private func join(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try JoinGroupRequest(from: body, version: version)
        return state.withLock { state in
            state.joins.append(request.memberId)
            guard code == 0 else { return JoinGroupResponse(errorCode: code) }
            guard !request.memberId.isEmpty || request.groupInstanceId != nil else {
                let required = ErrorCode.memberIdRequired.rawValue
                return JoinGroupResponse(errorCode: required, memberId: "me")
            }
            state.generation += 1
            let first = request.protocols.first
            return JoinGroupResponse(
                generationId: state.generation,
                protocolType: "consumer",
                protocolName: first?.name,
                leader: "me",
                memberId: "me",
                members: [.init(memberId: "me", metadata: first?.metadata ?? ByteBuffer())]
            )
        }
    }

    private func sync(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try SyncGroupRequest(from: body, version: version)
        guard code == 0 else { return SyncGroupResponse(errorCode: code) }
        let share = request.assignments.first { $0.memberId == "me" }?.assignment ?? ByteBuffer()
        return SyncGroupResponse(
            protocolType: "consumer",
            protocolName: request.protocolName,
            assignment: share
        )
    }

    private func leave(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try LeaveGroupRequest(from: body, version: version)
        state.withLock { $0.leaves += request.members.map(\.memberId) }
        return LeaveGroupResponse(
            members: request.members.map { .init(memberId: $0.memberId, errorCode: code) }
        )
    }

    // MARK: Offsets

    private func commit(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try OffsetCommitRequest(from: body, version: version)
        return state.withLock { state in
            var response = OffsetCommitResponse()
            var wish: [Int32: Int64] = [:]
            for topic in request.topics {
                var parts: [OffsetCommitResponse.OffsetCommitResponsePartition] = []
                for part in topic.partitions {
                    let index = part.partitionIndex
                    wish[index] = part.committedOffset
                    var told = code
                    if told == 0, let next = state.commitCodes[index]?.first {
                        state.commitCodes[index]?.removeFirst()
                        told = next
                    }
                    if told == 0 { state.committed[index] = part.committedOffset }
                    parts.append(.init(partitionIndex: index, errorCode: told))
                }
                response.topics.append(.init(name: topic.name, partitions: parts))
            }
            state.wishes.append(wish)
            return response
        }
    }

    private func fetch(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try OffsetFetchRequest(from: body, version: version)
        let committed = state.withLock { $0.committed }
        return OffsetFetchResponse(
            groups: request.groups.map { group in
                .init(
                    groupId: group.groupId,
                    topics: (group.topics ?? []).map { topic in
                        .init(
                            name: topic.name,
                            partitions: topic.partitionIndexes.map {
                                .init(partitionIndex: $0, committedOffset: committed[$0] ?? -1)
                            }
                        )
                    },
                    errorCode: code
                )
            }
        )
    }

    // MARK: Consumer

    /// Tells the target when the member joins and when it changes; the epoch counts that.
    private func beat(
        _ body: ByteBuffer,
        _ version: Int16,
        _ code: Int16
    ) throws -> any KafkaResponse {
        let request = try ConsumerGroupHeartbeatRequest(from: body, version: version)
        return state.withLock { state in
            state.beats.append(request)
            guard code == 0 else { return ConsumerGroupHeartbeatResponse(errorCode: code) }
            var response = ConsumerGroupHeartbeatResponse(
                memberId: request.memberId,
                memberEpoch: request.memberEpoch,
                heartbeatIntervalMs: 20
            )
            guard request.memberEpoch >= 0 else { return response }
            if request.memberEpoch == 0 || !state.isTold {
                state.isTold = true
                state.generation += 1
                response.assignment = .init(topicPartitions: [
                    .init(topicId: .zero, partitions: state.target.sorted())
                ])
            }
            response.memberEpoch = state.generation
            return response
        }
    }

    /// Has the member read other partitions.
    func set(target: Set<Int32>) {
        state.withLock { state in
            state.target = target
            state.isTold = false
        }
    }
}
