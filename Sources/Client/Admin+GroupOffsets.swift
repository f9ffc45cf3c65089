import FlotillaKafkaWire
public import FlotillaModel

// What groups have committed: to read it, to set it, to forget it.

extension Admin {
    /// A committed offset.
    public struct CommittedOffset: Hashable, Sendable {
        /// One past the last record that is done.
        public var offset: Offset
        /// The term in which the record before it was written; -1 where nobody said.
        public var leaderEpoch: Int32
        /// What was noted beside it.
        public var metadata: String

        /// An offset with what belongs to it.
        public init(offset: Offset, leaderEpoch: Int32 = -1, metadata: String = "") {
            self.offset = offset
            self.leaderEpoch = leaderEpoch
            self.metadata = metadata
        }
    }

    // MARK: Reading

    /// What a group has committed, of all partitions or of some; nothing where the group does not exist.
    ///
    /// Waits for commits of transactions that are still open.
    public func groupOffsets(
        _ group: String,
        of partitions: [NamedPartition]? = nil
    ) async throws(ClientError) -> [NamedPartition: CommittedOffset] {
        let topics = partitions.map { Self.byTopic(Set($0)) }
        return try await client.retrying { () async throws(ClientError) in
            let response = try await client.onCoordinator(of: group, limit: 9) { version in
                Self.offsetFetch(group, topics, version)
            } code: { response in
                response.groups.first?.errorCode ?? response.errorCode
            }
            return try Self.committed(response, group)
        }
    }

    private static func offsetFetch(
        _ group: String,
        _ topics: [(topic: String, partitions: [NamedPartition])]?,
        _ version: Int16
    ) -> OffsetFetchRequest {
        guard version >= 8 else {
            return OffsetFetchRequest(
                groupId: group,
                topics: topics?.map {
                    .init(name: $0.topic, partitionIndexes: $0.partitions.map(\.index))
                },
                requireStable: version >= 7
            )
        }
        let asked = OffsetFetchRequest.OffsetFetchRequestGroup(
            groupId: group,
            topics: topics?.map {
                .init(name: $0.topic, partitionIndexes: $0.partitions.map(\.index))
            }
        )
        return OffsetFetchRequest(groups: [asked], requireStable: true)
    }

    private static func committed(
        _ response: OffsetFetchResponse,
        _ group: String
    ) throws(ClientError) -> [NamedPartition: CommittedOffset] {
        let told = response.groups.first
        if let error = ClientError(
            code: told?.errorCode ?? response.errorCode,
            subject: "group \(group)"
        ) {
            throw error
        }
        var found: [NamedPartition: CommittedOffset] = [:]
        func note(
            _ partition: NamedPartition,
            _ code: Int16,
            _ committed: CommittedOffset
        ) throws(ClientError) {
            if let error = ClientError(
                code: code,
                subject: "\(partition) of group \(group)"
            ) {
                throw error
            }
            if committed.offset >= .zero { found[partition] = committed }
        }
        for topic in told?.topics ?? [] {
            for part in topic.partitions {
                try note(
                    NamedPartition(topic: topic.name, index: part.partitionIndex),
                    part.errorCode,
                    CommittedOffset(
                        offset: Offset(part.committedOffset),
                        leaderEpoch: part.committedLeaderEpoch,
                        metadata: part.metadata ?? ""
                    )
                )
            }
        }
        for topic in response.topics {
            for part in topic.partitions {
                try note(
                    NamedPartition(topic: topic.name, index: part.partitionIndex),
                    part.errorCode,
                    CommittedOffset(
                        offset: Offset(part.committedOffset),
                        leaderEpoch: part.committedLeaderEpoch,
                        metadata: part.metadata ?? ""
                    )
                )
            }
        }
        return found
    }

    // MARK: Changing

    /// Sets what a group has committed; nil stands for success.
    ///
    /// A group with members refuses: `.refused(.unknownMemberId, ...)` for each partition.
    public func alterGroupOffsets(
        _ group: String,
        _ offsets: [NamedPartition: CommittedOffset]
    ) async throws(ClientError) -> [NamedPartition: ClientError?] {
        guard !offsets.isEmpty else { return [:] }
        let topics = Self.commitTopics(offsets)
        let response = try await client.onCoordinator(of: group, limit: 9) { (_: Int16) in
            OffsetCommitRequest(groupId: group, topics: topics)
        } code: { response in
            Self.commitCodes(response).lazy.map(\.1).first { $0 != 0 } ?? 0
        }
        return Self.outcomes(Self.commitCodes(response), group)
    }

    /// Forgets what a group has committed of these partitions; nil stands for success.
    ///
    /// Of topics that a member subscribes to nothing is forgotten: `.refused(.groupSubscribedToTopic, ...)`.
    public func deleteGroupOffsets(
        _ group: String,
        of partitions: [NamedPartition]
    ) async throws(ClientError) -> [NamedPartition: ClientError?] {
        let topics = Self.byTopic(Set(partitions)).map { topic in
            OffsetDeleteRequest.OffsetDeleteRequestTopic(
                name: topic.topic,
                partitions: topic.partitions.map { .init(partitionIndex: $0.index) }
            )
        }
        let response = try await client.onCoordinator(of: group) { (_: Int16) in
            OffsetDeleteRequest(groupId: group, topics: topics)
        } code: { response in
            response.errorCode
        }
        if let error = ClientError(code: response.errorCode, subject: "group \(group)") {
            throw error
        }
        let codes = response.topics.flatMap { topic in
            topic.partitions.map {
                (NamedPartition(topic: topic.name, index: $0.partitionIndex), $0.errorCode)
            }
        }
        return Self.outcomes(codes, group)
    }

    private static func outcomes(
        _ codes: [(NamedPartition, Int16)],
        _ group: String
    ) -> [NamedPartition: ClientError?] {
        var outcomes: [NamedPartition: ClientError?] = [:]
        for (partition, code) in codes {
            let error = ClientError(code: code, subject: "\(partition) of group \(group)")
            outcomes.updateValue(error, forKey: partition)
        }
        return outcomes
    }

    // MARK: On the wire

    static func commitTopics(
        _ offsets: [NamedPartition: CommittedOffset]
    ) -> [OffsetCommitRequest.OffsetCommitRequestTopic] {
        byTopic(offsets.keys).map { topic in
            .init(
                name: topic.topic,
                partitions: topic.partitions.compactMap { partition in
                    offsets[partition].map { committed in
                        .init(
                            partitionIndex: partition.index,
                            committedOffset: committed.offset.rawValue,
                            committedLeaderEpoch: committed.leaderEpoch,
                            committedMetadata: committed.metadata
                        )
                    }
                }
            )
        }
    }

    static func commitCodes(_ response: OffsetCommitResponse) -> [(NamedPartition, Int16)] {
        response.topics.flatMap { topic in
            topic.partitions.map {
                (NamedPartition(topic: topic.name, index: $0.partitionIndex), $0.errorCode)
            }
        }
    }
}
