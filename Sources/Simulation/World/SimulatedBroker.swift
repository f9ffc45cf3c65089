import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// A whole broker: its shards, its journal and its disk, through all its lives.
final class SimulatedBroker {
    static let directory = "/data"

    let id: BrokerID
    private(set) var disk = MemoryDisk()
    let clock: SimulatedClock
    private(set) var incarnation: BrokerIncarnation
    /// Its place in the metadata's group, where it is not a founder any more.
    private var member: GroupMember?
    /// It lost its memory, and has to be taken in as another member before it starts again.
    private(set) var isOutside = false
    private unowned let world: World
    let number: Int
    private let shardCount: Int

    private(set) var shards: [Shard] = []
    private(set) var environments: [SimulatedShardEnvironment] = []
    private(set) var life = 0
    private(set) var isUp = false
    /// Whether the process stands still.
    var isPaused = false
    /// What was to happen while it stood still.
    var held: [Event] = []
    /// How slow its disk is at the moment.
    var diskDelay: Duration
    /// Whether calls to its disk fail at the moment, or have done so in this start.
    var meetsDiskFaults = false
    /// The life in which something last changed on its disk behind its back.
    private var damagedLife: Int?
    /// Whether the next start must trust no page cache, since a sync failed.
    private var hasSyncFailed = false

    /// The replicas that were to be deleted, in whichever life of the process.
    private var removed: Set<GroupID> = []

    private var journal: Journal?
    private var backlog: [JournalSubmission] = []
    private var isRoundPlanned = false
    private var roundCount = 0
    private var wasHoldingBack = false

    init(_ number: Int, world: World, shardCount: Int, clock: SimulatedClock, diskDelay: Duration) {
        self.number = number
        self.world = world
        self.shardCount = shardCount
        self.clock = clock
        self.diskDelay = diskDelay
        id = BrokerID(Int32(number + 1))
        incarnation = Self.incarnation(of: id)
    }

    private static func incarnation(of id: BrokerID) -> BrokerIncarnation {
        BrokerIncarnation(high: UInt64(id.rawValue), low: 1)
    }

    /// The directories of replicas on its disk, by name, whether or not they are open.
    var replicaDirectories: [String] {
        // The disk of a broker that never started has none.
        (try? disk.list("\(Self.directory)/partitions")) ?? []
    }

    // MARK: Lost memory

    /// What lies on its disk changes now.
    func noteDamage() { damagedLife = life }

    /// Whether what it checked in this life may have changed since.
    var isDamagedInThisLife: Bool { damagedLife == life }

    /// Everything on the disk is gone.
    func loseDisk() {
        disk = MemoryDisk()
        loseMemory()
    }

    /// The journal is gone, and segments are left.
    func loseJournal() {
        var random = SeededRandom(seed: UInt64(number) &+ incarnation.low)
        let journal = "\(Self.directory)/journal"
        disk.isTampered = true
        do {
            if try disk.exists(journal) { try disk.removeTree(journal) }
            try Journal.beginIncarnation(
                JournalDirectories(journal: journal, data: Self.directory),
                disk: disk,
                newIdentity: { DirectoryID(high: random.next(), low: random.next()) }
            )
        } catch {
            world.violate("broker \(id) cannot begin anew without its journal: \(error)")
        }
        loseMemory()
    }

    private func loseMemory() {
        precondition(!isUp, "a process that runs has its memory")
        incarnation = BrokerIncarnation(high: incarnation.high, low: incarnation.low + 1)
        hasSyncFailed = false
        isOutside = true
    }

    /// The cluster has taken in what the broker is now.
    func isTakenIn(as member: GroupMember) {
        self.member = member
        isOutside = false
    }

    // MARK: Life

