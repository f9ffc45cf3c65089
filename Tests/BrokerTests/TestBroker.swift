import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaStorage
import FlotillaSimulation
import struct NIOCore.ByteBuffer

/// A whole broker on one thread: shards, mailboxes, a real journal, a disk in memory, and time that the test moves.
///
/// Nothing happens behind the test's back: `run()` goes on until only time or the test could change anything.
final class TestBroker {
    static let directory = "/data"

    let disk: MemoryDisk
    let clock: VirtualClock
    let id: BrokerID
    private let founders: [BrokerID]
    /// The broker's member of the metadata group, where it joined a cluster that was there.
    private let member: GroupMember?
    /// Which life of its disk this is.
    let incarnation: BrokerIncarnation
    private(set) var shards: [Shard] = []
    private(set) var environments: [TestEnvironment] = []
    private(set) var journal: Journal
    /// What shards want durable; written in one round when the journal's turn comes.
    private(set) var backlog: [JournalSubmission] = []
    /// While set, nothing becomes durable.
    var isJournalHeld = false
    /// The failures after which a real broker would have ended its process.
    var failures: [StorageError] = []
    private(set) var recovery: JournalRecovery
    /// The replicas that may lack what they acknowledged, and those that could not be opened, at the last start.
    private(set) var suspects: Set<GroupID> = []
    private(set) var unreadable: Set<GroupID> = []
    private var wires: [TestWire] = []
    private var mailboxes: [[ShardMessage]]
    private var wasHoldingBack = false
    private let shardCount: Int
    private let rack: String?
    private let configs: [ConfigEntry]
    private let adjust: (inout ShardSettings) -> Void
    private let journalConfiguration: JournalConfiguration
    private var lives: UInt64 = 0

    /// Starts a broker on an empty disk.
    ///
    /// `founders`: the brokers that founded the cluster; empty for a broker of its own. `member`: given to a broker that
    /// joins them later. `life`: another number for another disk. `configs`: broker settings by Kafka's names. `adjust`:
    /// changes the bounds.
    init(
        id: BrokerID = BrokerID(1),
        founders: [BrokerID] = [],
        member: GroupMember? = nil,
        life: UInt64 = 1,
        clock: VirtualClock = VirtualClock(),
        shardCount: Int = 2,
        rack: String? = nil,
        configs: [ConfigEntry] = [],
        disk: MemoryDisk = MemoryDisk(),
        journal: JournalConfiguration = JournalConfiguration(
            fileByteCount: 1 << 20,
            liveByteLimit: 8 << 20
        ),
        adjust: @escaping (inout ShardSettings) -> Void = { _ in }
    ) throws {
        self.id = id
        self.founders = founders
        self.member = member
        incarnation = Self.incarnation(of: id, life: life)
        self.clock = clock
        self.disk = disk
        self.shardCount = shardCount
        self.rack = rack
        self.configs = configs
        self.adjust = adjust
        journalConfiguration = journal
        mailboxes = Array(repeating: [], count: shardCount)
        (self.journal, recovery) = try Self.openJournal(disk, journal)
        try start()
    }

