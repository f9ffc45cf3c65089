package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A classic group as its log knows it: as it was when it last became stable or empty.
package struct ClassicGroupState: Hashable, Sendable {
    /// What its members use groups for: "consumer", "connect".
    package var protocolType: String
    /// How many rebalances it has seen.
    package var generation: Int32
    /// The assignment strategy that all agreed on; nil when it is empty.
    package var protocolName: String?
    /// The member that assigns; nil when it is empty.
    package var leader: String?
    /// When it became so.
    package var time: Timestamp
    /// The members, by id.
    package var members: [Member]

    /// A member.
    package struct Member: Hashable, Sendable {
        /// The member's id.
        package var id: String
        /// The name that a static member keeps over restarts.
        package var instanceID: String?
        /// What the client calls itself.
        package var clientID: String
        /// Where the client is.
        package var clientHost: String
        /// How long it may take to join again.
        package var rebalanceTimeoutMillis: Int32
        /// How long it may be silent.
        package var sessionTimeoutMillis: Int32
        /// What it said with the chosen protocol: its subscription.
        package var subscription: ByteBuffer
        /// What it was given.
        package var assignment: ByteBuffer

        /// States a member.
        package init(
            id: String,
            instanceID: String?,
            clientID: String,
            clientHost: String,
            rebalanceTimeoutMillis: Int32,
            sessionTimeoutMillis: Int32,
            subscription: ByteBuffer,
            assignment: ByteBuffer
        ) {
            self.id = id
            self.instanceID = instanceID
            self.clientID = clientID
            self.clientHost = clientHost
            self.rebalanceTimeoutMillis = rebalanceTimeoutMillis
            self.sessionTimeoutMillis = sessionTimeoutMillis
            self.subscription = subscription
            self.assignment = assignment
        }
    }

    /// About how many bytes its members say of themselves, and were given.
    package var byteCount: Int {
        members.reduce(0) { $0 + $1.subscription.readableBytes + $1.assignment.readableBytes }
    }

    /// States a group.
    package init(
        protocolType: String,
        generation: Int32,
        protocolName: String?,
        leader: String?,
        time: Timestamp,
        members: [Member]
    ) {
        self.protocolType = protocolType
        self.generation = generation
        self.protocolName = protocolName
        self.leader = leader
        self.time = time
        self.members = members
    }
}
