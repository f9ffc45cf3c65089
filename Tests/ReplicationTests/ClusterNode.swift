import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import struct NIOCore.ByteBuffer

/// One broker of a cluster in memory: a disk, a real journal on a thread of its own that takes its time, a worker, and
/// one replica.
final class ClusterNode: ReplicaHost {
    let number: Int
    let member: GroupMember
    let disk = MemoryDisk()
    private(set) var replica: Replica?
    /// Whether the journal's thread stands still.
    var isJournalHeld = false { didSet { startRound() } }
    var takesEntries = true
    /// Work of the replica's that failed.
    private(set) var failures: [String] = []
    private(set) var fileOrders: [FileOrder] = []
    /// How often the log lost entries to another leader's.
    private(set) var truncationCount = 0

    private unowned let cluster: ReplicaCluster
    private var machine: ClusterMachine
    private var journal: Journal?
    /// How often the broker was started; what belongs to an earlier life comes to nothing.
    private var life = 0
    private var isDirty = false
    private var submissions: [JournalSubmission] = []
    private var isRoundUnderWay = false
    private var wasServing = false
    /// What the journal may have forgotten.
    private var releasedIndex = LogIndex.zero
    private var rank: Int

    init(number: Int, cluster: ReplicaCluster) {
        self.number = number
        self.cluster = cluster
        rank = number - 1
        member = ReplicaCluster.member(number)
        machine = ClusterMachine(node: number, ledger: cluster.ledger)
    }

    var isUp: Bool { replica != nil }
    var group: GroupID { GroupID(partition: ReplicaCluster.partition, epoch: member.epoch) }

    // MARK: Life

    /// Starts the broker from its disk.
    ///
    /// - Parameters:
    ///   - membership: the group's first members.
    ///   - isSuspect: whether the log is to be doubted, as after damage to the journal.
    ///   - forgets: whether the journal has recycled what it was released from.
    func start(_ membership: Membership, isSuspect: Bool = false, forgets: Bool = false) {
        precondition(replica == nil, "a broker runs once")
        life += 1
        do {
            var configuration = JournalConfiguration(fileByteCount: 1 << 20, liveByteLimit: 4 << 20)
            configuration.demandByteCount = 1 << 20
            let (journal, recovery) = try Journal.open(
                JournalDirectories(journal: "/data/journal", data: "/data"),
                disk: disk,
                configuration: configuration,
                newIdentity: { DirectoryID(high: 7, low: UInt64(self.number)) }
            )
            if !recovery.damage.isEmpty {
                cluster.ledger.violation("\(number): \(recovery.damage)")
            }
            self.journal = journal
            let state = recovery.groups.first { $0.group == group }?.state
            var suffix = state.map { JournalSuffix($0) } ?? JournalSuffix()
            if forgets { suffix.entries.removeAll { $0.frame.index <= releasedIndex } }
            try startReplica(state, suffix, membership, isSuspect)
        } catch {
            cluster.ledger.violation("\(number) does not start: \(error)")
        }
    }

    private func startReplica(
        _ state: RecoveredGroup?,
        _ suffix: JournalSuffix,
        _ membership: Membership,
        _ isSuspect: Bool
    ) throws {
        let recovered = try LogRecovery(
            group: group,
            directory: "/data",
            disk: disk,
            journal: suffix
        ).perform()
        if !recovered.damage.isEmpty {
            cluster.ledger.violation("\(number) lost part of its log: \(recovered.damage)")
        }
        let resources = LogResources(
            disk: disk,
            tail: TailBudget(byteCount: 300 << 10),
            segments: SegmentCache(maximumOpenCount: 2)
        )
        machine = ClusterMachine(node: number, ledger: cluster.ledger)
        wasServing = false
        var settings = cluster.settings
        settings.electionRank = rank
        let isTrusted = recovered.isEndKnown && !(state?.isSuspect ?? false)
        let started = try Replica(
            group: group,
            member: member,
            log: PartitionLog(
                recovered,
                resources: resources,
                configuration: LogConfiguration(segmentByteCount: 64 << 10)
            ),
            hardState: state?.hardState ?? .initial,
            membership: state?.membership?.membership ?? membership,
            journalEnd: state?.lastPosition?.index ?? .zero,
            isElectable: isTrusted && !isSuspect,
            machine: machine,
            settings: settings,
            seed: cluster.random.next(),
            host: self
        )
        replica = started
        started.start()
        endTurn()
    }