    /// Takes the journal away and begins a new one, as a broker does that lost its own.
    static func loseJournal(on disk: MemoryDisk, life: UInt64) throws {
        disk.crash(.dropUnsynced)
        try disk.removeTree("\(directory)/journal")
        var random = SeededRandom(seed: 7 &+ life)
        try Journal.beginIncarnation(
            JournalDirectories(journal: "\(directory)/journal", data: directory),
            disk: disk,
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) }
        )
    }

    private static func openJournal(
        _ disk: MemoryDisk,
        _ configuration: JournalConfiguration
    ) throws -> (Journal, JournalRecovery) {
        var random = SeededRandom(seed: 7)
        return try Journal.open(
            JournalDirectories(journal: "\(directory)/journal", data: directory),
            disk: disk,
            configuration: configuration,
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) }
        )
    }

    static func incarnation(of id: BrokerID, life: UInt64) -> BrokerIncarnation {
        BrokerIncarnation(high: UInt64(id.rawValue), low: life)
    }

    /// What a broker tells the cluster of itself.
    static func registration(
        _ id: BrokerID,
        _ incarnation: BrokerIncarnation,
        isClustered: Bool = true,
        rack: String? = nil
    ) -> BrokerRegistration {
        BrokerRegistration(
            id: id,
            incarnation: incarnation,
            endpoints: [
                BrokerEndpoint(
                    listener: "PLAINTEXT",
                    host: isClustered ? "broker-\(id)" : "",
                    port: 9092
                ),
                BrokerEndpoint(
                    listener: BrokerEndpoint.peerListener,
                    host: "peer-\(id)",
                    port: 9093
                ),
            ],
            rack: rack
        )
    }

    private func start() throws {
        lives += 1
        var settings = ShardSettings(
            broker: id,
            shardCount: shardCount,
            dataDirectory: Self.directory,
            layers: try ConfigLayers(fixed: configs),
            seed: 42 &+ lives &+ UInt64(id.rawValue) &* 1000
        )
        settings.incarnation = incarnation
        // So that time need not pass between a write and what followers do with it.
        settings.commitNewsDelay = .zero
        if !founders.isEmpty { settings.join(founders, as: member) }
        adjust(&settings)
        let replicas = try recoverReplicas()
        suspects = Set(replicas.filter { !$0.value.isElectable }.keys)
        let registration = Self.registration(
            id,
            settings.incarnation,
            isClustered: !founders.isEmpty,
            rack: rack
        )
        environments = (0..<shardCount).map { TestEnvironment(index: $0, broker: self) }
        shards = environments.map { environment in
            Shard(
                index: environment.index,
                settings: settings,
                environment: environment,
                disk: disk
            )
        }
        for shard in shards {
            shard.start(
                StartupFacts(
                    replicas: replicas.filter {
                        settings.shard(of: $0.key.partition) == shard.index
                    },
                    unreadable: unreadable,
                    mayHaveForgotten: recovery.areUnknownGroupsSuspect || !forgottenGroups.isEmpty,
                    newClusterID: "AAAAAAAAAAAAAAAAAAAAAA",
                    registration: registration
                )
            )
        }
        run()
    }

    // MARK: Death and resurrection

    /// Flips a bit in what the first rounds say, each of which was durable before the next one was written.
    func damageJournal() {
        let file = "\(Self.directory)/journal/00000000.journal"
        for block in Int64(2)...4 { disk.flip(file, at: block * 4096 + 130) }
    }

    /// Flips a bit in every round but the last, which proves that those before it were durable.
    ///
    /// `withVotes`: also in the second copies of what they say of votes.
    func damageRounds(withVotes: Bool) throws {
        let path = "\(Self.directory)/journal/00000000.journal"
        let file = try disk.open(path, .read)
        let blocks = try (2..<file.byteCount() / 4096).map { block in
            (block, try file.read(at: block * 4096, count: 8).getString(at: 0, length: 8) ?? "")
        }
        let last = blocks.last { $0.1 == "FlotRnd\n" }?.0 ?? 0
        for (block, magic) in blocks where block < last {
            if magic == "FlotRnd\n" || withVotes { disk.flip(path, at: block * 4096 + 130) }
        }
    }

    /// Groups whose votes the next start does not find, as if both copies of them were damaged.
    var forgottenVotes: Set<TopicPartition> = []

    /// Groups of which the next start finds nothing, as if damaged rounds of the journal had been all that knew of them.
    var forgottenGroups: Set<TopicPartition> = []

    /// Ends everything as a power failure or a kill does, and starts again from what the disk kept.
    func restart(after fate: MemoryDisk.CrashFate) throws {
        disk.crash(fate)
        try reopen()
    }

    /// Makes the killed broker the only member of its groups, as `flotilla cluster recover --unsafe` does.
    func recoverUnsafe(as clusterID: String) throws -> UnsafeRecovery.Plan {
        disk.crash(.dropUnsynced)
        (journal, recovery) = try Self.openJournal(disk, journalConfiguration)
        let replicas = try recoverReplicas()
        var random = SeededRandom(seed: 99)
        let plan = try UnsafeRecovery(
            broker: id,
            replicas: replicas,
            unreadable: unreadable,
            dataDirectory: Self.directory,
            disk: disk,
            now: clock.wallTime
        ).plan(
            metadata: member ?? GroupMember(broker: id, epoch: CreationEpoch(1)),
            as: clusterID,
            random: &random
        )
        let result = try journal.perform(plan.submissions)
        precondition(result.remainder == 0, "the journal has room")
        try journal.close()
        return plan
    }

    /// Stops as an operator would have it, and starts again.
    func restartCleanly() throws {
        try stopCleanly()
        try reopen()
    }

    /// Stops as an operator would have it.
    func stopCleanly() throws {
        for shard in shards {
            var isDrained = false
            shard.drain(atMost: .seconds(1)) { isDrained = true }
            advance(by: .seconds(2))
            precondition(isDrained, "a drain ends")
        }
        for shard in shards {
            var isDone = false
            shard.checkpoint { isDone = true }
            advance(by: .seconds(2))
            precondition(isDone, "a checkpoint ends")
        }
        try journal.close()
    }

    private func reopen() throws {
        for wire in wires where wire.sink.closeReason == nil {
            wire.sink.closeReason = .socketError
        }
        wires.removeAll()
        environments.removeAll()
        shards.removeAll()
        backlog.removeAll()
        mailboxes = Array(repeating: [], count: shardCount)
        wasHoldingBack = false
        (journal, recovery) = try Self.openJournal(disk, journalConfiguration)
        try start()
    }

    private func recoverReplicas() throws -> [GroupID: RecoveredReplica] {
        try ReplicaStaging.settleAll(in: Self.directory, on: disk)
        let known = Dictionary(uniqueKeysWithValues: recovery.groups.map { ($0.group, $0.state) })
        var groups = Set(known.keys)
        let parent = "\(Self.directory)/partitions"
        if try disk.exists(parent) {
            for name in try disk.list(parent) {
                // Directories are named as groups print themselves.
                guard let group = GroupID(directoryName: name) else {
                    preconditionFailure("\(name) is a replica's directory")
                }
                groups.insert(group)
            }
        }
        var replicas: [GroupID: RecoveredReplica] = [:]
        unreadable = []
        for group in groups.sorted() where !forgottenGroups.contains(group.partition) {
            let state = known[group]
            let recovery = LogRecovery(
                group: group,
                directory: Self.directory,
                disk: disk,
                journal: state.map { JournalSuffix($0) }
                    ?? (self.recovery.areUnknownGroupsSuspect ? nil : JournalSuffix()),
                verification: .sinceCheckpoint
            )
            guard let log = try? recovery.perform() else {
                unreadable.insert(group)
                continue
            }
            var replica = RecoveredReplica(log: log, state: state, journal: self.recovery)
            if forgottenVotes.contains(group.partition) {
                replica.hasLostVote = true
                replica.isElectable = false
            }
            replicas[group] = replica
        }
        return replicas
    }

    // MARK: The world of the shards

    func post(_ message: ShardMessage, to shard: Int) {
        mailboxes[shard].append(message)
    }

    func submit(_ submissions: [JournalSubmission]) {
        backlog += submissions
    }

    /// Makes what was submitted durable, though the journal is held.
    func performRound() {
        do {
            let result = try journal.perform(backlog)
            backlog.removeFirst(backlog.count - result.remainder)
            var byShard: [[JournalCompletion]] = Array(repeating: [], count: shardCount)
            for completion in result.completions { byShard[completion.shard].append(completion) }
            for (shard, completions) in byShard.enumerated() where !completions.isEmpty {
                post(.journal(completions), to: shard)
            }
            tellOfJournal()
        } catch {
            failures.append(error)
            backlog.removeAll()
        }
    }

    private func tellOfJournal() {
        while let demand = journal.nextDemand() {
            for shard in shards.indices { post(.journalDemand([demand]), to: shard) }
        }
        guard journal.isHoldingBack != wasHoldingBack else { return }
        wasHoldingBack = journal.isHoldingBack
        for shard in shards.indices { post(.journalFull(wasHoldingBack), to: shard) }
    }

    // MARK: Turns

    /// Lets everything happen that needs no time.
    func run() {
        var steps = 0
        while step() {
            steps += 1
            precondition(steps < 1_000_000, "a broker comes to rest")
        }
    }

    func step() -> Bool {
        for shard in shards where !mailboxes[shard.index].isEmpty {
            let messages = mailboxes[shard.index]
            mailboxes[shard.index].removeAll()
            shard.receive(messages)
            return true
        }
        for wire in wires where wire.deliverOne() { return true }
        for environment in environments where environment.testWorkers.runOne() { return true }
        for environment in environments where environment.wantsTurnEnd {
            environment.wantsTurnEnd = false
            shards[environment.index].endTurn()
            return true
        }
        if !isJournalHeld {
            if !backlog.isEmpty, failures.isEmpty {
                let before = backlog.count
                performRound()
                // A journal without room is tried again when time has passed.
                return backlog.count < before
            }
            let wasHolding = wasHoldingBack
            tellOfJournal()
            return wasHoldingBack != wasHolding
        }
        return false
    }

    /// When something is due next.
    var nextDeadline: Instant? { environments.compactMap(\.deadline).min() }

    /// Does what is due at the present time, and everything that follows from it without time passing.
    func runTimers() {
        for environment in environments where environment.deadline.map({ $0 <= clock.now }) == true
        {
            environment.deadline = nil
            shards[environment.index].runTimers()
        }
    }

    /// Moves the clock, and does at each point of time what is due.
    func advance(by delay: Duration) {
        run()
        let end = clock.now + delay
        while let next = nextDeadline, next <= end {
            clock.now = max(clock.now, next)
            runTimers()
            run()
        }
        clock.now = end
        run()
    }

    // MARK: Clients

    /// A client whose connection lives on a shard.
    func connect(to shard: Int = 0, as software: String? = nil) throws -> TestClient {
        let wire = wire(to: shard)
        let client = TestClient(wire: wire) { self.run() }
        if let software {
            _ = try client.ask(
                ApiVersionsRequest(clientSoftwareName: software, clientSoftwareVersion: "1.0"),
                version: 3
            )
        }
        return client
    }

    /// A connection on a shard, for a client that needs more than this broker to get its answers.
    func wire(to shard: Int = 0) -> TestWire {
        let wire = TestWire(shard: shards[shard])
        wires.append(wire)
        return wire
    }

    /// Everything that the shards wanted operators to read.
    var events: [BrokerEvent] { environments.flatMap(\.events) }
}

extension ShardSettings {
    /// Makes the broker one of the founders of a cluster, or one that joins them.
    fileprivate mutating func join(_ founders: [BrokerID], as member: GroupMember?) {
        isClustered = true
        seeds = founders.map { id in
            PeerAddress(broker: id, address: NetworkAddress(host: "peer-\(id)", port: 9093))
        }
        metadataMember = member ?? GroupMember(broker: broker, epoch: CreationEpoch(1))
        guard member == nil else {
            metadataFounders = []
            return
        }
        metadataFounders = founders.map { id in
            ClusterFounder(
                member: GroupMember(broker: id, epoch: CreationEpoch(1)),
                incarnation: TestBroker.incarnation(of: id, life: 1)
            )
        }
    }
}
