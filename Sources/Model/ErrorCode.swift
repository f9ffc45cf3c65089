/// An answer's error code, as Kafka numbers and names them.
///
/// - Source: Kafka's protocol guide, codes -1 to 133. Codes are never invented: clients map
///   unknown ones to `unknownServerError`.
public enum ErrorCode: Int16, Sendable, CaseIterable, CustomStringConvertible {
    /// Unexpected failure inside the broker; last resort.
    case unknownServerError = -1
    /// Success.
    case noError = 0
    /// Fetch or delete offset below log start or above the readable end.
    case offsetOutOfRange = 1
    /// CRC, size or structure of a batch is wrong.
    case corruptMessage = 2
    /// This broker does not know the topic or partition (also the answer that hides a topic from
    /// a principal without Describe).
    case unknownTopicOrPartition = 3
    /// Fetch size not acceptable (legacy, not sent today).
    case invalidFetchSize = 4
    /// Partition has no leader at this moment (topic just created, election running).
    case leaderNotAvailable = 5
    /// Request needs the leader (or, for a follower fetch, a replica) and this broker is not it.
    case notLeaderOrFollower = 6
    /// The operation did not finish inside the request timeout.
    case requestTimedOut = 7
    /// Target broker is not alive.
    case brokerNotAvailable = 8
    /// Replica is expected here but not ready.
    case replicaNotAvailable = 9
    /// Batch bigger than max.message.bytes of the topic.
    case messageTooLarge = 10
    /// Inter-broker: controller was replaced.
    case staleControllerEpoch = 11
    /// Metadata string of a committed offset exceeds offset.metadata.max.bytes.
    case offsetMetadataTooLarge = 12
    /// Client-side use only.
    case networkException = 13
    /// Coordinator for this key is still replaying its state.
    case coordinatorLoadInProgress = 14
    /// No coordinator known now, or the write of coordinator state failed in a retriable way.
    case coordinatorNotAvailable = 15
    /// This broker does not coordinate that group or transactional id; client must
    /// FindCoordinator again.
    case notCoordinator = 16
    /// Illegal topic name, or a client writing to an internal topic.
    case invalidTopicException = 17
    /// Append larger than a segment.
    case recordListTooLarge = 18
    /// Acks=-1 and in-sync replicas below min.insync.replicas before the append.
    case notEnoughReplicas = 19
    /// Appended, but in-sync replicas fell below the minimum meanwhile.
    case notEnoughReplicasAfterAppend = 20
    /// Acks is not -1, 0 or 1.
    case invalidRequiredAcks = 21
    /// Generation id of the member is not the current one.
    case illegalGeneration = 22
    /// Member's protocol type differs, or no common protocol name, or group of another type.
    case inconsistentGroupProtocol = 23
    /// Empty or malformed group id.
    case invalidGroupId = 24
    /// Member is not in the group.
    case unknownMemberId = 25
    /// Session timeout outside group.min/max.session.timeout.ms.
    case invalidSessionTimeout = 26
    /// Group is rebalancing; member must rejoin.
    case rebalanceInProgress = 27
    /// Committed offset record too big.
    case invalidCommitOffsetSize = 28
    /// No permission on the topic.
    case topicAuthorizationFailed = 29
    /// No permission on the group.
    case groupAuthorizationFailed = 30
    /// No permission on the cluster resource.
    case clusterAuthorizationFailed = 31
    /// Record timestamp outside the allowed window or wrong timestamp type.
    case invalidTimestamp = 32
    /// Mechanism not enabled; the response lists the enabled ones.
    case unsupportedSaslMechanism = 33
    /// SASL request at the wrong moment.
    case illegalSaslState = 34
    /// API version not supported (for ApiVersions: answer in v0 form).
    case unsupportedVersion = 35
    /// Create of an existing name.
    case topicAlreadyExists = 36
    /// Partition count below 1, or not larger than now.
    case invalidPartitions = 37
    /// Below 1 or larger than the number of usable brokers.
    case invalidReplicationFactor = 38
    /// Manual assignment is malformed.
    case invalidReplicaAssignment = 39
    /// Unknown config name or bad value.
    case invalidConfig = 40
    /// Request must go to the controller.
    case notController = 41
    /// Request is self-contradictory or malformed at the semantic level.
    case invalidRequest = 42
    /// Stored message format cannot do this.
    case unsupportedForMessageFormat = 43
    /// A configured policy rejected it.
    case policyViolation = 44
    /// Idempotent producer sequence gap.
    case outOfOrderSequenceNumber = 45
    /// Old duplicate (clients treat as success with unknown offset).
    case duplicateSequenceNumber = 46
    /// Producer epoch older than the newest seen (in Produce; abortable for the client).
    case invalidProducerEpoch = 47
    /// Transaction operation illegal in the present state.
    case invalidTxnState = 48
    /// Producer id does not belong to that transactional id.
    case invalidProducerIdMapping = 49
    /// Timeout above transaction.max.timeout.ms or not positive.
    case invalidTransactionTimeout = 50
    /// Previous transaction of this id is still being finished; back off and retry.
    case concurrentTransactions = 51
    /// Marker write from an old coordinator epoch.
    case transactionCoordinatorFenced = 52
    /// No permission on the transactional id.
    case transactionalIdAuthorizationFailed = 53
    /// No authorizer configured.
    case securityDisabled = 54
    /// Part of a batch was not tried because another part failed.
    case operationNotAttempted = 55
    /// Disk error on the replica.
    case kafkaStorageError = 56
    /// Log directory not configured.
    case logDirNotFound = 57
    /// Credentials rejected.
    case saslAuthenticationFailed = 58
    /// Broker has no state for the producer id (no longer sent by Kafka since 2.x for normal
    /// appends; clients still handle it).
    case unknownProducerId = 59
    /// Partition is being reassigned.
    case reassignmentInProgress = 60
    /// Delegation tokens are off.
    case delegationTokenAuthDisabled = 61
    /// No such token.
    case delegationTokenNotFound = 62
    /// Token belongs to another principal.
    case delegationTokenOwnerMismatch = 63
    /// Token operations not allowed on this channel.
    case delegationTokenRequestNotAllowed = 64
    /// No permission on the token.
    case delegationTokenAuthorizationFailed = 65
    /// Token expired.
    case delegationTokenExpired = 66
    /// Principal type not supported.
    case invalidPrincipalType = 67
    /// Group has members.
    case nonEmptyGroup = 68
    /// No such group.
    case groupIdNotFound = 69
    /// Fetch session evicted or never existed.
    case fetchSessionIdNotFound = 70
    /// Fetch session epoch not the expected one.
    case invalidFetchSessionEpoch = 71
    /// Leader has no listener of that name.
    case listenerNotFound = 72
    /// Delete.topic.enable=false.
    case topicDeletionDisabled = 73
    /// Client's leader epoch is older than the broker's.
    case fencedLeaderEpoch = 74
    /// Client's leader epoch is newer than the broker's.
    case unknownLeaderEpoch = 75
    /// Codec not allowed at this request version (zstd before Produce 7 / Fetch 10).
    case unsupportedCompressionType = 76
    /// Inter-broker: broker restarted.
    case staleBrokerEpoch = 77
    /// New leader has not yet established its high watermark.
    case offsetNotAvailable = 78
    /// Join again with the member id given in this response.
    case memberIdRequired = 79
    /// Preferred replica cannot take leadership.
    case preferredLeaderNotAvailable = 80
    /// Group.max.size members already.
    case groupMaxSizeReached = 81
    /// Another process took over this group.instance.id.
    case fencedInstanceId = 82
    /// No replica may become leader.
    case eligibleLeadersNotAvailable = 83
    /// Leader already as wanted.
    case electionNotNeeded = 84
    /// Nothing to cancel.
    case noReassignmentInProgress = 85
    /// Offset delete refused: a member consumes the topic.
    case groupSubscribedToTopic = 86
    /// A record broke a broker-side rule.
    case invalidRecord = 87
    /// OffsetFetch with RequireStable while a transactional commit is pending.
    case unstableOffsetCommit = 88
    /// Strict quota (controller mutation) exceeded; retry after throttle time.
    case throttlingQuotaExceeded = 89
    /// A newer producer with the same transactional id exists (fatal).
    case producerFenced = 90
    /// E.g. SCRAM user unknown.
    case resourceNotFound = 91
    /// Same resource twice in a request.
    case duplicateResource = 92
    /// E.g. SCRAM iterations out of range.
    case unacceptableCredential = 93
    /// KRaft.
    case inconsistentVoterSet = 94
    /// Feature level invalid.
    case invalidUpdateVersion = 95
    /// Feature update could not be stored.
    case featureUpdateFailed = 96
    /// Forwarding envelope.
    case principalDeserializationFailure = 97
    /// KRaft.
    case snapshotNotFound = 98
    /// KRaft.
    case positionOutOfRange = 99
    /// Topic id not known here.
    case unknownTopicId = 100
    /// KRaft.
    case duplicateBrokerRegistration = 101
    /// Broker id unknown to the controller.
    case brokerIdNotRegistered = 102
    /// The log has another topic id than the request.
    case inconsistentTopicId = 103
    /// Cluster id differs.
    case inconsistentClusterId = 104
    /// Coordinator has no such transactional id.
    case transactionalIdNotFound = 105
    /// Session mixes use and non-use of topic ids; client opens a new session.
    case fetchSessionTopicIdError = 106
    /// Inter-broker.
    case ineligibleReplica = 107
    /// Inter-broker.
    case newLeaderElected = 108
    /// Offset only in remote tier (to followers).
    case offsetMovedToTieredStorage = 109
    /// KIP-848 member epoch older than the coordinator's; member must rejoin with epoch 0.
    case fencedMemberEpoch = 110
    /// Static instance id still held by a live member.
    case unreleasedInstanceId = 111
    /// Requested server assignor unknown.
    case unsupportedAssignor = 112
    /// Offset commit/fetch with an old KIP-848 epoch; retry after the next heartbeat.
    case staleMemberEpoch = 113
    /// DescribeCluster asked for controllers at a broker or the reverse.
    case mismatchedEndpointType = 114
    /// Unknown endpoint type.
    case unsupportedEndpointType = 115
    /// KRaft.
    case unknownControllerId = 116
    /// Telemetry push used an old subscription id.
    case unknownSubscriptionId = 117
    /// Telemetry payload over the limit.
    case telemetryTooLarge = 118
    /// KRaft.
    case invalidRegistration = 119
    /// Client must abort the transaction and may go on afterwards (transactions v2).
    case transactionAbortable = 120
    /// Share acknowledgement for records not acquired by this member.
    case invalidRecordState = 121
    /// Share session unknown.
    case shareSessionNotFound = 122
    /// Share session epoch not expected.
    case invalidShareSessionEpoch = 123
    /// Share state epoch old.
    case fencedStateEpoch = 124
    /// KRaft.
    case invalidVoterKey = 125
    /// KRaft.
    case duplicateVoter = 126
    /// KRaft.
    case voterNotFound = 127
    /// Subscription regex does not compile.
    case invalidRegularExpression = 128
    /// Client should throw away its metadata and use its bootstrap servers again.
    case rebootstrapRequired = 129
    /// KIP-1071.
    case streamsInvalidTopology = 130
    /// KIP-1071.
    case streamsInvalidTopologyEpoch = 131
    /// KIP-1071.
    case streamsTopologyFenced = 132
    /// Too many share sessions on the broker.
    case shareSessionLimitReached = 133

