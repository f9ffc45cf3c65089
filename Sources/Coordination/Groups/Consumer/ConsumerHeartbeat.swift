package import FlotillaModel

/// A ConsumerGroupHeartbeat; nil stands for what has not changed since the last one.
package struct ConsumerHeartbeat: Sendable {
    /// The member's id.
    package var memberID: String
    /// The epoch that it has come to: 0 to join, -1 to leave, -2 to be away for a while.
    package var epoch: Int32
    /// The name that a static member keeps over restarts.
    package var instanceID: String?
    /// The rack or zone that it stands in.
    package var rack: String?
    /// How long it may take to give partitions back.
    package var rebalanceTimeoutMillis: Int32?
    /// The topics that it wants.
    package var topics: [String]?
    /// An expression that names topics; empty for none.
    package var pattern: String?
    /// The assignor that it wishes for.
    package var assignor: String?
    /// What it reads.
    package var owned: Set<TopicPartition>?
    /// What the client calls itself.
    package var clientID: String
    /// Where the client is.
    package var clientHost: String

    /// States a request.
    package init(
        memberID: String,
        epoch: Int32,
        instanceID: String? = nil,
        rack: String? = nil,
        rebalanceTimeoutMillis: Int32? = nil,
        topics: [String]? = nil,
        pattern: String? = nil,
        assignor: String? = nil,
        owned: Set<TopicPartition>? = nil,
        clientID: String,
        clientHost: String
    ) {
        self.memberID = memberID
        self.epoch = epoch
        self.instanceID = instanceID
        self.rack = rack
        self.rebalanceTimeoutMillis = rebalanceTimeoutMillis
        self.topics = topics
        self.pattern = pattern
        self.assignor = assignor
        self.owned = owned
        self.clientID = clientID
        self.clientHost = clientHost
    }

    /// Whether it says everything, and wants to be told everything.
    var isFull: Bool {
        epoch == 0
            || rebalanceTimeoutMillis != nil && (topics != nil || pattern != nil) && owned != nil
    }

    /// The member's subscription after this heartbeat.
    func subscription(after before: ConsumerSubscription) -> ConsumerSubscription {
        var next = before
        next.clientID = clientID
        next.clientHost = clientHost
        if let instanceID { next.instanceID = instanceID }
        if let rack { next.rack = rack }
        if let rebalanceTimeoutMillis { next.rebalanceTimeoutMillis = rebalanceTimeoutMillis }
        if let topics { next.topics = Set(topics).sorted() }
        if let pattern { next.pattern = pattern.isEmpty ? nil : pattern }
        if let assignor { next.assignor = assignor }
        next.classic = nil
        return next
    }
}

/// What a member is told.
package struct ConsumerHeartbeatAnswer: Hashable, Sendable {
    /// The member's id.
    package var memberID: String
    /// The epoch that it has come to, or the one with which it left.
    package var epoch: Int32
    /// What it may read; nil for what it was told last.
    package var assignment: Set<TopicPartition>?
}

/// Why a heartbeat is refused.
package struct HeartbeatRefusal: Error, Hashable, Sendable {
    /// For programs.
    package var code: ErrorCode
    /// For people.
    package var message: String

    /// States a refusal.
    package init(_ code: ErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }
}