    /// Starts the process on whatever its disk holds.
    func start() {
        precondition(!isUp, "a broker is started once in a life")
        life += 1
        do {
            var random = SeededRandom(seed: UInt64(number))
            let (journal, recovery) = try Journal.open(
                JournalDirectories(journal: "\(Self.directory)/journal", data: Self.directory),
                disk: disk,
                configuration: JournalConfiguration(
                    fileByteCount: 1 << 20,
                    liveByteLimit: Self.journalByteLimit
                ),
                newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
                pastPageCache: hasSyncFailed
            )
            self.journal = journal
            let (replicas, unreadable) = try recover(recovery)
            if replicas[metadataGroup]?.hasLostVote == true {
                self.journal = nil
                return world.hasLostVote(number)
            }
            hasSyncFailed = false
            try startShards(replicas, unreadable, recovery)
            isUp = true
        } catch {
            world.tell("broker \(number + 1) does not start: \(error)")
            world.startFailed(number, error)
        }
    }

    private var metadataMember: GroupMember {
        member ?? GroupMember(broker: id, epoch: CreationEpoch(1))
    }

    private var metadataGroup: GroupID {
        GroupID(partition: .clusterMetadata, epoch: metadataMember.epoch)
    }

    private func recover(
        _ recovery: JournalRecovery
    ) throws -> (replicas: [GroupID: RecoveredReplica], unreadable: Set<GroupID>) {
        try ReplicaStaging.settleAll(in: Self.directory, on: disk)
        let known = Dictionary(uniqueKeysWithValues: recovery.groups.map { ($0.group, $0.state) })
        var groups = Set(known.keys)
        let parent = "\(Self.directory)/partitions"
        if try disk.exists(parent) {
            groups.formUnion(try disk.list(parent).compactMap { GroupID(directoryName: $0) })
        }
        var replicas: [GroupID: RecoveredReplica] = [:]
        var unreadable: Set<GroupID> = []
        for group in groups.sorted() {
            let state = known[group]
            let suffix =
                state.map { JournalSuffix($0) }
                ?? (recovery.areUnknownGroupsSuspect ? nil : JournalSuffix())
            let log = LogRecovery(
                group: group,
                directory: Self.directory,
                disk: disk,
                journal: suffix,
                verification: hasSyncFailed ? .pastPageCache : .sinceCheckpoint
            )
            do throws(StorageError) {
                replicas[group] = RecoveredReplica(
                    log: try log.perform(),
                    state: state,
                    journal: recovery
                )
            } catch {
                world.tell("broker \(number + 1) cannot open \(group): \(error)")
                unreadable.insert(group)
            }
        }
        let doubtful = replicas.filter { !$0.value.isElectable }.map(\.key) + unreadable
        if !doubtful.isEmpty {
            world.tell("broker \(number + 1) doubts \(doubtful.count) replicas: \(recovery.damage)")
        }
        expectNoDoubt(of: doubtful)
        return (replicas, unreadable)
    }

    /// A disk that did nothing but forget what was not synced leaves no replica in doubt: a torn tail is told apart from damage.
    ///
    /// But for one that was being deleted: the journal has forgotten it already, and files of it are left.
    private func expectNoDoubt(of groups: [GroupID]) {
        let doubtful = groups.filter { !removed.contains($0) }.sorted()
        guard !doubtful.isEmpty, !disk.isTampered, !meetsDiskFaults, !hasSyncFailed else { return }
        world.violate("broker \(id) doubts \(doubtful) though its disk is sound")
    }

