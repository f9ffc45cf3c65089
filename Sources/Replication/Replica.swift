import DequeModule
import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
import FlotillaRecords
package import FlotillaStorage

/// One partition's replica on this broker: performs what `Raft` decides on the log, the journal, the state machine and
/// towards the other replicas.
///
/// Inputs are synchronous calls on the replica's shard. Proposals of one loop turn wait in a queue and become one
/// proposal at its end, so that a thousand small batches cost one round of the journal.
///
/// At every instant `appliedIndex` ≤ `committedIndex` ≤ `log.lastIndex`, and `log.commitIndex`, up to where segments may
/// be written, is what is both committed and durable here. Committed entries are applied from memory before the own
/// disk has them: they are durable elsewhere, and after a crash they are fetched and applied again.
package final class Replica {
    /// Which replica this is.
    package let group: GroupID
    /// The replica as a member of its group.
    package let member: GroupMember
    /// The entries; another log after a leader's files took its place.
    package internal(set) var log: PartitionLog
    /// What committed entries mean.
    package let machine: any ReplicatedStateMachine

    package internal(set) var raft: Raft {
        didSet { changeCount &+= 1 }
    }
    /// How often Raft's state has been touched, so that whoever watches replicas can pass over those at rest.
    package private(set) var changeCount = 0
    unowned let host: any ReplicaHost

    // MARK: Applying

    /// Entries up to here have been applied.
    package internal(set) var appliedIndex: LogIndex
    /// One past the last record that a majority has on disk and that is applied here.
    package internal(set) var highWatermark: Offset
    /// What keeps committed entries from being applied, until it is repaired.
    package internal(set) var obstacle: StorageError?
    /// Entries up to here are committed.
    package internal(set) var committedIndex: LogIndex
    var isLoading = false
    var isApplying = false
    var isCheckpointWanted = false

    // MARK: Leading

    /// Whether this replica leads and its term start is applied: it may take proposals and answer exactly.
    package internal(set) var isServing = false
    /// Whether the last role that was told is the leader's.
    var isLeading = false
    var queue: [Proposal] = []
    /// The bytes proposed in this turn.
    package internal(set) var queuedByteCount = 0
    /// What was proposed in the step at hand.
    var proposed: [Proposal] = []
    var awaitingQuorum = Deque<Unsettled>()
    var awaitingFlush = Deque<Unsettled>()
    var acknowledgedIndex: LogIndex = .zero
    var requests = Requests()
    var sightings = Sightings()

    // MARK: Sending

    var outbox = Outbox()
    /// The files that are about to become the log.
    var installation = Installation()

    // MARK: Stepping

    private var effects: [Effect] = []
    /// Inputs that came while another one's effects were performed.
    private var inputs = Deque<Arrival>()
    private var isStepping = false
    /// The entries that came with the input whose effects are being performed.
    private(set) var carried: [LogEntry] = []

    // MARK: The journal

    private var records: [JournalRecord] = []
    private var unpersisted = Deque<Ticket>()
    private var journaledCommitIndex: LogIndex = .zero
    private var journaledMembershipIndex: LogIndex = .zero
    private let journalEnd: LogIndex
    /// Whether Raft knows the terms of all entries as the log does.
    var areTermsTold: Bool
    private let isNew: Bool
    private var isAwaitingTurnEnd = false
    /// Whether the host was asked to have members told of new commits.
    private var hasCommitNews = false

    /// Whether the replica has given up or was closed, and does nothing any more.
    package private(set) var hasFailed = false

    /// An input, and the entries that belong to it.
    private struct Arrival {
        var input: Input
        var entries: [LogEntry]
    }

    /// Puts a replica together from what recovery found.
    ///
    /// `membership`: the group's first members, for a log that names none yet; `.empty` for a member that is added to a
    /// group that exists.
    /// `journalEnd`: where the log ends as far as the journal knows.
    /// - Throws: `.unusableEntry` for a state machine's snapshot that cannot be read.
    package init(
        group: GroupID,
        member: GroupMember,
        log: PartitionLog,
        hardState: HardState,
        membership: Membership,
        journalEnd: LogIndex,
        isElectable: Bool,
        machine: any ReplicatedStateMachine,
        settings: Settings,
        seed: UInt64,
        host: any ReplicaHost
    ) throws(ReplicationError) {
        self.group = group
        self.member = member
        self.log = log
        self.machine = machine
        self.host = host
        self.journalEnd = journalEnd
        areTermsTold = log.areTermsKnown
        isNew = log.lastIndex == .zero && journalEnd == .zero && hardState == .initial
        let state = log.recoveredState
        appliedIndex = state.mark.index
        highWatermark = state.mark.endOffset
        committedIndex = log.commitIndex
        // A term is durable before the first entry that carries it, so a journal that says otherwise has lost something.
        guard hardState.term >= log.lastPosition.term else {
            throw .unusableEntry(
                index: log.lastIndex,
                description: "it is of term \(log.lastPosition.term), and the journal knows only "
                    + "\(hardState.term)"
            )
        }
        raft = Raft(
            self: member,
            restored: log.restoredState(
                hardState: hardState,
                initialMembership: membership,
                isElectable: isElectable
            ),
            settings: settings,
            seed: seed
        )
        try machine.restore(state.stateMachine)
    }

    // MARK: Inputs

    /// Begins to take part; called once, when the shard is ready for effects.
    package func start() {
        if log.lastIndex > journalEnd {
            // The segments outlived the journal's memory of them: it is told where the log ends, so that what comes next
            // leaves no gap in it.
            addToJournal(.reset(log.lastPosition, checksum: log.lastFrameChecksum))
        }
        if isNew {
            // Until an entry names the members, nothing else remembers with whom the replica began.
            addToJournal(
                .membership(IndexedMembership(index: .zero, membership: raft.membership))
            )
        }
        applyCommitted()
        if raft.membership.voters == [member] { step(.campaign) }
    }

    /// One unit of Raft's time has passed.
    package func tick() {
        guard !isInstalling else { return }
        tellLogStart()
        step(.tick)
        sendHeld()
        giveLeadershipAwayIfObstructed()
        sightings.tick(raft, now: host.now)
    }

    /// New settings for the group, such as `min.insync.replicas`.
    package func change(_ settings: Settings) {
        step(.settings(settings))
    }

    /// Proposes what the turn has queued, and hands the turn's writes to the journal.
    package func endTurn() {
        precondition(!isStepping, "a turn ends between two inputs")
        isAwaitingTurnEnd = false
        proposeQueue()
        submitRecords()
    }

    /// Has members hear of new commits that nothing else on its way tells them of.
    package func announceCommit() {
        hasCommitNews = false
        step(.announceCommit)
    }

    /// A commit, or an answer that leaves nothing on its way to a member: what it then lacks is said a moment later.
    ///
    /// Not at once: to a producer that sends one batch after the other the next one says it, and a message of its own would have
    /// every member wake up once more for each batch, and answer.
    func noteCommitNews() {
        let isAlone = raft.membership.isOnlyVoter(member) && raft.membership.learners.isEmpty
        guard raft.role == .leader, !isAlone, !hasCommitNews else { return }
        hasCommitNews = true
        host.needsAnnouncement(self)
    }

    /// The journal has made everything up to `ticket` durable.
    package func persisted(ticket: UInt64) {
        // An installation begins when all is durable, and its reset is the next write.
        guard !hasFailed, !isInstalling else { return }
        var newest: Ticket?
        while let first = unpersisted.first, first.number <= ticket {
            newest = unpersisted.removeFirst()
        }
        guard let newest else { return }
        release(through: newest)
        step(.persisted(newest))
        settle()
    }

    /// The entries that only the journal holds durably, written to it once more so that it can reuse its oldest file.
    ///
    /// - Parameter maximumByteCount: how much may be written once more.
    /// - Returns: false when they are more, or not all in memory any more; then segments must take them over.
    package func copyForward(atMost maximumByteCount: Int = .max) -> Bool {
        guard !hasFailed, !isInstalling, let suffix = log.journalSuffix(), !suffix.isEmpty,
            suffix.reduce(0, { $0 + $1.byteCount }) <= maximumByteCount
        else { return false }
        addToJournal(.entries(suffix))
        return true
    }

    /// Ends the replica's part in its group, because its partition is deleted or moved away: whoever waits is told, and
    /// nothing is taken, sent or handed to the journal any more.
    package func close() {
        guard !hasFailed else { return }
        stop()
    }

    /// Gives up, and says why.
    func fail(_ error: ReplicationError) {
        guard !hasFailed else { return }
        stop()
        host.failed(self, error)
    }

    /// What a replica that has stopped answers: others may lead, this one does not.
    static let closed = ReplicationError.rejected(.notLeader(nil))

    private func stop() {
        hasFailed = true
        records.removeAll()
        inputs.removeAll()
        outbox.removeAll()
        endLeadership(refusing: Self.closed)
        let waiting = requests
        requests = Requests()
        waiting.failAll(Self.closed)
    }

    // MARK: Raft's effects

    /// Gives Raft an input, with the entries that belong to it, and performs what it decides.
    ///
    /// Each input is dealt with whole: what effects lead to waits until it is its turn.
    func step(_ input: Input, carrying entries: [LogEntry] = []) {
        guard !hasFailed else { return }
        inputs.append(Arrival(input: input, entries: entries))
        performInputs()
    }

    /// The same before everything that waits: what was held back while files were installed follows.
    func stepFirst(_ input: Input) {
        inputs.prepend(Arrival(input: input, entries: []))
        performInputs()
    }

    private func performInputs() {
        guard !isStepping, !isInstalling else { return }
        isStepping = true
        defer { isStepping = false }
        while let arrival = inputs.popFirst(), !hasFailed { perform(arrival) }
    }

    private func perform(_ arrival: Arrival) {
        carried = arrival.entries
        raft.step(arrival.input, into: &effects)
        for effect in effects where !hasFailed { perform(effect) }
        effects.removeAll(keepingCapacity: true)
        carried = []
        guard !hasFailed else { return }
        // Before its own disk has an entry, a member must neither put it into a segment nor claim that it is committed:
        // after a crash another entry may stand in its place.
        log.commit(upTo: raft.durableCommitIndex)
        journalMembership()
        applyCommitted()
    }

    private func perform(_ effect: Effect) {
        switch effect {
        case .persistHardState(let hardState, let ticket):
            addToJournal(.hardState(hardState), ticket)
        case .append(let range, let term, let content, let ticket):
            append(range, term: term, content)
            expect(ticket)
        case .rejectProposal(let rejection): refuseProposed(.rejected(rejection))
        case .truncate(let index): log.truncate(from: index)
        case .appendReceived(let range, let ticket): appendReceived(range, ticket)
        case .send(let message, let target, let ticket): send(message, to: target, after: ticket)
        case .readEntries(let target, let index, let byteLimit):
            read(for: target, from: index, byteLimit: byteLimit)
        case .commitAdvanced(let index):
            committedIndex = index
            noteCommitNews()
        case .acknowledgedAdvanced(let index): acknowledgedIndex = index
        case .roleChanged(let role, _, _): roleChanged(role)
        case .leaderReady:
            // Served from the moment that the term start is applied, see `applyCommitted()`.
            break
        case .membershipChanged: host.membershipChanged(self)
        case .quietChanged: host.quietChanged(self)
        case .electableChanged(let isElectable): electableChanged(isElectable)
        case .membershipChangeFinished, .membershipChangeFailed, .transferFinished,
            .transferRejected, .readReady, .readFailed:
            answer(effect)
        case .installSnapshot, .sendSnapshot, .receiveSnapshot: performOnFiles(effect)
        }
    }

    // MARK: The journal

    /// Whether everything that this replica gave to the journal with a ticket is durable.
    var isJournalSettled: Bool { records.isEmpty && unpersisted.isEmpty }

    /// Hands a record to the journal at the end of the turn.
    func addToJournal(_ record: JournalRecord, _ ticket: Ticket? = nil) {
        records.append(record)
        if let ticket { expect(ticket) } else { requestTurnEnd() }
    }

    /// Entries that follow each other go to the journal as one record.
    func addToJournal(_ entry: LogEntry) {
        if case .entries(var entries) = records.last,
            entries.last?.frame.index.next == entry.frame.index
        {
            records.removeLast()
            entries.append(entry)
            records.append(.entries(entries))
        } else {
            records.append(.entries([entry]))
        }
    }

    /// The ticket is durable when what was added to the journal so far is.
    func expect(_ ticket: Ticket) {
        unpersisted.append(ticket)
        requestTurnEnd()
    }

    func requestTurnEnd() {
        guard !isAwaitingTurnEnd else { return }
        isAwaitingTurnEnd = true
        host.needsTurnEnd(self)
    }

    /// Has the journal remember the members before segments take over the entry that names them.
    ///
    /// That entry then has one copy here, and damage to it must not bring back a membership that is over.
    private func journalMembership() {
        let index = raft.log.memberships[0].index
        guard index > journaledMembershipIndex, index <= log.commitIndex else { return }
        journaledMembershipIndex = index
        // Raft counts the members that received files brought from the files' end on.
        let known = log.memberships[0]
        if known.index > .zero { addToJournal(.membership(known)) }
    }

    private func submitRecords() {
        guard !records.isEmpty else { return }
        // A hint only: recovery may start committed from here instead of from the end of the segments.
        if log.commitIndex > journaledCommitIndex {
            journaledCommitIndex = log.commitIndex
            records.append(.commit(log.commitIndex))
        }
        let ticket = unpersisted.last?.number ?? 0
        host.journal(records, of: self, ticket: ticket)
        records.removeAll(keepingCapacity: true)
    }
}

extension Replica {
    /// Stops the process if the replica is in a state that no sequence of inputs may bring about; for tests and the
    /// simulator.
    package func checkInvariants() {
        raft.checkInvariants()
        guard !hasFailed else { return }
        precondition(log.lastPosition == raft.lastPosition, "log and consensus end with one entry")
        precondition(appliedIndex <= committedIndex, "only committed entries are applied")
        precondition(committedIndex == raft.commitIndex, "every commit is performed")
        precondition(
            log.commitIndex <= max(raft.durableCommitIndex, installation.installedIndex),
            "segments get what is committed and durable"
        )
        precondition(!isServing || raft.isReady, "who serves leads a term that has begun")
        precondition(
            isLeading || (awaitingQuorum.isEmpty && awaitingFlush.isEmpty),
            "only a leader's proposers wait"
        )
    }
}
