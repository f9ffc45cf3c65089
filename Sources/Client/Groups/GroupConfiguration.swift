/// How the members of a group and its coordinator talk.
public enum GroupProtocol: String, Hashable, Sendable, CaseIterable {
    /// Members join together, and one of them assigns: every Kafka client and broker speaks it.
    case classic
    /// The coordinator assigns, and each member follows at its own pace.
    ///
    /// - Source: KIP-848.
    case consumer
}

/// What a member wants to read.
public enum GroupSubscription: Hashable, Sendable {
    /// Topics by name; those that do not exist yet are read once they do.
    case topics([String])
    /// Topics whose whole name matches, as the broker reads regular expressions (RE2); only with `.consumer`.
    case pattern(String)
}

/// Where to begin a partition for which the group has committed nothing.
public enum GroupStart: Hashable, Sendable {
    /// With the first record that there is.
    case earliest
    /// With what comes from now on.
    case latest
    /// Nowhere: the consumer fails with `ClientError.noCommittedOffset`.
    case error
}

/// What a member of a group is told, and awaited before the group goes on.
///
/// None of it runs while the application is busy with records: the consumer waits until the application asks for more. From
/// within, `commit` and `seek` may be called, `next` and `close` must not.
public struct RebalanceListener: Sendable {
    /// Partitions came, perhaps none; their records follow afterwards.
    public var assigned: @Sendable (GroupConsumer, [NamedPartition]) async -> Void = { _, _ in }
    /// Partitions are to be given up: what was done can still be committed.
    public var revoked: @Sendable (GroupConsumer, [NamedPartition]) async -> Void = { _, _ in }
    /// Partitions belong to somebody else already, so nothing can be committed for them any more.
    public var lost: @Sendable (GroupConsumer, [NamedPartition]) async -> Void = { _, _ in }
    /// Something that nobody waits for failed, and may be tried again: a commit, a heartbeat, a farewell.
    public var troubled: @Sendable (ClientError) -> Void = { _ in }

    /// Listens to nothing.
    public init() {}
}

/// A group, what to read as a member of it, and how.
public struct GroupConfiguration: Sendable {
    /// The group's name.
    public var group: String
    /// What to read.
    public var subscription: GroupSubscription
    /// How to talk to the coordinator.
    public var groupProtocol = GroupProtocol.classic
    /// A name that outlives the process: who comes back under it within `sessionTimeout` gets its partitions back, and
    /// nobody else is disturbed; `close()` does not leave the group then.
    ///
    /// - Source: KIP-345.
    public var instanceID: String?
    /// How a classic group may divide, the favourite first; the group takes what all its members can.
    ///
    /// Only where all of them are cooperative does the member read on while the group changes.
    public var assignors: [Assignor] = [.range, .cooperativeSticky]
    /// What the coordinator of a `.consumer` group is to divide by; nil for what it prefers.
    public var serverAssignor: String?
    /// A classic member that says nothing for so long is given up.
    public var sessionTimeout = Duration.seconds(45)
    /// How often a classic member says that it lives; the coordinator of a `.consumer` group says that itself.
    public var heartbeatInterval = Duration.seconds(3)
    /// An application that does not ask for records for so long loses its partitions; also how long the group waits for it
    /// to give some up.
    public var maximumPollInterval = Duration.seconds(300)
    /// How often what was read is committed by itself, which is also done when partitions are given up; nil for never.
    public var autoCommitInterval: Duration? = .seconds(5)
    /// Where to begin when nothing is committed, or what is committed does not exist any more.
    public var start = GroupStart.latest
    /// How to fetch; `resetsTo` follows from `start`.
    public var fetching = ConsumerConfiguration()
    /// What to tell the application.
    public var listener = RebalanceListener()

    /// A member of a group by the defaults.
    public init(group: String, subscription: GroupSubscription) {
        self.group = group
        self.subscription = subscription
    }

    /// A member that reads these topics by the defaults.
    public init(group: String, topics: [String]) {
        self.init(group: group, subscription: .topics(topics))
    }

    /// Whether members keep what they have while a classic group divides anew.
    var isCooperative: Bool {
        assignors.allSatisfy { $0 == .cooperativeSticky }
    }

    /// Names of topics; empty for a pattern.
    var topics: [String] {
        guard case .topics(let names) = subscription else { return [] }
        return Set(names).sorted()
    }

    /// Refuses what makes no sense.
    func check() throws(ClientError) {
        if group.isEmpty { throw .invalidConfiguration("a group has a name") }
        switch subscription {
        case .topics(let names):
            if names.isEmpty { throw .invalidConfiguration("a member of a group reads a topic") }
        case .pattern(let pattern):
            guard groupProtocol == .consumer, !pattern.isEmpty else {
                throw .invalidConfiguration("only a group of the consumer protocol takes a pattern")
            }
        }
        if assignors.isEmpty { throw .invalidConfiguration("a group divides by an assignor") }
        if instanceID?.isEmpty == true { throw .invalidConfiguration("a static name is not empty") }
        let times = [sessionTimeout, heartbeatInterval, maximumPollInterval]
        let isPositive = (times + [autoCommitInterval ?? .seconds(1)]).allSatisfy { $0 > .zero }
        guard isPositive else { throw .invalidConfiguration("times of a group are above zero") }
        guard heartbeatInterval < sessionTimeout else {
            throw .invalidConfiguration("heartbeats come more than once in a session")
        }
    }
}