    /// Ends the broker at once.
    ///
    /// - Parameters:
    ///   - fate: what the disk keeps of what was not synced.
    ///   - tearsRound: whether the journal's next round is being written at this moment.
    func crash(_ fate: MemoryDisk.CrashFate, tearsRound: Bool = false) {
        if tearsRound, !submissions.isEmpty {
            disk.fault = { operation in
                if case .sync = operation {
                    .failed(operation: "sync", path: "/data/journal", errno: 5)
                } else {
                    nil
                }
            }
            _ = try? journal?.perform(submissions)
            disk.fault = nil
        }
        life += 1
        replica = nil
        journal = nil
        isDirty = false
        isRoundUnderWay = false
        submissions.removeAll()
        isJournalHeld = false
        disk.crash(fate)
    }

    /// Does something with the replica as one turn of the shard, if the broker runs.
    func turn(_ body: (Replica) -> Void) {
        guard let replica else { return }
        let end = replica.log.lastPosition
        body(replica)
        endTurn()
        replica.checkInvariants()
        if replica.log.term(at: end.index) != end.term { truncationCount += 1 }
    }

    private func endTurn() {
        while isDirty {
            isDirty = false
            replica?.endTurn()
        }
        if let replica, replica.isServing != wasServing {
            wasServing = replica.isServing
            cluster.note(
                "\(number) \(wasServing ? "serves" : "serves no longer") term=\(replica.term)"
            )
        }
        startRound()
    }

    /// Does something later, unless the broker ends before.
    private func later(_ delay: Int, _ body: @escaping () -> Void) {
        let life = life
        cluster.schedule(after: delay) { [unowned self] in
            guard self.life == life else { return }
            body()
        }
    }

    // MARK: The journal's thread

    private func startRound() {
        guard !isRoundUnderWay, !isJournalHeld, !submissions.isEmpty else { return }
        isRoundUnderWay = true
        later(cluster.faults.flushDelay(using: &cluster.random)) { [unowned self] in performRound()
        }
    }

    private func performRound() {
        guard let journal else { return }
        let round = submissions
        submissions.removeAll()
        do {
            let result = try journal.perform(round)
            precondition(result.remainder == 0, "the disk has room")
            later(cluster.faults.completionDelay(using: &cluster.random)) { [unowned self] in
                finishRound(result.completions)
            }
        } catch {
            cluster.ledger.violation("\(number)'s journal: \(error)")
        }
    }

    private func finishRound(_ completions: [JournalCompletion]) {
        isRoundUnderWay = false
        for completion in completions { turn { $0.persisted(ticket: completion.ticket) } }
        startRound()
    }

    /// What the journal's thread does when it is idle.
    func idleJournal() {
        guard !isRoundUnderWay, !isJournalHeld else { return }
        do { _ = try journal?.sealIfNeeded() } catch {
            cluster.ledger.violation("\(number)'s journal: \(error)")
        }
    }

    // MARK: Segments

    /// Writes what is committed and durable to segments, then makes it durable there and lets the journal forget it.
    func writeSegments() {
        guard let log = replica?.log else { return }
        if let write = log.nextWrite(minimumByteCount: 1) {
            cluster.workers(of: self).run({ write.perform() }) { [unowned self] result in
                finish { () throws(StorageError) in try log.finish(result) }
                writeSegments()
            }
        } else if let sync = log.nextSync() {
            cluster.workers(of: self).run({ sync.perform() }) { [unowned self] result in
                finish { () throws(StorageError) in try log.finish(result) }
                journal?.release(group, upTo: log.syncedIndex)
                releasedIndex = log.syncedIndex
            }
        }
    }

    /// Removes segments below the log's start, but nothing from `index` on.
    func removeSegments(keepingFrom index: LogIndex? = nil) {
        guard let replica else { return }
        let floor = min(index ?? replica.appliedIndex, replica.appliedIndex)
        guard let removal = replica.log.nextRemoval(keepingFrom: floor) else { return }
        workers.run({ removal.perform() }) { [unowned self] result in
            if case .failure(let error) = result { failures.append("\(error)") }
        }
    }

