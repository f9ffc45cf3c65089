/// What a client needs to know about its cluster, and how patient it is.
public struct ClientConfiguration: Sendable {
    /// Where to ask first; any brokers of the cluster.
    public var brokers: [BrokerAddress]
    /// The name that brokers see in every request.
    public var clientID = "flotilla"
    /// How long a connection may take to come up.
    public var connectTimeout = Duration.seconds(5)
    /// How long a broker may take to answer.
    public var requestTimeout = Duration.seconds(30)
    /// How long administration and metadata calls repeat what may succeed later.
    ///
    /// No call takes longer than this and `requestTimeout`, whichever is more: with its connections, all of its requests,
    /// and what these ask of brokers.
    public var retryTimeout = Duration.seconds(15)
    /// The same while every address says at once that nobody is there: it refuses connections, or its name is not known.
    ///
    /// Nil for `retryTimeout`.
    public var refusalTimeout: Duration?
    /// A broker that has not taken a connection after this time is not waited for alone: the next one is asked beside it.
    public var nextBrokerDelay = Duration.milliseconds(250)
    /// Told once, and in words, what a call waits for that has taken longer than `waitNoticeDelay`.
    public var onWait: (@Sendable (String) -> Void)?
    /// How long a call may take before `onWait` hears of it.
    public var waitNoticeDelay = Duration.seconds(1)
    /// The first pause between two attempts; it doubles, with a random part, up to `maximumBackoff`.
    public var initialBackoff = Duration.milliseconds(50)
    /// The longest pause between two attempts.
    public var maximumBackoff = Duration.seconds(1)
    /// After this time what is known of the cluster is asked for again.
    public var metadataMaximumAge = Duration.seconds(300)

    /// The defaults, for one cluster.
    public init(brokers: [BrokerAddress]) {
        self.brokers = brokers
    }
}

/// The version that brokers see as the client software's.
enum ClientSoftware {
    static let name = "flotilla"
    static let version = "0.1"
}
