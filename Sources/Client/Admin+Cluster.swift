import FlotillaKafkaWire
public import FlotillaModel

// What concerns brokers and where partitions lie.

extension Admin {
    // MARK: Movement

    /// A partition on its way to other brokers.
    public struct Reassignment: Hashable, Sendable {
        /// The partition.
        public var partition: NamedPartition
        /// The brokers that hold a replica now, those that come and those that go among them.
        public var replicas: [BrokerID]
        /// Those that come.
        public var adding: [BrokerID]
        /// Those that go.
        public var removing: [BrokerID]

        /// The brokers that are wished for, in their order of preference.
        public var target: [BrokerID] {
            replicas.filter { !removing.contains($0) }
        }
    }

    /// Wishes for partitions to lie on these brokers, the preferred leader first; nil stands for success.
    ///
    /// The movement goes on after the call; see `reassignments()`.
    ///
    /// - Parameter wishes: nil in the place of brokers gives up a movement that is under way.
    /// - Returns: what became of each wish.
    /// - Throws: when all wishes fail for one reason.
    public func reassign(
        _ wishes: [NamedPartition: [BrokerID]?]
    ) async throws(ClientError) -> [NamedPartition: ClientError?] {
        guard !wishes.isEmpty else { return [:] }
        let timeout = timeoutMillis
        let list = Self.byTopic(Array(wishes.keys)).map { topic, partitions in
            AlterPartitionReassignmentsRequest.ReassignableTopic(
                name: topic,
                partitions: partitions.map { partition in
                    .init(
                        partitionIndex: partition.index,
                        replicas: (wishes[partition] ?? nil)?.map(\.rawValue)
                    )
                }
            )
        }
        let response = try await onController { (_: Int16) in
            AlterPartitionReassignmentsRequest(timeoutMs: timeout, topics: list)
        } needsRetry: { response in
            response.errorCode == ErrorCode.notController.rawValue
        }
        try Self.check(response.errorCode, "reassignment", response.errorMessage)
        var outcomes: [NamedPartition: ClientError?] = [:]
        for topic in response.responses {
            for answer in topic.partitions {
                let partition = NamedPartition(topic: topic.name, index: answer.partitionIndex)
                let error = ClientError(
                    code: answer.errorCode,
                    subject: partition.description,
                    message: answer.errorMessage
                )
                outcomes.updateValue(error, forKey: partition)
            }
        }
        return outcomes
    }

    /// The partitions that are moving, sorted.
    public func reassignments() async throws(ClientError) -> [Reassignment] {
        let timeout = timeoutMillis
        let response = try await onController { (_: Int16) in
            ListPartitionReassignmentsRequest(timeoutMs: timeout, topics: nil)
        } needsRetry: { response in
            response.errorCode == ErrorCode.notController.rawValue
        }
        try Self.check(response.errorCode, "list of reassignments", response.errorMessage)
        let all = response.topics.flatMap { topic in
            topic.partitions.map { partition in
                Reassignment(
                    partition: NamedPartition(
                        topic: topic.name,
                        index: partition.partitionIndex
                    ),
                    replicas: partition.replicas.map { BrokerID($0) },
                    adding: partition.addingReplicas.map { BrokerID($0) },
                    removing: partition.removingReplicas.map { BrokerID($0) }
                )
            }
        }
        return all.sorted { $0.partition < $1.partition }
    }

    // MARK: Leaders

    /// Has partitions led by their preferred replicas; nil stands for success.
    ///
    /// - Parameter partitions: which; nil for all, and then those that need no election are not in the answer.
    /// - Returns: what became of each.
    /// - Throws: when all fail for one reason.
    public func electPreferredLeaders(
        _ partitions: [NamedPartition]? = nil
    ) async throws(ClientError) -> [NamedPartition: ClientError?] {
        let timeout = timeoutMillis
        let list = partitions.map { partitions in
            Self.byTopic(partitions).map { topic, partitions in
                ElectLeadersRequest.TopicPartitions(
                    topic: topic,
                    partitions: partitions.map(\.index)
                )
            }
        }
        let response = try await onController { (_: Int16) in
            ElectLeadersRequest(topicPartitions: list, timeoutMs: timeout)
        } needsRetry: { response in
            response.errorCode == ErrorCode.notController.rawValue
        }
        try Self.check(response.errorCode, "election", nil)
        var outcomes: [NamedPartition: ClientError?] = [:]
        for topic in response.replicaElectionResults {
            for answer in topic.partitionResult {
                let partition = NamedPartition(topic: topic.topic, index: answer.partitionId)
                let error = ClientError(
                    code: answer.errorCode,
                    subject: partition.description,
                    message: answer.errorMessage
                )
                outcomes.updateValue(error, forKey: partition)
            }
        }
        return outcomes
    }

    // MARK: The metadata's group

