import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import struct NIOCore.ByteBuffer

/// A shard with one replica, whose journal writes when the test says so.
final class TestHost: ReplicaHost {
    /// Work for other threads, done when the test says so.
    final class Jobs: Workers {
        private(set) var waiting: [() -> Void] = []

        func run<Output: Sendable>(
            _ work: @escaping @Sendable () -> Output,
            then completion: @escaping (Output) -> Void
        ) {
            waiting.append { completion(work()) }
        }

        func runAll() {
            while !waiting.isEmpty { waiting.removeFirst()() }
        }
    }

    var wallTime = Timestamp(1_700_000_000_000)
    var now = Instant.start
    let jobs = Jobs()
    var workers: any Workers { jobs }
    let disk: MemoryDisk
    let resources: LogResources
    let machine: TestMachine
    private(set) var submissions: [(records: [JournalRecord], ticket: UInt64)] = []
    private(set) var submissionCount = 0
    private(set) var failures: [ReplicationError] = []
    private(set) var committedCount = 0
    private(set) var leadershipChanges: [Bool] = []
    private var dirty: [Replica] = []
    /// Everything that the journal made durable, newest last.
    private(set) var durableEntries: [LogEntry] = []
    private(set) var hardState = HardState.initial
    /// The newest membership that the journal was given to remember.
    private(set) var membership: IndexedMembership?

    static let group = GroupID(
        partition: TopicPartition(topic: TopicID(high: 7, low: 7), partition: 0),
        epoch: CreationEpoch(1)
    )
    static let member = GroupMember(broker: BrokerID(1), epoch: CreationEpoch(1))

    init(disk: MemoryDisk = MemoryDisk(), machine: TestMachine = TestMachine()) {
        self.disk = disk
        self.machine = machine
        resources = LogResources(
            disk: disk,
            tail: TailBudget(byteCount: 1 << 20),
            segments: SegmentCache(maximumOpenCount: 8)
        )
    }

    /// A new replica of a group of one; it leads after `settle()`.
    func makeReplica(
        configuration: LogConfiguration = LogConfiguration()
    ) throws(ReplicationError) -> Replica {
        try makeReplica(
            PartitionLog.create(
                group: Self.group,
                directory: "/data",
                resources: resources,
                configuration: configuration
            )
        )
    }

    /// A replica with this log.
    func makeReplica(
        _ log: PartitionLog,
        hardState: HardState = .initial
    ) throws(ReplicationError) -> Replica {
        try Replica(
            group: Self.group,
            member: Self.member,
            log: log,
            hardState: hardState,
            membership: Membership(voters: [Self.member], learners: []),
            journalEnd: log.lastIndex,
            isElectable: true,
            machine: machine,
            settings: Settings(),
            seed: 1,
            host: self
        )
    }

    // MARK: Turns

    /// Ends the turn: what replicas queued is proposed and submitted.
    func endTurn() {
        while !dirty.isEmpty {
            let replicas = dirty
            dirty.removeAll()
            for replica in replicas { replica.endTurn() }
        }
    }

    /// The journal writes what was submitted.
    func performRound(for replica: Replica) {
        let round = submissions
        submissions.removeAll()
        for submission in round {
            for record in submission.records {
                switch record {
                case .entries(let entries): durableEntries += entries
                case .hardState(let state): hardState = state
                case .membership(let newer): membership = newer
                case .commit, .reset, .trusted, .remove: break
                }
            }
        }
        for submission in round { replica.persisted(ticket: submission.ticket) }
    }

    /// Goes on until nothing is left to do.
    func settle(_ replica: Replica) {
        while !dirty.isEmpty || !submissions.isEmpty {
            endTurn()
            performRound(for: replica)
        }
    }

    // MARK: ReplicaHost

    func needsTurnEnd(_ replica: Replica) { dirty.append(replica) }

    func needsAnnouncement(_ replica: Replica) {
        preconditionFailure("a group of one has nobody to tell")
    }

    func journal(_ records: [JournalRecord], of replica: Replica, ticket: UInt64) {
        submissions.append((records, ticket))
        submissionCount += 1
    }

    let takesEntries = true

    func send(
        _ envelope: RaftEnvelope,
        to broker: BrokerID,
        on lane: PeerLane,
        from replica: Replica
    ) {
        preconditionFailure("a group of one has nobody to send to")
    }

    func grantsOldEntries(_ byteCount: Int, to member: GroupMember, from replica: Replica) -> Bool {
        true
    }

    func membershipChanged(_ replica: Replica) {}

    func quietChanged(_ replica: Replica) {}

    func needsFiles(_ order: FileOrder, of replica: Replica) -> Bool { false }

    func filesOffered(
        upTo position: LogPosition,
        by leader: GroupMember,
        to replica: Replica
    ) -> Bool { false }

    func damaged(_ replica: Replica, _ error: StorageError) { failures.append(.storage(error)) }

    func leadershipChanged(_ replica: Replica) { leadershipChanges.append(replica.isServing) }

    func committed(_ replica: Replica) { committedCount += 1 }

    func failed(_ replica: Replica, _ error: ReplicationError) { failures.append(error) }
}

/// A state machine that counts: its state is the list of what it applied.
final class TestMachine: ReplicatedStateMachine {
    private(set) var applied: [LogIndex] = []
    private(set) var restoredFrom: ByteBuffer?
    private(set) var isLeading = false
    /// An entry that it cannot apply.
    var poison: LogIndex?

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        restoredFrom = snapshot
        applied.removeAll()
        var snapshot = snapshot
        while let index = snapshot.readInteger(as: UInt64.self) { applied.append(LogIndex(index)) }
    }

    func apply(_ entry: LogEntry) throws(ReplicationError) {
        if entry.frame.index == poison {
            throw .unusableEntry(index: entry.frame.index, description: "poison")
        }
        applied.append(entry.frame.index)
    }

    func snapshot() -> ByteBuffer {
        var buffer = ByteBuffer()
        for index in applied { buffer.writeInteger(index.rawValue) }
        return buffer
    }

    func leadershipBegan() { isLeading = true }

    func leadershipEnded() { isLeading = false }
}
