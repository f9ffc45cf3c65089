import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import Testing
import struct NIOCore.ByteBuffer

/// One version of one API.
struct ServedVersion: CustomTestStringConvertible, Sendable {
    var api: APIKey
    var version: Int16

    var testDescription: String { "\(api.name) v\(version)" }

    /// Everything that is announced and answered.
    static let all: [ServedVersion] = ServedAPIs.all.flatMap { entry in
        entry.versions.filter { entry.api != .produce || $0 >= 3 }.map {
            ServedVersion(api: entry.api, version: $0)
        }
    }

    /// A small request; with `fails` one that names what is not there.
    func request(_ topicID: TopicID, fails: Bool) -> any KafkaRequest {
        let name = fails ? "absent" : "orders"
        let id = fails ? TopicID(high: 9, low: 9) : topicID
        let topicName = version >= 13 ? "" : name
        let fetchID = version >= 13 ? id : .zero
        switch api {
        case .produce:
            return TestClient.produceRequest(
                fails ? nil : Batches.batch("v\(version)"),
                to: topicName,
                id: fetchID
            )
        case .fetch:
            return TestClient.fetchRequest(of: topicName, id: fetchID)
        case .listOffsets:
            return ListOffsetsRequest(
                replicaId: -1,
                topics: [
                    .init(name: name, partitions: [.init(partitionIndex: 0, timestamp: -1)])
                ]
            )
        case .metadata:
            return MetadataRequest(
                topics: [.init(name: name)],
                allowAutoTopicCreation: version < 4
            )
        case .findCoordinator:
            return version >= 4
                ? FindCoordinatorRequest(coordinatorKeys: ["group"])
                : FindCoordinatorRequest(key: "group")
        case .apiVersions:
            return ApiVersionsRequest(
                clientSoftwareName: fails ? "-" : "test",
                clientSoftwareVersion: "1"
            )
        case .createTopics:
            return CreateTopicsRequest(topics: [
                .init(name: fails ? "a b" : "new", numPartitions: 1, replicationFactor: 1)
            ])
        case .deleteTopics:
            return version >= 6
                ? DeleteTopicsRequest(topics: [.init(name: name)])
                : DeleteTopicsRequest(topicNames: [name])
        case .deleteRecords:
            return DeleteRecordsRequest(topics: [
                .init(name: name, partitions: [.init(partitionIndex: 0, offset: 0)])
            ])
        case .initProducerId:
            return InitProducerIdRequest(transactionalId: fails ? "" : nil)
        case .offsetForLeaderEpoch:
            return OffsetForLeaderEpochRequest(
                replicaId: -1,
                topics: [.init(topic: name, partitions: [.init(partition: 0, leaderEpoch: 1)])]
            )
        default:
            return adminRequest(name, fails: fails)
        }
    }

    private func adminRequest(_ name: String, fails: Bool) -> any KafkaRequest {
        switch api {
        case .describeConfigs:
            return DescribeConfigsRequest(
                resources: [
                    .init(resourceType: 2, resourceName: name, configurationKeys: nil)
                ],
                includeSynonyms: version >= 1,
                includeDocumentation: version >= 3
            )
        case .alterConfigs:
            return AlterConfigsRequest(resources: [
                .init(
                    resourceType: 2,
                    resourceName: name,
                    configs: [.init(name: "retention.ms", value: "1000000")]
                )
            ])
        case .describeLogDirs:
            return DescribeLogDirsRequest(topics: fails ? [.init(topic: name)] : nil)
        case .createPartitions:
            return CreatePartitionsRequest(topics: [
                .init(name: name, count: 2, assignments: nil)
            ])
        case .incrementalAlterConfigs:
            return IncrementalAlterConfigsRequest(resources: [
                .init(
                    resourceType: 2,
                    resourceName: name,
                    configs: [.init(name: "retention.ms", configOperation: 0, value: "1000000")]
                )
            ])
        case .describeCluster:
            return DescribeClusterRequest(endpointType: fails && version >= 1 ? 2 : 1)
        case .describeProducers:
            return DescribeProducersRequest(topics: [.init(name: name, partitionIndexes: [0])])
        case .describeTopicPartitions:
            return DescribeTopicPartitionsRequest(topics: [.init(name: name)])
        default:
            return clusterRequest(name, fails: fails)
        }
    }

    private func clusterRequest(_ name: String, fails: Bool) -> any KafkaRequest {
        switch api {
        case .electLeaders:
            return ElectLeadersRequest(topicPartitions: [.init(topic: name, partitions: [0])])
        case .alterPartitionReassignments:
            return AlterPartitionReassignmentsRequest(topics: [
                .init(name: name, partitions: [.init(partitionIndex: 0, replicas: [1])])
            ])
        case .listPartitionReassignments:
            return ListPartitionReassignmentsRequest(topics: [
                .init(name: name, partitionIndexes: [0])
            ])
        case .describeQuorum:
            return DescribeQuorumRequest(topics: [
                .init(
                    topicName: fails ? name : "__cluster_metadata",
                    partitions: [.init(partitionIndex: 0)]
                )
            ])
        case .updateFeatures:
            return UpdateFeaturesRequest(featureUpdates: [
                .init(feature: fails ? name : "metadata.version", maxVersionLevel: 1)
            ])
        case .unregisterBroker:
            return UnregisterBrokerRequest(brokerId: fails ? 77 : 1)
        default:
            return groupRequest(name, fails: fails)
        }
    }

