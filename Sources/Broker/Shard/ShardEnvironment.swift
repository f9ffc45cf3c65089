package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaStorage
package import struct NIOCore.ByteBuffer

/// What a shard asks of the world, besides files: time, chance, the other shards, the journal and a wake-up.
///
/// The real one is an event loop with its mailboxes; the simulated one a place in a queue of virtual events. Each
/// shard has an instance of its own, used on that shard only.
package protocol ShardEnvironment: AnyObject {
    /// The clocks.
    var clock: any Clock { get }

    /// Threads for what blocks or takes long.
    var workers: any Workers { get }

    /// The connections to the other brokers.
    var peers: any PeerLinks { get }

    /// Has `Shard.endTurn()` called once the inputs at hand are in; calling it again before then is free.
    func requestTurnEnd()

    /// Has `Shard.runTimers()` called at `deadline`, a little later, or at an earlier one that was asked for since it was last called.
    func wake(at deadline: Instant)

    /// Puts a message into the mailbox of another shard; order is kept between two shards.
    func post(_ message: ShardMessage, to shard: Int)

    /// Hands records to the journal; answers come as `ShardMessage.journal`.
    func submit(_ submissions: [JournalSubmission])

    /// Tells the journal what it need not keep any longer, since segments hold it durably.
    func release(_ group: GroupID, upTo index: LogIndex)

    /// A failure after which this process must not go on, such as a failed sync.
    func fail(_ error: StorageError)

    /// A line for the operator.
    func log(_ event: BrokerEvent)
}

/// What a shard tells another, or the journal tells a shard.
///
/// Values only: nothing in it belongs to a shard.
package enum ShardMessage: Sendable {
    /// A question; the answer goes back as `.reply` with the same id.
    case call(id: UInt64, from: Int, ShardCall)
    /// The answer to a question of this shard.
    case reply(id: UInt64, ShardReply)
    /// Whoever asked does not wait any longer.
    case cancel(id: UInt64, from: Int)
    /// The cluster's metadata moved on.
    case image(MetadataUpdate)
    /// Leaders were elected or lost.
    case leadership([LeadershipUpdate])
    /// A frame of another broker that concerns a partition of this shard.
    case frame(ByteBuffer, from: BrokerID)
    /// A connection to or from another broker came or went; only to shard 0.
    case link(BrokerID, incarnation: BrokerIncarnation?, isUp: Bool)
    /// Another broker stopped answering, or answers again.
    case peer(BrokerID, PeerChange)
    /// A round of the journal is durable.
    case journal([JournalCompletion])
    /// The journal wants its oldest files back.
    case journalDemand([JournalDemand])
    /// The journal holds as much as it may, or has room again.
    case journalFull(Bool)
}

/// Who leads a partition since which term.
package struct LeadershipUpdate: Hashable, Sendable {
    /// The partition.
    package var partition: TopicPartition
    /// The term of the statement; a later term wins.
    package var term: Term
    /// The leader, or nil while there is none.
    package var leader: BrokerID?
    /// Whether it is the leader itself that leads no longer, though no other term is known.
    package var isResignation = false

    /// States who leads.
    package init(
        partition: TopicPartition,
        term: Term,
        leader: BrokerID?,
        isResignation: Bool = false
    ) {
        self.partition = partition
        self.term = term
        self.leader = leader
        self.isResignation = isResignation
    }
}

/// Something that an operator or an engineer may want to read; the driver turns it into a log line.
package enum BrokerEvent: Sendable {
    /// A replica was opened with damage that only a peer could repair.
    case damaged(GroupID, description: String)
    /// A replica lost its vote; another member is to take its place.
    case renewing(GroupID)
    /// Damaged ranges of a replica were healed.
    case healed(GroupID, rangeCount: Int)
    /// A replica has damage that could not be healed; `isLost` where every replica was asked and none has what is missing.
    case unhealed(GroupID, description: String, isLost: Bool)
    /// A directory belongs to no replica of the metadata; it is kept.
    case quarantined(directory: String)
    /// Background work failed and will be tried again.
    case retrying(what: String, description: String)
    /// Files of a replica's leader took its log's place.
    case caughtUpByFiles(GroupID, from: BrokerID, byteCount: Int)
    /// A topic's replica was removed after the committed deletion.
    case removed(GroupID)
    /// The volume has no room for new records, or has room again.
    case volume(isFull: Bool, description: String)
    /// The balancer moves something, in words.
    case balancing(String)
}
