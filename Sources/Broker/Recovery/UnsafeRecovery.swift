import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
package import FlotillaStorage

/// Makes one stopped broker the only member of all its groups, when the majority of them is gone for good.
///
/// Each log gets an entry that names this broker as the group's only voter, in a term that nobody else led, as if all that the log has
/// were committed; the metadata in addition what became of the cluster. Nothing else changes: the broker then starts as it always does.
/// What is not on this broker is given up, however often it was acknowledged. So this is asked for by a person, and never happens by
/// itself.
///
/// Pure: it reads, and says what the journal shall take.
package struct UnsafeRecovery {
    /// One partition as it goes on.
    package struct Kept: Hashable, Sendable {
        /// The replica that goes on.
        package var group: GroupID
        /// The partition's name.
        package var name: String
        /// Up to where it has records.
        package var logEndOffset: Offset
        /// The term of its last entry.
        package var term: Term
        /// Its last entry.
        package var lastIndex: LogIndex
        /// What speaks against its being complete; empty where only time does.
        package var doubts: [String]
    }

    /// What is to be done.
    package struct Plan: Sendable {
        /// The partitions that go on, the metadata first.
        package var kept: [Kept] = []
        /// Partitions that this broker has nothing of, by name.
        package var lost: [String] = []
        /// The brokers that are given up.
        package var lostBrokers: [BrokerID] = []
        /// What the journal shall take, the metadata first.
        package var submissions: [JournalSubmission] = []
    }

    /// Why nothing can be recovered here.
    package enum Obstacle: Error, Hashable, CustomStringConvertible {
        /// The metadata's log cannot be used.
        case metadata(String)

        /// The obstacle as a sentence.
        package var description: String {
            switch self {
            case .metadata(let reason):
                "the cluster's metadata on this broker is of no use: \(reason)"
            }
        }
    }

    private let broker: BrokerID
    private let replicas: [GroupID: RecoveredReplica]
    private let unreadable: Set<GroupID>
    private let dataDirectory: String
    private let disk: any Disk
    private let now: Timestamp

    /// Describes a stopped broker.
    ///
    /// - Parameters:
    ///   - broker: who it is.
    ///   - replicas: what recovery found.
    ///   - unreadable: what it could not open.
    ///   - dataDirectory: where segments lie.
    ///   - disk: on which disk.
    ///   - now: the time of the entries.
    package init(
        broker: BrokerID,
        replicas: [GroupID: RecoveredReplica],
        unreadable: Set<GroupID>,
        dataDirectory: String,
        disk: any Disk,
        now: Timestamp
    ) {
        self.broker = broker
        self.replicas = replicas
        self.unreadable = unreadable
        self.dataDirectory = dataDirectory
        self.disk = disk
        self.now = now
    }

    /// Decides.
    ///
    /// - Parameters:
    ///   - member: this broker's member of the metadata group.
    ///   - clusterID: the id that the cluster shall have.
    ///   - random: draws the lives of brokers that nobody has seen yet.
    /// - Returns: what the journal shall take, and what is kept and lost.
    /// - Throws: `Obstacle`.
    package func plan(
        metadata member: GroupMember,
        as clusterID: String,
        random: inout some RandomNumberGenerator
    ) throws -> Plan {
        let group = GroupID(partition: .clusterMetadata, epoch: member.epoch)
        guard let replica = replicas[group] else {
            throw Obstacle.metadata("there is no log of it that can be opened")
        }
        var controller = try controller(of: replica)
        controller.becomeLeader()
        let before = controller.image
        let decision: Decision<RecoveryOutcome>
        do throws(Refusal) {
            decision = try controller.recoverAlone(broker, as: clusterID) {
                BrokerIncarnation(high: random.next(), low: random.next())
            }
        } catch {
            throw Obstacle.metadata(error.message)
        }
        var plan = Plan()
        plan.lostBrokers = decision.outcomes[0].lostBrokers
        plan.lost = decision.outcomes[0].lostPartitions
        let records = MetadataBatch.batch(of: decision.records, at: now)
        add(replica, group, "(metadata)", records, to: &plan)
        for local in before.replicas(on: broker) {
            let name = "\(local.topicName)-\(local.group.partition.partition)"
            guard let replica = replicas[local.group] else {
                plan.lost.append(
                    unreadable.contains(local.group) ? "\(name) (cannot be opened)" : name
                )
                continue
            }
            add(replica, local.group, name, nil, to: &plan)
        }
        return plan
    }

    // MARK: The metadata

    /// The metadata with all that the log has, committed or not.
    private func controller(of replica: RecoveredReplica) throws -> Controller {
        let machine = ControllerMachine(random: SeededRandom(seed: 0))
        do {
            try machine.restore(replica.log.state.stateMachine)
            let log = PartitionLog(
                replica.log,
                resources: LogResources(
                    disk: disk,
                    tail: TailBudget(byteCount: Self.readByteCount),
                    segments: SegmentCache(maximumOpenCount: 2)
                ),
                configuration: LogConfiguration()
            )
            var next = replica.log.state.mark.index.next
            var isAfterLoad = false
            while next <= log.lastIndex {
                let read = try log.entries(
                    from: next,
                    maxByteCount: Self.readByteCount,
                    maxCount: Self.readCount,
                    afterLoad: isAfterLoad
                )
                switch read {
                case .ready(let entries):
                    for entry in entries { try machine.apply(entry) }
                    next = entries.last?.frame.index.next ?? next
                    isAfterLoad = false
                case .load(let load):
                    try log.finish(load.perform())
                    isAfterLoad = true
                }
            }
        } catch {
            throw Obstacle.metadata("\(error)")
        }
        return machine.controller
    }

    /// How much is read at a time.
    private static let readByteCount = 4 << 20
    private static let readCount = 4_096

    // MARK: Logs

    /// How many terms are passed over: the others may have led some that this broker never heard of, and a client that saw one of those
    /// believes no older leader.
    private static let termGap: UInt32 = 1_000

    private func add(
        _ replica: RecoveredReplica,
        _ group: GroupID,
        _ name: String,
        _ records: RecordBatch?,
        to plan: inout Plan
    ) {
        let end = replica.log.endMark
        var doubts: [String] = []
        if !replica.log.isEndKnown {
            doubts.append("the journal knew of more than entry \(end.index), and it is lost")
        } else if replica.hasLostVote {
            doubts.append("its vote was lost")
        } else if !replica.isElectable {
            doubts.append("damage to the journal may have taken what it acknowledged last")
        }
        doubts += replica.log.damage.map(\.description)
        plan.kept.append(
            Kept(
                group: group,
                name: name,
                logEndOffset: end.endOffset,
                term: end.term,
                lastIndex: end.index,
                doubts: doubts
            )
        )
        let member = GroupMember(broker: broker, epoch: group.epoch)
        let known = max(replica.hardState.term, end.term)
        let term = Term(known.rawValue + Self.termGap)
        let membership = Membership(voters: [member])
        let entries = entries(behind: end, term, membership, records)
        guard let last = entries.last?.frame else { preconditionFailure("there is one at least") }
        // Segments that outlived the journal's memory of them leave no gap in it, as at every start.
        let reset: [JournalRecord] =
            end.index > replica.journalEnd
            ? [.reset(LogPosition(term: end.term, index: end.index), checksum: end.checksum)] : []
        plan.submissions.append(
            JournalSubmission(
                shard: 0,
                group: group,
                ticket: 0,
                records: reset + [
                    .hardState(HardState(term: term, votedFor: member)), .entries(entries),
                    .commit(last.index), .trusted(last.position, checksum: last.checksum),
                    .membership(IndexedMembership(index: end.index.next, membership: membership)),
                ]
            )
        )
    }

    private func entries(
        behind end: LogMark,
        _ term: Term,
        _ membership: Membership,
        _ records: RecordBatch?
    ) -> [LogEntry] {
        let time = max(end.appendTime, now)
        let first = LogEntry.control(
            .membership,
            payload: membership.payload,
            index: end.index.next,
            term: term,
            nextOffset: end.endOffset,
            appendTime: time,
            previousChecksum: end.checksum
        )
        guard let records else { return [first] }
        let second = LogEntry.data(
            records,
            index: first.frame.index.next,
            term: term,
            baseOffset: end.endOffset,
            appendTime: time,
            previousChecksum: first.frame.checksum
        )
        return [first, second]
    }
}