    /// Whether the same request may succeed later, as it is or after refreshing metadata.
    public var isRetriable: Bool {
        switch self {
        case .corruptMessage, .unknownTopicOrPartition, .leaderNotAvailable,
            .notLeaderOrFollower, .requestTimedOut, .replicaNotAvailable, .networkException,
            .coordinatorLoadInProgress, .coordinatorNotAvailable, .notCoordinator,
            .notEnoughReplicas, .notEnoughReplicasAfterAppend, .notController,
            .concurrentTransactions, .kafkaStorageError, .fetchSessionIdNotFound,
            .invalidFetchSessionEpoch, .listenerNotFound, .fencedLeaderEpoch,
            .unknownLeaderEpoch, .offsetNotAvailable, .preferredLeaderNotAvailable,
            .eligibleLeadersNotAvailable, .electionNotNeeded, .unstableOffsetCommit,
            .throttlingQuotaExceeded, .unknownTopicId, .inconsistentTopicId,
            .fetchSessionTopicIdError, .shareSessionNotFound, .invalidShareSessionEpoch,
            .shareSessionLimitReached:
            true
        case .unknownServerError, .noError, .offsetOutOfRange, .invalidFetchSize,
            .brokerNotAvailable, .messageTooLarge, .staleControllerEpoch,
            .offsetMetadataTooLarge, .invalidTopicException, .recordListTooLarge,
            .invalidRequiredAcks, .illegalGeneration, .inconsistentGroupProtocol,
            .invalidGroupId, .unknownMemberId, .invalidSessionTimeout, .rebalanceInProgress,
            .invalidCommitOffsetSize, .topicAuthorizationFailed, .groupAuthorizationFailed,
            .clusterAuthorizationFailed, .invalidTimestamp, .unsupportedSaslMechanism,
            .illegalSaslState, .unsupportedVersion, .topicAlreadyExists, .invalidPartitions,
            .invalidReplicationFactor, .invalidReplicaAssignment, .invalidConfig,
            .invalidRequest, .unsupportedForMessageFormat, .policyViolation,
            .outOfOrderSequenceNumber, .duplicateSequenceNumber, .invalidProducerEpoch,
            .invalidTxnState, .invalidProducerIdMapping, .invalidTransactionTimeout,
            .transactionCoordinatorFenced, .transactionalIdAuthorizationFailed,
            .securityDisabled, .operationNotAttempted, .logDirNotFound,
            .saslAuthenticationFailed, .unknownProducerId, .reassignmentInProgress,
            .delegationTokenAuthDisabled, .delegationTokenNotFound,
            .delegationTokenOwnerMismatch, .delegationTokenRequestNotAllowed,
            .delegationTokenAuthorizationFailed, .delegationTokenExpired, .invalidPrincipalType,
            .nonEmptyGroup, .groupIdNotFound, .topicDeletionDisabled,
            .unsupportedCompressionType, .staleBrokerEpoch, .memberIdRequired,
            .groupMaxSizeReached, .fencedInstanceId, .noReassignmentInProgress,
            .groupSubscribedToTopic, .invalidRecord, .producerFenced, .resourceNotFound,
            .duplicateResource, .unacceptableCredential, .inconsistentVoterSet,
            .invalidUpdateVersion, .featureUpdateFailed, .principalDeserializationFailure,
            .snapshotNotFound, .positionOutOfRange, .duplicateBrokerRegistration,
            .brokerIdNotRegistered, .inconsistentClusterId, .transactionalIdNotFound,
            .ineligibleReplica, .newLeaderElected, .offsetMovedToTieredStorage,
            .fencedMemberEpoch, .unreleasedInstanceId, .unsupportedAssignor, .staleMemberEpoch,
            .mismatchedEndpointType, .unsupportedEndpointType, .unknownControllerId,
            .unknownSubscriptionId, .telemetryTooLarge, .invalidRegistration,
            .transactionAbortable, .invalidRecordState, .fencedStateEpoch, .invalidVoterKey,
            .duplicateVoter, .voterNotFound, .invalidRegularExpression, .rebootstrapRequired,
            .streamsInvalidTopology, .streamsInvalidTopologyEpoch, .streamsTopologyFenced:
            false
        }
    }

