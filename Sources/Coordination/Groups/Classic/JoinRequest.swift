import FlotillaEnvironment
package import FlotillaModel
package import struct NIOCore.ByteBuffer

/// A client that wants to be a member.
package struct JoinRequest: Sendable {
    /// The id it was given; empty before.
    package var memberID: String
    /// The name that a static member keeps over restarts (KIP-345).
    package var instanceID: String?
    /// What the client calls itself.
    package var clientID: String
    /// Where the client is.
    package var clientHost: String
    /// How long it may take to join again.
    package var rebalanceTimeout: Duration
    /// How long it may be silent.
    package var sessionTimeout: Duration
    /// What it uses groups for.
    package var protocolType: String
    /// What it knows, the dearest first.
    package var protocols: [GroupProtocol]
    /// Whether it must come back with the id that it is given (KIP-394).
    package var mustKnowID: Bool
    /// Whether it can be told that it leads and yet shall not assign (KIP-814).
    package var canSkipAssignment: Bool

    /// States a request.
    package init(
        memberID: String,
        instanceID: String?,
        clientID: String,
        clientHost: String,
        rebalanceTimeout: Duration,
        sessionTimeout: Duration,
        protocolType: String,
        protocols: [GroupProtocol],
        mustKnowID: Bool,
        canSkipAssignment: Bool
    ) {
        self.memberID = memberID
        self.instanceID = instanceID
        self.clientID = clientID
        self.clientHost = clientHost
        self.rebalanceTimeout = rebalanceTimeout
        self.sessionTimeout = sessionTimeout
        self.protocolType = protocolType
        self.protocols = protocols
        self.mustKnowID = mustKnowID
        self.canSkipAssignment = canSkipAssignment
    }
}

/// What a member is told that wanted to join.
package struct JoinAnswer: Hashable, Sendable {
    /// A member as the one that assigns is told of it.
    package struct Member: Hashable, Sendable {
        package var id: String
        package var instanceID: String?
        package var metadata: ByteBuffer
    }

    package var error: ErrorCode
    /// -1 with an error.
    package var generation: Int32 = -1
    package var protocolType: String?
    package var protocolName: String?
    package var leader = ""
    package var memberID: String
    /// Empty for all but the one that assigns.
    package var members: [Member] = []
    /// Whether the one that is told of the members shall leave their shares as they are.
    package var skipsAssignment = false

    /// A member is in, and gets its share with SyncGroup.
    package static func accepted(
        _ memberID: String,
        generation: Int32,
        protocolType: String,
        protocolName: String
    ) -> JoinAnswer {
        JoinAnswer(
            error: .noError,
            generation: generation,
            protocolType: protocolType,
            protocolName: protocolName,
            memberID: memberID
        )
    }

    /// A refusal.
    package static func refused(_ error: ErrorCode, memberID: String = "") -> JoinAnswer {
        JoinAnswer(error: error, memberID: memberID)
    }
}
