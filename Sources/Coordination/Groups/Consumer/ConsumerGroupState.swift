package import FlotillaModel

/// A group of the consumer protocol (KIP-848) as its log knows it.
package struct ConsumerGroupState: Hashable, Sendable {
    /// Grows by one with every change of the members, of what they want, or of the topics that they want.
    package internal(set) var epoch: Int32 = 0
    /// The group's epoch when the present target was computed.
    package internal(set) var targetEpoch: Int32 = 0
    /// The topics that the members want, as they were when the group's epoch last grew.
    package internal(set) var topics: [TopicID: SubscribedTopic] = [:]
    /// The members, by id.
    package internal(set) var members: [String: ConsumerMember] = [:]

    /// A group that nobody has joined yet.
    package init() {}

    /// About how many bytes its members say of themselves.
    package var byteCount: Int { members.values.reduce(0) { $0 + $1.subscription.byteCount } }

    /// Takes in a fact.
    mutating func apply(_ record: ConsumerGroupRecord) {
        switch record {
        case .epoch(let epoch): self.epoch = epoch
        case .topics(let topics): self.topics = topics
        case .member(let id, let subscription?):
            members[id, default: ConsumerMember()].subscription = subscription
        case .member(let id, nil): members[id] = nil
        case .targetEpoch(let epoch): targetEpoch = epoch
        case .target(let id, let target):
            // What is void of a member that is gone must not bring it back.
            guard target != nil || members[id] != nil else { return }
            members[id, default: ConsumerMember()].target = target ?? []
        case .current(let id, let assignment):
            guard assignment != nil || members[id] != nil else { return }
            members[id, default: ConsumerMember()].current = assignment ?? CurrentAssignment()
        }
    }
}

/// A topic that a group's members want.
package struct SubscribedTopic: Hashable, Sendable {
    /// The topic's name.
    package var name: String
    /// How many partitions it has.
    package var partitionCount: Int32

    /// States a topic.
    package init(name: String, partitionCount: Int32) {
        self.name = name
        self.partitionCount = partitionCount
    }
}

/// A member of a group of the consumer protocol.
package struct ConsumerMember: Hashable, Sendable {
    /// What it said of itself.
    package internal(set) var subscription = ConsumerSubscription()
    /// What it is to have.
    package internal(set) var target: Set<TopicPartition> = []
    /// What it has.
    package internal(set) var current = CurrentAssignment()
}

/// What a member says of itself.
package struct ConsumerSubscription: Hashable, Sendable {
    /// The name that a static member keeps over restarts.
    package var instanceID: String?
    /// The rack or zone that it stands in.
    package var rack: String?
    /// What the client calls itself.
    package var clientID = ""
    /// Where the client is.
    package var clientHost = ""
    /// The topics that it names, ascending and each once.
    package var topics: [String] = []
    /// An expression that names topics, in RE2's syntax.
    package var pattern: String?
    /// How long it may take to give partitions back.
    package var rebalanceTimeoutMillis: Int32 = -1
    /// The assignor that it wishes for.
    package var assignor: String?
    /// What it says beside that, where it uses the classic protocol.
    package var classic: ClassicSupport?

    /// Somebody who says nothing.
    package init() {}

    /// About how many bytes it takes.
    package var byteCount: Int {
        let said = topics.reduce(pattern?.utf8.count ?? 0) { $0 + $1.utf8.count + 2 }
        return said + (classic?.protocols.reduce(0) { $0 + $1.byteCount } ?? 0)
    }

    /// Whether what it is to get may be another share than with `other`.
    func asksForOther(than other: ConsumerSubscription) -> Bool {
        topics != other.topics || pattern != other.pattern || rack != other.rack
            || assignor != other.assignor
    }
}

/// What a member of the classic protocol says that is in a group of the consumer protocol; with it the group finds its way back.
package struct ClassicSupport: Hashable, Sendable {
    /// How long it may be silent.
    package var sessionTimeoutMillis: Int32
    /// What it knows, the dearest first.
    package var protocols: [GroupProtocol]

    /// States what a member says.
    package init(sessionTimeoutMillis: Int32, protocols: [GroupProtocol]) {
        self.sessionTimeoutMillis = sessionTimeoutMillis
        self.protocols = protocols
    }
}

/// One fact about a group of the consumer protocol; the last one of its kind and member counts.
package enum ConsumerGroupRecord: Hashable, Sendable {
    /// The group's epoch.
    case epoch(Int32)
    /// The topics that its members want.
    case topics([TopicID: SubscribedTopic])
    /// A member; nil when it has gone, with all that it had.
    case member(String, ConsumerSubscription?)
    /// The epoch of the target.
    case targetEpoch(Int32)
    /// What a member is to have; nil for nothing.
    case target(String, Set<TopicPartition>?)
    /// What a member has; nil for nothing.
    case current(String, CurrentAssignment?)
}
