import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage
import Logging

/// What shards ask of the journal's thread.
enum JournalRequest: Sendable {
    /// Records to be made durable.
    case submission(JournalSubmission)
    /// Entries that the journal need not keep any longer.
    case release(GroupID, upTo: LogIndex)
}

/// The journal on its thread: one round for whatever the shards handed over while the last one was written.
final class JournalService: JournalRounds {
    typealias Request = JournalRequest

    private let journal: Journal
    private let mailboxes: [ShardMailbox<ShardMessage>]
    private let instruments: JournalInstruments
    private let clock: any Clock
    /// Submissions that found no room on the disk; they are tried again with every round.
    private var backlog: [JournalSubmission] = []
    private var wasHoldingBack = false
    private var wasObstructed = false
    private let logger: Logger

    init(
        journal: Journal,
        mailboxes: [ShardMailbox<ShardMessage>],
        instruments: JournalInstruments,
        clock: any Clock,
        logger: Logger
    ) {
        self.journal = journal
        self.mailboxes = mailboxes
        self.instruments = instruments
        self.clock = clock
        self.logger = logger
    }

    func performRound(_ requests: [JournalRequest]) throws {
        for request in requests {
            switch request {
            case .submission(let submission): backlog.append(submission)
            case .release(let group, let index): journal.release(group, upTo: index)
            }
        }
        try write()
        try journal.prepareAhead()
    }

    func becomeIdle() throws -> Bool {
        if !backlog.isEmpty { try write() }
        if try journal.sealIfNeeded() { return true }
        return try journal.prepareSpare() || !backlog.isEmpty || journal.isSealDue
    }

    func finish() throws {
        if !backlog.isEmpty { try write() }
        try journal.close()
        if let obstacle = journal.lastObstacle {
            logger.warning(
                "journal has no mark of a clean stop; the next start reads more",
                metadata: .of([.error: obstacle.description])
            )
        }
    }

    private func write() throws {
        if !backlog.isEmpty {
            let start = clock.now
            let result = try journal.perform(backlog)
            instruments.note(result, took: clock.now - start)
            backlog.removeFirst(backlog.count - result.remainder)
            post(result.completions)
            note(result.obstacle)
        }
        while let demand = journal.nextDemand() { post(demand) }
        instruments.liveBytes.set(Double(journal.liveByteCount))
        guard journal.isHoldingBack != wasHoldingBack else { return }
        wasHoldingBack = journal.isHoldingBack
        for mailbox in mailboxes { mailbox.post(.journalFull(wasHoldingBack)) }
    }

    /// Says once that the journal finds no room, and once that it has found it.
    private func note(_ obstacle: StorageError?) {
        guard (obstacle != nil) != wasObstructed else { return }
        wasObstructed = obstacle != nil
        if let obstacle {
            logger.error(
                "journal finds no room; writes wait",
                metadata: .of([.error: obstacle.description])
            )
        } else {
            logger.info("journal has room again")
        }
    }

    private func post(_ completions: [JournalCompletion]) {
        var byShard: [[JournalCompletion]] = Array(repeating: [], count: mailboxes.count)
        for completion in completions { byShard[completion.shard].append(completion) }
        for shard in byShard.indices where !byShard[shard].isEmpty {
            mailboxes[shard].post(.journal(byShard[shard]))
        }
    }

    /// Every shard is told, and takes out what concerns its own groups.
    private func post(_ demand: JournalDemand) {
        for mailbox in mailboxes { mailbox.post(.journalDemand([demand])) }
    }
}

/// What the metrics page tells about the journal.
struct JournalInstruments: Sendable {
    let syncSeconds: HistogramMetric
    let rounds: CounterMetric
    let bytes: CounterMetric
    let liveBytes: GaugeMetric

    init(_ registry: MetricsRegistry, liveByteLimit: Int) {
        syncSeconds = registry.histogram(
            "flotilla_fsync_seconds",
            "Time of a journal round: write and fdatasync."
        )
        rounds = registry.counter(
            "flotilla_journal_rounds_total",
            "Rounds that the journal made durable."
        )
        bytes = registry.counter(
            "flotilla_journal_bytes_total",
            "Bytes that the journal made durable, padding included."
        )
        liveBytes = registry.gauge(
            "flotilla_journal_live_bytes",
            "Bytes of journal files that hold what is in no segment yet; at the limit, writes wait."
        )
        registry.gauge(
            "flotilla_journal_live_limit_bytes",
            "The limit of flotilla_journal_live_bytes: journal.live.bytes."
        ).set(Double(liveByteLimit))
    }

    func note(_ result: JournalRoundResult, took duration: Duration) {
        syncSeconds.record(duration.wholeNanoseconds)
        rounds.add(Int64(result.roundCount))
        bytes.add(Int64(result.byteCount))
    }
}