    /// Kafka's name of the code, in capitals.
    public var description: String {
        switch self {
        case .unknownServerError: "UNKNOWN_SERVER_ERROR"
        case .noError: "NONE"
        case .offsetOutOfRange: "OFFSET_OUT_OF_RANGE"
        case .corruptMessage: "CORRUPT_MESSAGE"
        case .unknownTopicOrPartition: "UNKNOWN_TOPIC_OR_PARTITION"
        case .invalidFetchSize: "INVALID_FETCH_SIZE"
        case .leaderNotAvailable: "LEADER_NOT_AVAILABLE"
        case .notLeaderOrFollower: "NOT_LEADER_OR_FOLLOWER"
        case .requestTimedOut: "REQUEST_TIMED_OUT"
        case .brokerNotAvailable: "BROKER_NOT_AVAILABLE"
        case .replicaNotAvailable: "REPLICA_NOT_AVAILABLE"
        case .messageTooLarge: "MESSAGE_TOO_LARGE"
        case .staleControllerEpoch: "STALE_CONTROLLER_EPOCH"
        case .offsetMetadataTooLarge: "OFFSET_METADATA_TOO_LARGE"
        case .networkException: "NETWORK_EXCEPTION"
        case .coordinatorLoadInProgress: "COORDINATOR_LOAD_IN_PROGRESS"
        case .coordinatorNotAvailable: "COORDINATOR_NOT_AVAILABLE"
        case .notCoordinator: "NOT_COORDINATOR"
        case .invalidTopicException: "INVALID_TOPIC_EXCEPTION"
        case .recordListTooLarge: "RECORD_LIST_TOO_LARGE"
        case .notEnoughReplicas: "NOT_ENOUGH_REPLICAS"
        case .notEnoughReplicasAfterAppend: "NOT_ENOUGH_REPLICAS_AFTER_APPEND"
        case .invalidRequiredAcks: "INVALID_REQUIRED_ACKS"
        case .illegalGeneration: "ILLEGAL_GENERATION"
        case .inconsistentGroupProtocol: "INCONSISTENT_GROUP_PROTOCOL"
        case .invalidGroupId: "INVALID_GROUP_ID"
        case .unknownMemberId: "UNKNOWN_MEMBER_ID"
        case .invalidSessionTimeout: "INVALID_SESSION_TIMEOUT"
        case .rebalanceInProgress: "REBALANCE_IN_PROGRESS"
        case .invalidCommitOffsetSize: "INVALID_COMMIT_OFFSET_SIZE"
        case .topicAuthorizationFailed: "TOPIC_AUTHORIZATION_FAILED"
        case .groupAuthorizationFailed: "GROUP_AUTHORIZATION_FAILED"
        case .clusterAuthorizationFailed: "CLUSTER_AUTHORIZATION_FAILED"
        case .invalidTimestamp: "INVALID_TIMESTAMP"
        case .unsupportedSaslMechanism: "UNSUPPORTED_SASL_MECHANISM"
        case .illegalSaslState: "ILLEGAL_SASL_STATE"
        case .unsupportedVersion: "UNSUPPORTED_VERSION"
        case .topicAlreadyExists: "TOPIC_ALREADY_EXISTS"
        case .invalidPartitions: "INVALID_PARTITIONS"
        case .invalidReplicationFactor: "INVALID_REPLICATION_FACTOR"
        case .invalidReplicaAssignment: "INVALID_REPLICA_ASSIGNMENT"
        case .invalidConfig: "INVALID_CONFIG"
        case .notController: "NOT_CONTROLLER"
        case .invalidRequest: "INVALID_REQUEST"
        case .unsupportedForMessageFormat: "UNSUPPORTED_FOR_MESSAGE_FORMAT"
        case .policyViolation: "POLICY_VIOLATION"
        case .outOfOrderSequenceNumber: "OUT_OF_ORDER_SEQUENCE_NUMBER"
        case .duplicateSequenceNumber: "DUPLICATE_SEQUENCE_NUMBER"
        case .invalidProducerEpoch: "INVALID_PRODUCER_EPOCH"
        case .invalidTxnState: "INVALID_TXN_STATE"
        case .invalidProducerIdMapping: "INVALID_PRODUCER_ID_MAPPING"
        case .invalidTransactionTimeout: "INVALID_TRANSACTION_TIMEOUT"
        case .concurrentTransactions: "CONCURRENT_TRANSACTIONS"
        case .transactionCoordinatorFenced: "TRANSACTION_COORDINATOR_FENCED"
        case .transactionalIdAuthorizationFailed: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
        case .securityDisabled: "SECURITY_DISABLED"
        case .operationNotAttempted: "OPERATION_NOT_ATTEMPTED"
        case .kafkaStorageError: "KAFKA_STORAGE_ERROR"
        case .logDirNotFound: "LOG_DIR_NOT_FOUND"
        case .saslAuthenticationFailed: "SASL_AUTHENTICATION_FAILED"
        case .unknownProducerId: "UNKNOWN_PRODUCER_ID"
        case .reassignmentInProgress: "REASSIGNMENT_IN_PROGRESS"
        case .delegationTokenAuthDisabled: "DELEGATION_TOKEN_AUTH_DISABLED"
        case .delegationTokenNotFound: "DELEGATION_TOKEN_NOT_FOUND"
        case .delegationTokenOwnerMismatch: "DELEGATION_TOKEN_OWNER_MISMATCH"
        case .delegationTokenRequestNotAllowed: "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"
        case .delegationTokenAuthorizationFailed: "DELEGATION_TOKEN_AUTHORIZATION_FAILED"
        case .delegationTokenExpired: "DELEGATION_TOKEN_EXPIRED"
        case .invalidPrincipalType: "INVALID_PRINCIPAL_TYPE"
        case .nonEmptyGroup: "NON_EMPTY_GROUP"
        case .groupIdNotFound: "GROUP_ID_NOT_FOUND"
        case .fetchSessionIdNotFound: "FETCH_SESSION_ID_NOT_FOUND"
        case .invalidFetchSessionEpoch: "INVALID_FETCH_SESSION_EPOCH"
        case .listenerNotFound: "LISTENER_NOT_FOUND"
        case .topicDeletionDisabled: "TOPIC_DELETION_DISABLED"
        case .fencedLeaderEpoch: "FENCED_LEADER_EPOCH"
        case .unknownLeaderEpoch: "UNKNOWN_LEADER_EPOCH"
        case .unsupportedCompressionType: "UNSUPPORTED_COMPRESSION_TYPE"
        case .staleBrokerEpoch: "STALE_BROKER_EPOCH"
        case .offsetNotAvailable: "OFFSET_NOT_AVAILABLE"
        case .memberIdRequired: "MEMBER_ID_REQUIRED"
        case .preferredLeaderNotAvailable: "PREFERRED_LEADER_NOT_AVAILABLE"
        case .groupMaxSizeReached: "GROUP_MAX_SIZE_REACHED"
        case .fencedInstanceId: "FENCED_INSTANCE_ID"
        case .eligibleLeadersNotAvailable: "ELIGIBLE_LEADERS_NOT_AVAILABLE"
        case .electionNotNeeded: "ELECTION_NOT_NEEDED"
        case .noReassignmentInProgress: "NO_REASSIGNMENT_IN_PROGRESS"
        case .groupSubscribedToTopic: "GROUP_SUBSCRIBED_TO_TOPIC"
        case .invalidRecord: "INVALID_RECORD"
        case .unstableOffsetCommit: "UNSTABLE_OFFSET_COMMIT"
        case .throttlingQuotaExceeded: "THROTTLING_QUOTA_EXCEEDED"
        case .producerFenced: "PRODUCER_FENCED"
        case .resourceNotFound: "RESOURCE_NOT_FOUND"
        case .duplicateResource: "DUPLICATE_RESOURCE"
        case .unacceptableCredential: "UNACCEPTABLE_CREDENTIAL"
        case .inconsistentVoterSet: "INCONSISTENT_VOTER_SET"
        case .invalidUpdateVersion: "INVALID_UPDATE_VERSION"
        case .featureUpdateFailed: "FEATURE_UPDATE_FAILED"
        case .principalDeserializationFailure: "PRINCIPAL_DESERIALIZATION_FAILURE"
        case .snapshotNotFound: "SNAPSHOT_NOT_FOUND"
        case .positionOutOfRange: "POSITION_OUT_OF_RANGE"
        case .unknownTopicId: "UNKNOWN_TOPIC_ID"
        case .duplicateBrokerRegistration: "DUPLICATE_BROKER_REGISTRATION"
        case .brokerIdNotRegistered: "BROKER_ID_NOT_REGISTERED"
        case .inconsistentTopicId: "INCONSISTENT_TOPIC_ID"
        case .inconsistentClusterId: "INCONSISTENT_CLUSTER_ID"
        case .transactionalIdNotFound: "TRANSACTIONAL_ID_NOT_FOUND"
        case .fetchSessionTopicIdError: "FETCH_SESSION_TOPIC_ID_ERROR"
        case .ineligibleReplica: "INELIGIBLE_REPLICA"
        case .newLeaderElected: "NEW_LEADER_ELECTED"
        case .offsetMovedToTieredStorage: "OFFSET_MOVED_TO_TIERED_STORAGE"
        case .fencedMemberEpoch: "FENCED_MEMBER_EPOCH"
        case .unreleasedInstanceId: "UNRELEASED_INSTANCE_ID"
        case .unsupportedAssignor: "UNSUPPORTED_ASSIGNOR"
        case .staleMemberEpoch: "STALE_MEMBER_EPOCH"
        case .mismatchedEndpointType: "MISMATCHED_ENDPOINT_TYPE"
        case .unsupportedEndpointType: "UNSUPPORTED_ENDPOINT_TYPE"
        case .unknownControllerId: "UNKNOWN_CONTROLLER_ID"
        case .unknownSubscriptionId: "UNKNOWN_SUBSCRIPTION_ID"
        case .telemetryTooLarge: "TELEMETRY_TOO_LARGE"
        case .invalidRegistration: "INVALID_REGISTRATION"
        case .transactionAbortable: "TRANSACTION_ABORTABLE"
        case .invalidRecordState: "INVALID_RECORD_STATE"
        case .shareSessionNotFound: "SHARE_SESSION_NOT_FOUND"
        case .invalidShareSessionEpoch: "INVALID_SHARE_SESSION_EPOCH"
        case .fencedStateEpoch: "FENCED_STATE_EPOCH"
        case .invalidVoterKey: "INVALID_VOTER_KEY"
        case .duplicateVoter: "DUPLICATE_VOTER"
        case .voterNotFound: "VOTER_NOT_FOUND"
        case .invalidRegularExpression: "INVALID_REGULAR_EXPRESSION"
        case .rebootstrapRequired: "REBOOTSTRAP_REQUIRED"
        case .streamsInvalidTopology: "STREAMS_INVALID_TOPOLOGY"
        case .streamsInvalidTopologyEpoch: "STREAMS_INVALID_TOPOLOGY_EPOCH"
        case .streamsTopologyFenced: "STREAMS_TOPOLOGY_FENCED"
        case .shareSessionLimitReached: "SHARE_SESSION_LIMIT_REACHED"
        }
    }
}