    private func startShards(
        _ replicas: [GroupID: RecoveredReplica],
        _ unreadable: Set<GroupID>,
        _ recovery: JournalRecovery
    ) throws {
        var settings = ShardSettings(
            broker: id,
            shardCount: shardCount,
            dataDirectory: Self.directory,
            layers: try ConfigLayers(fixed: world.plan.configs),
            seed: world.random.next()
        )
        settings.incarnation = incarnation
        settings.rack = rack
        settings.isClustered = true
        settings.metadataMember = metadataMember
        settings.minimumFreeByteCount = 1 << 20
        settings.uncommittedHoldByteCount = Self.journalByteLimit / 8
        settings.tailByteCount = world.plan.tailByteCount
        settings.retentionInterval = .seconds(1)
        settings.seeds = world.founders.map { broker in
            PeerAddress(broker: broker, address: NetworkAddress(host: "peer-\(broker)", port: 9093))
        }
        settings.metadataFounders =
            member != nil
            ? []
            : world.founders.map { broker in
                ClusterFounder(
                    member: GroupMember(broker: broker, epoch: CreationEpoch(1)),
                    incarnation: Self.incarnation(of: broker)
                )
            }
        environments = (0..<shardCount).map { shard in
            SimulatedShardEnvironment(
                ShardPlace(broker: number, shard: shard, life: life),
                shardCount: shardCount,
                clock: clock,
                world: world
            )
        }
        shards = environments.map { environment in
            Shard(
                index: environment.place.shard,
                settings: settings,
                environment: environment,
                disk: disk
            )
        }
        isUp = true
        for shard in shards {
            shard.start(
                StartupFacts(
                    replicas: replicas.filter {
                        settings.shard(of: $0.key.partition) == shard.index
                    },
                    unreadable: unreadable,
                    mayHaveForgotten: recovery.areUnknownGroupsSuspect,
                    newClusterID: "AAAAAAAAAAAAAAAAAAAAAA",
                    registration: registration
                )
            )
        }
    }

    /// Each broker stands in a rack of its own.
    private var rack: String { Self.rack(of: number) }

    static func rack(of number: Int) -> String { "rack-\(number + 1)" }

    var registration: BrokerRegistration {
        BrokerRegistration(
            id: id,
            incarnation: incarnation,
            endpoints: [
                BrokerEndpoint(listener: "PLAINTEXT", host: "broker-\(id)", port: 9092),
                BrokerEndpoint(
                    listener: BrokerEndpoint.peerListener,
                    host: "peer-\(id)",
                    port: 9093
                ),
            ],
            rack: rack
        )
    }

    /// Ends the process at once.
    ///
    /// A round that was being written may have come to any point, and so may jobs of workers.
    func crash(_ fate: MemoryDisk.CrashFate) {
        guard isUp else { return }
        isUp = false
        isPaused = false
        meetsDiskFaults = false
        held.removeAll()
        for environment in environments {
            (environment.workers as? SimulatedWorkers)?.die(using: &world.random)
        }
        if isRoundPlanned, world.random.chance(60) { writePartOfRound() }
        disk.fault = nil
        disk.breakOff = nil
        disk.breakOffError = nil
        disk.misdirect = nil
        disk.capacity = .max
        disk.crash(fate)
        journal = nil
        shards.removeAll()
        environments.removeAll()
        backlog.removeAll()
        isRoundPlanned = false
        wasHoldingBack = false
    }

    private func writePartOfRound() {
        var left = world.random.draw(1...12)
        disk.fault = { _ in
            left -= 1
            return left < 0 ? .failed(operation: "power", path: "", errno: 5) : nil
        }
        do {
            _ = try journal?.perform(backlog)
        } catch {
            world.trace.note(world.now, 77)
        }
        disk.fault = nil
    }

    /// A sync failed: the process must end, and the next one trusts no page cache.
    func noteSyncFailure() { hasSyncFailed = true }

    /// Does something in this life of the process: now, or when the process goes on.
    func run(_ name: String, _ body: @escaping (SimulatedBroker) -> Void) {
        guard isUp else { return }
        guard isPaused else { return body(self) }
        held.append(
            .action(
                Action(name) { [unowned self, life] in
                    if self.isUp, self.life == life { body(self) }
                }
            )
        )
    }

    /// What it waits for, in words.
    var report: String {
        "broker \(id): \(isUp ? "up" : "down")\(isPaused ? ", paused" : ""), \(held.count) events held, \(backlog.count) submissions, "
            + "\(isRoundPlanned ? "a round under way" : "no round"), journal \(wasHoldingBack ? "full" : "with room"), disk delay \(diskDelay)"
            + debts.map { "; the journal's oldest file waits for \($0)" }.joined()
    }