    /// The group that keeps the cluster's metadata.
    public struct Quorum: Hashable, Sendable {
        /// One replica of the metadata.
        public struct Member: Hashable, Sendable {
            /// Its broker.
            public var broker: BrokerID
            /// Whether it counts for the majority.
            public var isVoter: Bool
            /// The end of its log, as far as the leader knows; nil where it does not.
            public var logEnd: Int64?
            /// When the leader last heard of it; nil where nobody says.
            public var lastHeard: Timestamp?
            /// When it last had all that the leader had; nil where nobody says.
            public var lastCaughtUp: Timestamp?
        }

        /// Who leads.
        public var leader: BrokerID?
        /// In which term.
        public var epoch: Int32
        /// Up to where the log is committed.
        public var highWatermark: Int64
        /// Voters, then the others, each by ascending id.
        public var members: [Member]

        /// What is known of a group that nobody leads.
        public static let leaderless = Quorum(
            leader: nil,
            epoch: -1,
            highWatermark: -1,
            members: []
        )
    }

    /// Describes the metadata's group.
    ///
    /// - Throws: among others `NOT_LEADER_OR_FOLLOWER` when nobody leads it, which is told and not waited for.
    public func quorum() async throws(ClientError) -> Quorum {
        let response = try await client.retrying { () async throws(ClientError) in
            try await client.request(to: .controller) { _ in
                DescribeQuorumRequest(
                    topics: [
                        .init(
                            topicName: "__cluster_metadata",
                            partitions: [.init(partitionIndex: 0)]
                        )
                    ]
                )
            }
        }
        try Self.check(response.errorCode, "metadata quorum", response.errorMessage)
        guard let answer = response.topics.first?.partitions.first else {
            throw .malformedResponse("a quorum that was asked for is not described")
        }
        try Self.check(answer.errorCode, "metadata quorum", answer.errorMessage)
        func members(
            _ states: [DescribeQuorumResponse.ReplicaState],
            isVoter: Bool
        ) -> [Quorum.Member] {
            states.map { state in
                Quorum.Member(
                    broker: BrokerID(state.replicaId),
                    isVoter: isVoter,
                    logEnd: state.logEndOffset < 0 ? nil : state.logEndOffset,
                    lastHeard: Self.time(state.lastFetchTimestamp),
                    lastCaughtUp: Self.time(state.lastCaughtUpTimestamp)
                )
            }.sorted { $0.broker < $1.broker }
        }
        return Quorum(
            leader: answer.leaderId < 0 ? nil : BrokerID(answer.leaderId),
            epoch: answer.leaderEpoch,
            highWatermark: answer.highWatermark,
            members: members(answer.currentVoters, isVoter: true)
                + members(answer.observers, isVoter: false)
        )
    }

    private static func time(_ millis: Int64) -> Timestamp? {
        millis < 0 ? nil : Timestamp(millis)
    }

    // MARK: Brokers

    /// A broker that the cluster knows, whether it is there or not.
    public struct RegisteredBroker: Hashable, Sendable {
        /// Its id.
        public var id: BrokerID
        /// Where clients reach it, when it is there.
        public var address: BrokerAddress
        /// The rack that it says it stands in.
        public var rack: String?
        /// Whether the cluster hears of it.
        public var isAlive: Bool
    }

    /// The brokers that the cluster knows, by ascending id; one that is too old to tell of dead ones names only the others.
    ///
    /// - Source: KIP-1073.
    public func registeredBrokers() async throws(ClientError) -> [RegisteredBroker] {
        let response = try await client.retrying { () async throws(ClientError) in
            let response = try await client.request(to: .anyone) { version in
                DescribeClusterRequest(includeFencedBrokers: version >= 2)
            }
            try Self.check(response.errorCode, "cluster", response.errorMessage)
            return response
        }
        return response.brokers.map { broker in
            RegisteredBroker(
                id: BrokerID(broker.brokerId),
                address: BrokerAddress(host: broker.host, port: Int(broker.port)),
                rack: broker.rack,
                isAlive: !broker.isFenced
            )
        }.sorted { $0.id < $1.id }
    }

    /// Removes a broker from the cluster for good.
    ///
    /// - Throws: among others when it still holds replicas.
    public func unregister(_ broker: BrokerID) async throws(ClientError) {
        let response = try await onController { (_: Int16) in
            UnregisterBrokerRequest(brokerId: broker.rawValue)
        } needsRetry: { response in
            response.errorCode == ErrorCode.notController.rawValue
        }
        try Self.check(response.errorCode, "broker \(broker)", response.errorMessage)
    }

    private static func check(
        _ code: Int16,
        _ subject: String,
        _ message: String?
    ) throws(ClientError) {
        if let error = ClientError(code: code, subject: subject, message: message) { throw error }
    }

    /// Groups partitions by topic, sorted.
    static func byTopic(
        _ partitions: some Sequence<NamedPartition>
    ) -> [(topic: String, partitions: [NamedPartition])] {
        var groups: [(topic: String, partitions: [NamedPartition])] = []
        for partition in partitions.sorted() {
            if groups.last?.topic == partition.topic {
                groups[groups.count - 1].partitions.append(partition)
            } else {
                groups.append((partition.topic, [partition]))
            }
        }
        return groups
    }
}