    /// Damages what the segments hold of an entry, on the medium and in memory.
    func flip(_ index: LogIndex) {
        let entries = entries(upTo: index)
        guard let target = entries.last?.frame, target.index == index, let path = logPath else {
            preconditionFailure("the entry is in the first segment")
        }
        let before = entries.dropLast().filter { $0.frame.kind == .data }
        let position = before.reduce(0) { $0 + $1.payloadByteCount } + target.payloadByteCount - 1
        disk.flip(path, at: Int64(position))
    }

    private var logPath: String? { disk.paths.first { $0.hasSuffix(".log") } }

    private func finish(_ body: () throws(StorageError) -> Void) {
        do throws(StorageError) { try body() } catch { failures.append(error.description) }
    }

    /// The entries that segments and memory hold, read as a follower's would be.
    func entries(upTo last: LogIndex) -> [LogEntry] {
        guard let log = replica?.log else { return [] }
        var entries: [LogEntry] = []
        var next = log.firstIndex
        var isAfterLoad = false
        while next <= last {
            do throws(StorageError) {
                let read = try log.entries(
                    from: next,
                    maxByteCount: 1 << 20,
                    maxCount: 1_000,
                    afterLoad: isAfterLoad
                )
                switch read {
                case .ready(let found):
                    entries += found.filter { $0.frame.index <= last }
                    next = next + UInt64(found.count)
                    isAfterLoad = false
                case .load(let load):
                    try log.finish(load.perform())
                    isAfterLoad = true
                }
            } catch {
                cluster.ledger.violation("\(number) cannot read \(next): \(error)")
                return entries
            }
        }
        return entries
    }

    // MARK: ReplicaHost

    var wallTime: Timestamp {
        Timestamp(1_700_000_000_000 + Int64(cluster.time * 10 + number * 37))
    }
    var now: Instant { Instant.start + .milliseconds(cluster.time * 10) }
    var workers: any Workers { cluster.workers(of: self) }

    /// Runs work after a while, and its completion after another, unless the broker ends before.
    func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        later(cluster.faults.jobDelay(using: &cluster.random)) { [unowned self] in
            let output = work()
            later(1) { [unowned self] in
                completion(output)
                endTurn()
            }
        }
    }

    func needsTurnEnd(_ replica: Replica) { isDirty = true }

    func needsAnnouncement(_ replica: Replica) {
        later(1) { [unowned self] in turn { $0.announceCommit() } }
    }

    func journal(_ records: [JournalRecord], of replica: Replica, ticket: UInt64) {
        submissions.append(
            JournalSubmission(shard: 0, group: group, ticket: ticket, records: records)
        )
    }

    func send(
        _ envelope: RaftEnvelope,
        to broker: BrokerID,
        on lane: PeerLane,
        from replica: Replica
    ) {
        cluster.send(envelope, from: number, to: Int(broker.rawValue))
    }

    func grantsOldEntries(_ byteCount: Int, to member: GroupMember, from replica: Replica) -> Bool {
        true
    }

    func leadershipChanged(_ replica: Replica) {
        if replica.isLeader { cluster.ledger.leads(number, in: replica.term) }
    }

    func committed(_ replica: Replica) {}

    func membershipChanged(_ replica: Replica) {
        cluster.note("\(number) has \(replica.membership)")
    }

    func quietChanged(_ replica: Replica) {}

    func needsFiles(_ order: FileOrder, of replica: Replica) -> Bool {
        fileOrders.append(order)
        cluster.note("\(number) should ship files to \(order.target) from=\(order.neededIndex)")
        return false
    }

    func filesOffered(upTo position: LogPosition, by leader: GroupMember, to replica: Replica)
        -> Bool
    { false }

    func damaged(_ replica: Replica, _ error: StorageError) {
        cluster.note("\(number) is damaged")
    }

    func failed(_ replica: Replica, _ error: ReplicationError) {
        cluster.note("\(number) failed: \(error)")
        failures.append(error.description)
    }
}

/// The worker of a node.
final class NodeWorkers: Workers {
    private unowned let node: ClusterNode

    init(_ node: ClusterNode) { self.node = node }

    func run<Output: Sendable>(
        _ work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        node.run(work, then: completion)
    }
}