    private var debts: [String] {
        guard wasHoldingBack, let journal else { return [] }
        return journal.oldestDebts.map { debt in
            let state = shards.lazy.compactMap { $0.segmentState(of: debt.group) }.first
            return "entry \(debt.upTo) of \(state ?? "\(debt.group), which is not open")"
        }
    }

    // MARK: The journal

    /// The bytes by which the journal is far beyond its cap; nil where it is not.
    ///
    /// What shards had submitted before they heard that it is full is written all the same, on a slow disk some times the cap.
    var journalExcess: Int? {
        guard let journal else { return nil }
        let limit = 5 * Self.journalByteLimit
        return journal.liveByteCount > limit ? journal.liveByteCount - limit : nil
    }

    private static let journalByteLimit = 8 << 20

    /// Whether a byte of the journal that is damaged now would be known for damaged: it lies in a sealed round, and what seals that one
    /// is never damaged.
    func isSealed(_ path: String, at position: Int) -> Bool {
        guard let journal else { return false }
        guard let last = journal.lastRound, last.path == path else { return true }
        return !last.range.contains(position)
    }

    func submit(_ submissions: [JournalSubmission]) {
        for submission in submissions where submission.records.contains(where: \.isRemoval) {
            removed.insert(submission.group)
        }
        backlog += submissions
        planRound()
    }

    func release(_ group: GroupID, upTo index: LogIndex) {
        journal?.release(group, upTo: index)
        planRound()
    }

    private func planRound() {
        guard !isRoundPlanned else { return }
        isRoundPlanned = true
        world.schedule(.round(broker: number, life: life), after: world.syncDelay(number))
    }

    /// A round has been written, or what was released is taken note of.
    func roundEnds() {
        guard let journal else { return }
        isRoundPlanned = false
        roundCount += 1
        attempt { () throws(StorageError) in
            var isObstructed = false
            if !backlog.isEmpty {
                let result = try journal.perform(backlog)
                let done = backlog.count - result.remainder
                isObstructed = done == 0
                backlog.removeFirst(done)
                for shard in environments.indices {
                    let completions = result.completions.filter { $0.shard == shard }
                    guard !completions.isEmpty else { continue }
                    environments[shard].enqueue(.journal(completions), lane: shardCount)
                }
            }
            tellOfJournal(journal)
            try journal.prepareAhead()
            if backlog.isEmpty || isObstructed {
                planIdling()
            } else {
                planRound()
            }
        }
    }

    /// When nothing comes for a while the last round is sealed, and what found no room is tried again.
    private func planIdling() {
        world.act("journal of broker \(number + 1) is idle", after: Self.idleDelay) {
            [weak self, life, roundCount] in
            guard let self, self.life == life, self.isUp, !self.isRoundPlanned,
                self.roundCount == roundCount, let journal = self.journal
            else { return }
            self.attempt { () throws(StorageError) in
                if !self.backlog.isEmpty { return self.planRound() }
                let hasSealed = try journal.sealIfNeeded()
                let hasPrepared = try hasSealed ? false : journal.prepareSpare()
                if hasSealed || hasPrepared || journal.isSealDue { self.planIdling() }
            }
        }
    }

    private static let idleDelay = Duration.milliseconds(50)

    /// Does something with the journal; a process whose journal fails ends.
    private func attempt(_ body: () throws(StorageError) -> Void) {
        do throws(StorageError) {
            try body()
        } catch {
            world.brokerFailed(ShardPlace(broker: number, shard: 0, life: life), error.description)
        }
    }

    private func tellOfJournal(_ journal: Journal) {
        while let demand = journal.nextDemand() {
            for environment in environments {
                environment.enqueue(.journalDemand([demand]), lane: shardCount)
            }
        }
        guard journal.isHoldingBack != wasHoldingBack else { return }
        wasHoldingBack = journal.isHoldingBack
        for environment in environments {
            environment.enqueue(.journalFull(wasHoldingBack), lane: shardCount)
        }
    }
}

extension JournalRecord {
    /// Whether it has the journal forget the group.
    fileprivate var isRemoval: Bool {
        if case .remove = self { true } else { false }
    }
}
