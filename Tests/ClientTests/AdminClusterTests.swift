import FlotillaClient
import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Synchronization
import Testing

@Suite("Administration of brokers and movements", .timeLimit(.minutes(2)))
struct AdminClusterTests {
    private static let first = NamedPartition(topic: "a", index: 0)
    private static let second = NamedPartition(topic: "a", index: 3)
    private static let third = NamedPartition(topic: "b", index: 1)

    private func ids(_ numbers: Int32...) -> [BrokerID] {
        numbers.map { BrokerID($0) }
    }

    /// Runs `body` against a broker that answers one API as told.
    private func with(
        _ extras: [APIKey: FakeBroker.Extra],
        _ body: (Admin) async throws -> Void
    ) async throws {
        let broker = try await FakeBroker.start(extras: extras)
        var configuration = ClientConfiguration(brokers: [
            BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        ])
        configuration.initialBackoff = .milliseconds(2)
        configuration.maximumBackoff = .milliseconds(20)
        let client = KafkaClient(configuration)
        try await body(Admin(client))
        await client.close()
        try await broker.stop()
    }

    @Test("Wishes are grouped by topic, nil gives a movement up, and each has its own outcome")
    func reassign() async throws {
        let seen = Mutex<AlterPartitionReassignmentsRequest?>(nil)
        let answer: FakeBroker.Extra = { body, version in
            let request = try AlterPartitionReassignmentsRequest(from: body, version: version)
            seen.withLock { $0 = request }
            return AlterPartitionReassignmentsResponse(
                errorMessage: nil,
                responses: request.topics.map { topic in
                    .init(
                        name: topic.name,
                        partitions: topic.partitions.map { partition in
                            .init(
                                partitionIndex: partition.partitionIndex,
                                errorCode: partition.replicas == nil ? 85 : 0,
                                errorMessage: partition.replicas == nil ? "it does not move" : nil
                            )
                        }
                    )
                }
            )
        }
        try await with([.alterPartitionReassignments: answer]) { admin in
            let outcomes = try await admin.reassign([
                Self.third: ids(3, 1), Self.first: ids(1, 2), Self.second: nil,
            ])
            #expect(outcomes.count == 3)
            #expect(outcomes[Self.first] == .some(nil))
            #expect(outcomes[Self.third] == .some(nil))
            let error = outcomes[Self.second] ?? nil
            #expect(
                error
                    == .refused(
                        .noReassignmentInProgress,
                        subject: "a[3]",
                        message: "it does not move"
                    )
            )
        }
        let request = try #require(seen.withLock { $0 })
        #expect(request.topics.map(\.name) == ["a", "b"])
        #expect(request.topics[0].partitions.map(\.partitionIndex) == [0, 3])
        #expect(request.topics[0].partitions.map(\.replicas) == [[1, 2], nil])
    }

    @Test("A movement is told with its target")
    func reassignments() async throws {
        try await with([
            .listPartitionReassignments: { _, _ in
                ListPartitionReassignmentsResponse(
                    errorMessage: nil,
                    topics: [
                        .init(
                            name: "a",
                            partitions: [
                                .init(
                                    partitionIndex: 0,
                                    replicas: [4, 2, 3, 1],
                                    addingReplicas: [4],
                                    removingReplicas: [1]
                                )
                            ]
                        )
                    ]
                )
            }
        ]) { admin in
            let moving = try await admin.reassignments()
            #expect(moving.map(\.partition) == [Self.first])
            #expect(moving[0].target == ids(4, 2, 3))
            #expect(moving[0].adding == ids(4))
        }
    }

    @Test("A controller that moved is asked again")
    func movedController() async throws {
        let count = Mutex(0)
        try await with([
            .unregisterBroker: { body, version in
                let request = try UnregisterBrokerRequest(from: body, version: version)
                let attempt = count.withLock { count in
                    count += 1
                    return count
                }
                guard attempt > 1 else {
                    return UnregisterBrokerResponse(errorCode: 41, errorMessage: nil)
                }
                return UnregisterBrokerResponse(
                    errorCode: request.brokerId == 4 ? 0 : 102,
                    errorMessage: request.brokerId == 4 ? nil : "broker 5 is not registered"
                )
            }
        ]) { admin in
            try await admin.unregister(BrokerID(4))
            #expect(count.withLock { $0 } == 2)
            let failure = await #expect(throws: ClientError.self) {
                try await admin.unregister(BrokerID(5))
            }
            #expect(failure?.description.hasSuffix("broker 5 is not registered") == true)
        }
    }

    @Test("A controller that nobody lists gives way to the one that the next broker names")
    func unlistedController() async throws {
        let broker = try await FakeBroker.start(extras: [
            .unregisterBroker: { _, _ in UnregisterBrokerResponse(errorCode: 0, errorMessage: nil) }
        ])
        let client = KafkaClient(
            ClientConfiguration(brokers: [
                BrokerAddress(host: "127.0.0.1", port: broker.address.port)
            ])
        )
        broker.set(FakeBroker.Faults(strangeControllers: 1))
        _ = try await client.metadata(topics: [])
        try await Admin(client).unregister(BrokerID(4))
        await client.close()
        try await broker.stop()
    }

    @Test("An election of all partitions names none, and one of some names them")
    func elections() async throws {
        let seen = Mutex<[ElectLeadersRequest]>([])
        try await with([
            .electLeaders: { body, version in
                let request = try ElectLeadersRequest(from: body, version: version)
                seen.withLock { $0.append(request) }
                return ElectLeadersResponse(replicaElectionResults: [
                    .init(
                        topic: "a",
                        partitionResult: [
                            .init(partitionId: 0, errorMessage: nil),
                            .init(partitionId: 3, errorCode: 84, errorMessage: nil),
                        ]
                    )
                ])
            }
        ]) { admin in
            let all = try await admin.electPreferredLeaders()
            #expect(all.count == 2 && all[Self.first] == .some(nil))
            guard case .refused(.electionNotNeeded, _, _)?? = all[Self.second] else {
                Issue.record("\(all)")
                return
            }
            _ = try await admin.electPreferredLeaders([Self.second, Self.third])
        }
        let requests = seen.withLock { $0 }
        #expect(requests.first?.topicPartitions == nil)
        #expect(requests.last?.topicPartitions?.map(\.topic) == ["a", "b"])
        #expect(requests.allSatisfy { $0.electionType == 0 })
    }

    @Test("The metadata's group is told with voters first")
    func quorum() async throws {
        try await with([
            .describeQuorum: { body, version in
                let request = try DescribeQuorumRequest(from: body, version: version)
                return DescribeQuorumResponse(
                    errorMessage: nil,
                    topics: [
                        .init(
                            topicName: request.topics[0].topicName,
                            partitions: [
                                .init(
                                    partitionIndex: 0,
                                    errorMessage: nil,
                                    leaderId: 2,
                                    leaderEpoch: 7,
                                    highWatermark: 40,
                                    currentVoters: [
                                        .init(
                                            replicaId: 2,
                                            logEndOffset: 41,
                                            lastFetchTimestamp: 9,
                                            lastCaughtUpTimestamp: 9
                                        ),
                                        .init(replicaId: 1, logEndOffset: -1),
                                    ],
                                    observers: [.init(replicaId: 4, logEndOffset: 3)]
                                )
                            ]
                        )
                    ]
                )
            }
        ]) { admin in
            let quorum = try await admin.quorum()
            #expect(quorum.leader == BrokerID(2))
            #expect(quorum.epoch == 7)
            #expect(quorum.highWatermark == 40)
            #expect(quorum.members.map(\.broker) == ids(1, 2, 4))
            #expect(quorum.members.map(\.isVoter) == [true, true, false])
            #expect(quorum.members.map(\.logEnd) == [nil, 41, 3])
            #expect(quorum.members.map(\.lastHeard) == [nil, Timestamp(9), nil])
        }
    }

    @Test("A cluster without such an API says so")
    func unsupported() async throws {
        try await with([:]) { admin in
            let failure = await #expect(throws: ClientError.self) { try await admin.quorum() }
            guard case .unsupported? = failure else {
                Issue.record("\(String(describing: failure))")
                return
            }
        }
    }
}
