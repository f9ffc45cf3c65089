public import FlotillaModel

/// Why a call of the client failed; each message says what was tried.
public enum ClientError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No broker of the list could be reached.
    ///
    /// It is a refusal where every address said at once that nobody is there.
    case unreachable(brokers: [BrokerAddress], reason: String, isRefusal: Bool = false)
    /// Who listens there speaks something else than Kafka's protocol.
    case notKafka(BrokerAddress, speaks: String)
    /// The connection to a broker broke before its answer came.
    case disconnected(BrokerAddress, reason: String)
    /// A broker did not answer in time.
    case requestTimedOut(api: String, broker: BrokerAddress)
    /// A record was not acknowledged in time; it may or may not be in the log.
    case deliveryTimedOut(partition: NamedPartition, reason: String)
    /// A broker refused.
    case refused(ErrorCode, subject: String, message: String?)
    /// The broker speaks no version of an API that this client speaks too.
    case unsupported(api: String, broker: BrokerAddress)
    /// A broker's answer is not what the protocol says.
    case malformedResponse(String)
    /// Fetched records are damaged.
    case corruptRecords(partition: NamedPartition, reason: String)
    /// A record is larger than the producer may send.
    case recordTooLarge(byteCount: Int, limit: Int)
    /// The producer holds as many bytes as it may; wait for room.
    case bufferFull
    /// There is no such topic.
    case noSuchTopic(String)
    /// A topic has no such partition.
    case noSuchPartition(NamedPartition)
    /// A group has committed nothing for a partition, and its consumer was not told where to begin.
    case noCommittedOffset(group: String, partition: NamedPartition)
    /// A partition is not, or not any more, the group consumer's own.
    case notAssigned(NamedPartition)
    /// What a call was given makes no sense.
    case invalidConfiguration(String)
    /// The client, or the producer, was closed.
    case closed
    /// The task that called was cancelled.
    case cancelled

    /// Whether the same call may succeed later.
    public var isRetriable: Bool {
        switch self {
        case .unreachable, .disconnected, .requestTimedOut, .bufferFull: true
        case .refused(let code, _, _): code.isRetriable
        case .notKafka, .deliveryTimedOut, .unsupported, .malformedResponse, .corruptRecords,
            .recordTooLarge, .noSuchTopic, .noSuchPartition, .noCommittedOffset, .notAssigned,
            .invalidConfiguration, .closed, .cancelled:
            false
        }
    }

    /// Whether the cause is that a topic or partition does not exist.
    public var isNotFound: Bool {
        switch self {
        case .refused(.unknownTopicOrPartition, _, _), .refused(.unknownTopicId, _, _),
            .noSuchTopic, .noSuchPartition:
            true
        default: false
        }
    }

    /// What a code says about a group that is the subject, as people say it; nil for other codes.
    private static func sentence(_ code: ErrorCode, _ subject: String) -> String? {
        switch code {
        case .groupIdNotFound: "\(subject) does not exist"
        case .nonEmptyGroup: "\(subject) has members"
        case .coordinatorNotAvailable: "\(subject) has no coordinator now"
        case .coordinatorLoadInProgress: "the coordinator of \(subject) is still starting"
        case .groupMaxSizeReached: "\(subject) is full"
        case .fencedInstanceId: "another member has taken this one's static name in \(subject)"
        case .unreleasedInstanceId:
            "\(subject) still has a member with this static name; it goes when it leaves or its session ends"
        default: nil
        }
    }

    /// Addresses as a list.
    static func list(_ brokers: [BrokerAddress]) -> String {
        brokers.map(\.description).joined(separator: ", ")
    }

    /// The error as a sentence.
    public var description: String {
        switch self {
        case .unreachable(let brokers, let reason, _):
            "no broker reached at \(Self.list(brokers)): \(reason)"
        case .notKafka(let address, let speech):
            "\(address) speaks \(speech), not Kafka's protocol; a broker's port for clients is "
                + "\(BrokerAddress.defaultPort) by default"
        case .disconnected(let broker, let reason):
            "connection to \(broker) lost: \(reason)"
        case .requestTimedOut(let api, let broker):
            "\(broker) did not answer \(api) in time"
        case .deliveryTimedOut(let partition, let reason):
            "\(partition): not acknowledged in time: \(reason)"
        case .refused(let code, let subject, let message):
            (Self.sentence(code, subject) ?? "\(subject): \(code)")
                + (message.map { ": \($0)" } ?? "")
        case .unsupported(let api, let broker):
            "\(broker) has no version of \(api) that this client speaks"
        case .malformedResponse(let reason):
            "malformed answer: \(reason)"
        case .corruptRecords(let partition, let reason):
            "\(partition): \(reason)"
        case .recordTooLarge(let byteCount, let limit):
            "a record of \(byteCount) bytes is beyond the producer's limit of \(limit)"
        case .bufferFull:
            "the producer's buffer is full"
        case .noSuchTopic(let name):
            "topic \(name) does not exist"
        case .noSuchPartition(let partition):
            "partition \(partition) does not exist"
        case .noCommittedOffset(let group, let partition):
            "group \(group) has committed no offset of \(partition)"
        case .notAssigned(let partition):
            "\(partition) is not assigned to this consumer"
        case .invalidConfiguration(let problem):
            problem
        case .closed:
            "the client is closed"
        case .cancelled:
            "cancelled"
        }
    }
}

extension ClientError {
    /// What an error code means that was answered about a topic; nil for `NONE`.
    init?(code: Int16, topic: String, message: String? = nil) {
        if code == ErrorCode.unknownTopicOrPartition.rawValue {
            self = .noSuchTopic(topic)
        } else {
            self.init(code: code, subject: "topic \(topic)", message: message)
        }
    }

    /// The refusal that an error code means; nil for `NONE`.
    init?(code: Int16, subject: String, message: String? = nil) {
        guard code != 0 else { return nil }
        self = .refused(
            ErrorCode(rawValue: code) ?? .unknownServerError,
            subject: subject,
            message: message
        )
    }
}

/// A partition by its topic's name.
public struct NamedPartition: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// The topic's name.
    public var topic: String
    /// The partition's number within the topic.
    public var index: Int32

    /// Names a partition.
    public init(topic: String, index: Int32) {
        self.topic = topic
        self.index = index
    }

    /// Orders by topic, then by number.
    public static func < (left: NamedPartition, right: NamedPartition) -> Bool {
        (left.topic, left.index) < (right.topic, right.index)
    }

    /// `topic[index]`.
    public var description: String {
        "\(topic)[\(index)]"
    }
}