    /// Nobody has looked for a coordinator, so what fails is answered by a broker that is none.
    private func groupRequest(_ name: String, fails: Bool) -> any KafkaRequest {
        switch api {
        case .joinGroup:
            return JoinGroupRequest(
                groupId: name,
                sessionTimeoutMs: 10_000,
                rebalanceTimeoutMs: version >= 1 ? 10_000 : -1,
                protocolType: "consumer",
                protocols: [.init(name: "range")]
            )
        case .syncGroup: return SyncGroupRequest(groupId: name, generationId: 1, memberId: "one")
        case .heartbeat: return HeartbeatRequest(groupId: name, generationId: 1, memberId: "one")
        case .leaveGroup:
            return version >= 3
                ? LeaveGroupRequest(groupId: name, members: [.init(memberId: "one")])
                : LeaveGroupRequest(groupId: name, memberId: "one")
        case .offsetCommit:
            return OffsetCommitRequest(
                groupId: name,
                topics: [
                    .init(
                        name: version >= 10 ? "" : name,
                        partitions: [.init(partitionIndex: 0, committedOffset: 1)]
                    )
                ]
            )
        case .offsetFetch:
            return version >= 8
                ? OffsetFetchRequest(groups: [.init(groupId: name, topics: nil)])
                : OffsetFetchRequest(
                    groupId: name,
                    topics: [.init(name: name, partitionIndexes: [0])]
                )
        case .offsetDelete:
            return OffsetDeleteRequest(
                groupId: name,
                topics: [.init(name: name, partitions: [.init(partitionIndex: 0)])]
            )
        case .describeGroups: return DescribeGroupsRequest(groups: [name])
        case .listGroups: return ListGroupsRequest()
        case .consumerGroupHeartbeat:
            return ConsumerGroupHeartbeatRequest(
                groupId: name,
                memberId: "one",
                rebalanceTimeoutMs: 60_000,
                subscribedTopicNames: [name],
                topicPartitions: []
            )
        case .consumerGroupDescribe: return ConsumerGroupDescribeRequest(groupIds: [name])
        case .deleteGroups: return DeleteGroupsRequest(groupsNames: [name])
        default:
            preconditionFailure("\(api.name) is announced and has no test")
        }
    }
}

@Suite("Which versions are served")
struct ServedVersionsTests {
    @Test("every announced version is answered in its own layout", arguments: ServedVersion.all)
    func answers(_ served: ServedVersion) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let topicID = try client.createTopic()
        let answer = try ask(served.request(topicID, fails: false), served.version, of: client)
        #expect(answer)
        #expect(client.closeReason == nil)
        #expect(!client.hasAnswer)
    }

    @Test("every announced version can tell of a failure", arguments: ServedVersion.all)
    func failures(_ served: ServedVersion) throws {
        let broker = try TestBroker(configs: [.init("auto.create.topics.enable", "false")])
        let client = try broker.connect()
        let topicID = try client.createTopic()
        let answer = try ask(served.request(topicID, fails: true), served.version, of: client)
        #expect(answer)
        #expect(client.closeReason == nil)
    }

    /// Whether a response of the request's type came and parsed.
    private func ask<Request: KafkaRequest>(
        _ request: Request,
        _ version: Int16,
        of client: TestClient
    ) throws -> Bool {
        _ = try client.ask(request, version: version)
        return true
    }

    @Test("ApiVersions announces what is served, ascending by key (PROTOCOL 4)")
    func announcement() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let answer = try client.ask(ApiVersionsRequest(), version: 0)
        #expect(answer.errorCode == 0)
        #expect(answer.apiKeys.map(\.apiKey) == ServedAPIs.all.map(\.api.rawValue))
        #expect(answer.apiKeys.map(\.apiKey) == answer.apiKeys.map(\.apiKey).sorted())
        for (told, served) in zip(answer.apiKeys, ServedAPIs.all) {
            #expect(told.minVersion == served.versions.lowerBound)
            #expect(told.maxVersion == served.versions.upperBound)
        }
    }

    @Test("a version of ApiVersions that is too new is answered in version 0 (PROTOCOL 4)")
    func versionTooNew() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        client.send(bytes: Self.header(api: 18, version: 99, id: 7))
        broker.run()
        let answer = try client.answer(to: ApiVersionsRequest.self, version: 0, id: 7)
        #expect(answer.errorCode == ErrorCode.unsupportedVersion.rawValue)
        #expect(answer.apiKeys.count == ServedAPIs.all.count)
        #expect(client.closeReason == nil)
    }

    @Test(
        "a software name that Kafka would refuse is refused (KIP-511)",
        arguments: ["", "-kafka", "a b", "kafka_", "ä"]
    )
    func badSoftware(name: String) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let answer = try client.ask(
            ApiVersionsRequest(clientSoftwareName: name, clientSoftwareVersion: "1.0"),
            version: 3
        )
        #expect(answer.errorCode == ErrorCode.invalidRequest.rawValue)
    }

    @Test(
        "a request that nobody can parse ends the connection",
        arguments: [
            (Int16(999), Int16(0)), (0, 2), (0, 99), (1, 3), (3, 99), (24, 0),
        ]
    )
    func unknownRequests(api: Int16, version: Int16) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        client.send(bytes: Self.header(api: api, version: version, id: 1))
        broker.run()
        #expect(client.closeReason != nil)
        #expect(!client.hasAnswer)
    }

    @Test("a body that is cut short ends the connection", arguments: [0, 3, 8, 12])
    func shortBodies(byteCount: Int) throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        var bytes = Self.header(api: 1, version: 12, id: 1)
        bytes.writeRepeatingByte(0x7F, count: 3)
        client.send(bytes: bytes.getSlice(at: 0, length: min(byteCount, 12)) ?? bytes)
        broker.run()
        #expect(client.closeReason == .malformedRequest)
    }

    private static func header(api: Int16, version: Int16, id: Int32) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.writeInteger(api)
        bytes.writeInteger(version)
        bytes.writeInteger(id)
        bytes.writeInteger(Int16(-1))
        return bytes
    }
}
