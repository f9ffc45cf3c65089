import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage
import Logging
import NIOCore

/// One shard's world: an event loop, its timer, the mailboxes of the others, the journal's thread.
///
/// Made and used on its event loop.
final class ShardDriver: ShardEnvironment {
    let clock: any Clock = SystemClock()
    let workers: any Workers
    let peers: any PeerLinks
    private let links: ShardPeerLinks?
    private let index: Int
    private let mailboxes: [ShardMailbox<ShardMessage>]
    private let journal: JournalThread<JournalService>
    private let dataDirectory: String
    private let logger: Logger
    private var turn: TurnScheduler?
    private var timer: ShardTimer?

    init(
        index: Int,
        eventLoop: any EventLoop,
        mailboxes: [ShardMailbox<ShardMessage>],
        journal: JournalThread<JournalService>,
        pool: WorkerPool,
        links: ShardPeerLinks?,
        dataDirectory: String,
        logger: Logger
    ) {
        self.index = index
        self.mailboxes = mailboxes
        self.journal = journal
        self.dataDirectory = dataDirectory
        self.logger = logger
        self.links = links
        peers = links ?? NoPeerLinks()
        workers = ShardWorkers(pool: pool, eventLoop: eventLoop)
    }

    /// Starts the shard, and lets events reach it.
    ///
    /// The mailbox is opened last: other shards may have posted already, and what they say makes sense only to a shard
    /// that knows what the disk holds. One that did not would open its partitions anew, and empty.
    func start(_ shard: Shard, _ facts: StartupFacts, eventLoop: any EventLoop) {
        turn = TurnScheduler(eventLoop: eventLoop) { shard.endTurn() }
        timer = ShardTimer(eventLoop: eventLoop) { shard.runTimers() }
        links?.receiver = shard
        shard.start(facts)
        mailboxes[index].open { shard.receive($0) }
    }

    /// Hangs up on all peers.
    ///
    /// - Returns: when the last connection is closed.
    func stopLinks() -> EventLoopFuture<Void>? { links?.stop() }

    func requestTurnEnd() {
        turn?.markDirty()
    }

    func wake(at deadline: Instant) {
        timer?.arm(at: deadline)
    }

    func post(_ message: ShardMessage, to shard: Int) {
        mailboxes[shard].post(message)
    }

    func submit(_ submissions: [JournalSubmission]) {
        journal.submit(submissions.lazy.map { .submission($0) })
    }

    func release(_ group: GroupID, upTo index: LogIndex) {
        journal.submit(CollectionOfOne(.release(group, upTo: index)))
    }

    func fail(_ error: StorageError) {
        SyncFailureMark.endProcess(error, in: dataDirectory, logger: logger)
    }

    func log(_ event: BrokerEvent) {
        switch event {
        case .damaged(let group, let description):
            logger.error("replica is damaged", metadata: .of([.group: group, .error: description]))
        case .renewing(let group):
            logger.error(
                "replica lost its vote or a part of its log that cannot be put back; a new member takes its place",
                metadata: .of([.group: group])
            )
        case .healed(let group, let rangeCount):
            logger.info(
                "replica healed",
                metadata: .of([.group: group, .count: rangeCount])
            )
        case .unhealed(let group, let description, true):
            logger.error(
                "no replica has what is damaged here; the rest is served",
                metadata: .of([.group: group, .error: description])
            )
        case .unhealed(let group, let description, false):
            logger.warning(
                "damage waits for replicas that do not answer",
                metadata: .of([.group: group, .error: description])
            )
        case .quarantined(let directory):
            logger.warning(
                "directory belongs to no replica; it is kept",
                metadata: .of([.path: directory])
            )
        case .retrying(let what, let description):
            logger.warning(
                "will be tried again",
                metadata: .of([.reason: what, .error: description])
            )
        case .caughtUpByFiles(let group, let broker, let byteCount):
            logger.info(
                "replica took over segments of its leader",
                metadata: .of([.group: group, .peer: broker, .bytes: byteCount])
            )
        case .removed(let group):
            logger.info("replica removed", metadata: .of([.group: group]))
        case .balancing(let description):
            logger.info("balancer", metadata: .of([.reason: description]))
        case .volume(true, let description):
            logger.error(
                "disk is nearly full; producers are refused",
                metadata: .of([.error: description])
            )
        case .volume(false, let description):
            logger.info("disk has room again", metadata: .of([.reason: description]))
        }
    }
}
