import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// From a request's bytes to the file that knows what it means.
extension Shard {
    /// Decodes a body and hands it to its API.
    ///
    /// - Throws: when the body does not parse; the connection is then closed.
    func dispatch(_ api: APIKey, _ body: ByteBuffer, _ context: RequestContext) throws(WireError) {
        counters.count(api)
        let version = context.version
        switch api {
        case .produce: handle(try ProduceRequest(from: body, version: version), context)
        case .fetch: handle(try FetchRequest(from: body, version: version), context)
        case .listOffsets: handle(try ListOffsetsRequest(from: body, version: version), context)
        case .metadata: handle(try MetadataRequest(from: body, version: version), context)
        case .findCoordinator:
            handle(try FindCoordinatorRequest(from: body, version: version), context)
        case .apiVersions: handle(try ApiVersionsRequest(from: body, version: version), context)
        case .createTopics: handle(try CreateTopicsRequest(from: body, version: version), context)
        case .deleteTopics: handle(try DeleteTopicsRequest(from: body, version: version), context)
        case .deleteRecords: handle(try DeleteRecordsRequest(from: body, version: version), context)
        case .initProducerId:
            handle(try InitProducerIdRequest(from: body, version: version), context)
        case .offsetForLeaderEpoch:
            handle(try OffsetForLeaderEpochRequest(from: body, version: version), context)
        case .describeConfigs:
            handle(try DescribeConfigsRequest(from: body, version: version), context)
        case .alterConfigs: handle(try AlterConfigsRequest(from: body, version: version), context)
        case .describeLogDirs:
            handle(try DescribeLogDirsRequest(from: body, version: version), context)
        case .createPartitions:
            handle(try CreatePartitionsRequest(from: body, version: version), context)
        case .incrementalAlterConfigs:
            handle(try IncrementalAlterConfigsRequest(from: body, version: version), context)
        case .describeCluster:
            handle(try DescribeClusterRequest(from: body, version: version), context)
        case .describeProducers:
            handle(try DescribeProducersRequest(from: body, version: version), context)
        case .describeTopicPartitions:
            handle(try DescribeTopicPartitionsRequest(from: body, version: version), context)
        default: try dispatchOnGroups(api, body, context)
        }
    }

    private func dispatchOnGroups(_ api: APIKey, _ body: ByteBuffer, _ context: RequestContext)
        throws(WireError)
    {
        let version = context.version
        switch api {
        case .joinGroup: handle(try JoinGroupRequest(from: body, version: version), context)
        case .syncGroup: handle(try SyncGroupRequest(from: body, version: version), context)
        case .heartbeat: handle(try HeartbeatRequest(from: body, version: version), context)
        case .leaveGroup: handle(try LeaveGroupRequest(from: body, version: version), context)
        case .offsetCommit: handle(try OffsetCommitRequest(from: body, version: version), context)
        case .offsetFetch: handle(try OffsetFetchRequest(from: body, version: version), context)
        case .offsetDelete: handle(try OffsetDeleteRequest(from: body, version: version), context)
        case .consumerGroupHeartbeat:
            handle(try ConsumerGroupHeartbeatRequest(from: body, version: version), context)
        case .consumerGroupDescribe:
            handle(try ConsumerGroupDescribeRequest(from: body, version: version), context)
        case .describeGroups:
            handle(try DescribeGroupsRequest(from: body, version: version), context)
        case .listGroups: handle(try ListGroupsRequest(from: body, version: version), context)
        case .deleteGroups: handle(try DeleteGroupsRequest(from: body, version: version), context)
        default: try dispatchAdmin(api, body, context)
        }
    }

    private func dispatchAdmin(_ api: APIKey, _ body: ByteBuffer, _ context: RequestContext)
        throws(WireError)
    {
        let version = context.version
        switch api {
        case .electLeaders: handle(try ElectLeadersRequest(from: body, version: version), context)
        case .alterPartitionReassignments:
            handle(try AlterPartitionReassignmentsRequest(from: body, version: version), context)
        case .listPartitionReassignments:
            handle(try ListPartitionReassignmentsRequest(from: body, version: version), context)
        case .describeQuorum:
            handle(try DescribeQuorumRequest(from: body, version: version), context)
        case .updateFeatures:
            handle(try UpdateFeaturesRequest(from: body, version: version), context)
        case .unregisterBroker:
            handle(try UnregisterBrokerRequest(from: body, version: version), context)
        default: preconditionFailure("\(api.name) is announced and has no handler")
        }
    }
}
