import FlotillaEnvironment
package import struct NIOCore.ByteBuffer

/// A request whose answer comes later; the driver knows whom it belongs to.
package struct ReplyTicket: Hashable, Sendable {
    /// Unlike any other of this coordinator.
    package var number: UInt64

    /// Names a request.
    package init(number: UInt64) { self.number = number }
}

/// A way to share partitions that a member knows, and what it says with it.
package struct GroupProtocol: Hashable, Sendable {
    /// The strategy's name.
    package var name: String
    /// The member's subscription in this strategy's form.
    package var metadata: ByteBuffer

    /// States a strategy.
    package init(name: String, metadata: ByteBuffer) {
        self.name = name
        self.metadata = metadata
    }

    /// How many bytes it takes.
    package var byteCount: Int { name.utf8.count + metadata.readableBytes + Self.overhead }

    /// About what a strategy takes beside its bytes, so that many empty ones are not nothing.
    private static let overhead = 16
}

/// One consumer of a classic group, as its coordinator sees it.
struct ClassicMember: Sendable {
    var id: String
    var instanceID: String?
    var clientID: String
    var clientHost: String
    var rebalanceTimeout: Duration
    var sessionTimeout: Duration
    /// What it knows, the dearest first.
    var protocols: [GroupProtocol]
    var assignment = ByteBuffer()
    /// Its JoinGroup, while it waits for the others.
    var join: ReplyTicket?
    /// Its SyncGroup, while it waits for the leader's.
    var sync: ReplyTicket?
    /// Whether it waits in its first JoinGroup.
    var isNew = false
    /// When its silence has lasted too long.
    var deadline: Instant

    /// The member as the group's history names it.
    var named: GroupEventMember {
        GroupEventMember(
            id: id,
            instanceID: instanceID,
            clientID: clientID,
            clientHost: clientHost
        )
    }

    /// How many bytes it says of itself, and was given.
    var byteCount: Int {
        protocols.reduce(assignment.readableBytes) { $0 + $1.byteCount }
    }

    /// What it says with a strategy.
    func metadata(for name: String?) -> ByteBuffer {
        protocols.first { $0.name == name }?.metadata ?? ByteBuffer()
    }
}
