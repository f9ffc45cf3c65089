import FlotillaModel
import FlotillaRaft

/// An entry with something in place of its bytes.
struct TestEntry: Hashable {
    var term: Term
    var kind: EntryKind
    var byteCount: Int
    /// Stands for the bytes: equal payloads are equal bytes.
    var payload: UInt64

    init(term: Term, kind: EntryKind, byteCount: Int, payload: UInt64) {
        self.term = term
        self.kind = kind
        self.byteCount = byteCount
        self.payload = payload
    }

    /// An entry that Raft writes itself.
    init(own kind: EntryKind, term: Term) {
        self.init(term: term, kind: kind, byteCount: ProposedEntry.ownByteCount, payload: 0)
    }

    var descriptor: EntryDescriptor {
        EntryDescriptor(term: term, kind: kind, byteCount: byteCount)
    }
}

/// A message on its way, with the entries' bytes beside it.
struct Packet: Hashable {
    var message: Message
    var sender: GroupMember
    var target: GroupMember
    var payloads: [UInt64]
}

/// What a member's disk holds.
struct DiskImage: Hashable {
    var hardState = HardState.initial
    var base = LogPosition.zero
    var baseMembership: Membership
    var entries: [TestEntry] = []

    var lastIndex: LogIndex {
        base.index + UInt64(entries.count)
    }

    func position(of index: LogIndex) -> Int {
        Int(index.rawValue) - Int(base.index.rawValue) - 1
    }

    func term(at index: LogIndex) -> Term? {
        if index == base.index {
            return base.term
        }
        return index > base.index && index <= lastIndex ? entries[position(of: index)].term : nil
    }

    mutating func replace(from first: LogIndex, with new: [TestEntry]) {
        precondition(first > base.index && first <= lastIndex.next, "a write leaves no gap")
        entries.removeSubrange(position(of: first)...)
        entries.append(contentsOf: new)
    }

    /// The membership in effect at `index`.
    func membership(at index: LogIndex) -> Membership {
        memberships(upTo: index).last?.membership ?? baseMembership
    }

    func memberships(upTo index: LogIndex) -> [IndexedMembership] {
        var found = [IndexedMembership(index: base.index, membership: baseMembership)]
        for (offset, entry) in entries.enumerated() {
            let place = base.index + UInt64(offset) + 1
            if place <= index, case .membership(let membership) = entry.kind {
                found.append(IndexedMembership(index: place, membership: membership))
            }
        }
        return found
    }

    mutating func trim(to firstIndex: LogIndex) {
        guard firstIndex > base.index.next, let term = term(at: firstIndex - 1) else {
            return
        }
        baseMembership = membership(at: firstIndex - 1)
        entries.removeSubrange(..<position(of: firstIndex))
        base = LogPosition(term: term, index: firstIndex - 1)
    }

    func restored(commitIndex: LogIndex, isElectable: Bool) -> RestoredState {
        var runs: [TermRun] = []
        for (offset, entry) in entries.enumerated() where runs.last?.term != entry.term {
            runs.append(TermRun(term: entry.term, firstIndex: base.index + UInt64(offset) + 1))
        }
        var memberships = memberships(upTo: lastIndex)
        while memberships.count > 1, memberships[1].index <= commitIndex {
            memberships.removeFirst()
        }
        return RestoredState(
            hardState: hardState,
            base: base,
            lastIndex: lastIndex,
            termRuns: runs,
            memberships: memberships,
            commitIndex: commitIndex,
            isElectable: isElectable
        )
    }
}

/// A member with a log and a disk: it performs effects the way a driver does, and keeps the
/// contract's rules.
final class TestMember {
    enum Write {
        case hardState(HardState)
        case entries(first: LogIndex, [TestEntry])
        case install(LogPosition, Membership)
    }

    let id: GroupMember
    private(set) var raft: Raft
    /// The log as the running member sees it.
    private(set) var log: DiskImage
    /// What survives a crash.
    private(set) var durable: DiskImage
    private(set) var writes: [(ticket: Ticket, write: Write)] = []
    private(set) var isUp = true
    /// How often it has started; what was under way for an earlier start is void.
    private(set) var incarnation: Int
    /// Whether its log may lack what it acknowledged; survives a crash.
    private(set) var isDamaged = false
    private var completedNumber: UInt64 = 0
    private var held: [(number: UInt64, packet: Packet)] = []
    private var attached: [UInt64] = []
    private var proposed: [UInt64] = []

    init(
        id: GroupMember,
        membership: Membership,
        settings: Settings,
        seed: UInt64,
        incarnation: Int = 0
    ) {
        self.id = id
        self.incarnation = incarnation
        durable = DiskImage(baseMembership: membership)
        log = durable
        raft = Raft(self: id, restored: .new(membership), settings: settings, seed: seed)
    }

    /// Starts from a disk that somebody prepared.
    init(
        id: GroupMember,
        disk: DiskImage,
        commitIndex: LogIndex,
        isDamaged: Bool,
        settings: Settings,
        seed: UInt64
    ) {
        self.id = id
        incarnation = 0
        durable = disk
        log = disk
        self.isDamaged = isDamaged
        let restored = disk.restored(commitIndex: commitIndex, isElectable: !isDamaged)
        raft = Raft(self: id, restored: restored, settings: settings, seed: seed)
    }

    /// Feeds an input and performs its effects.
    ///
    /// - Returns: the effects, and the packets that leave now.
    func step(_ input: Input, payloads: [UInt64] = []) -> (effects: [Effect], packets: [Packet]) {
        attached = payloads
        proposed = payloads
        let effects = raft.step(input)
        var packets: [Packet] = []
        for effect in effects {
            perform(effect, input, &packets)
        }
        raft.checkInvariants()
        precondition(raft.lastIndex == log.lastIndex, "the driver's log follows the machine's")
        return (effects, packets)
    }

    private func perform(_ effect: Effect, _ input: Input, _ packets: inout [Packet]) {
        switch effect {
        case .persistHardState(let hardState, let ticket):
            writes.append((ticket, .hardState(hardState)))
        case .append(let range, let term, let content, let ticket):
            append(range, term, content, ticket, input)
        case .truncate(let index):
            precondition(index > raft.base.index, "a truncation stays above the base")
            log.replace(from: index, with: [])
        case .appendReceived(let range, let ticket):
            appendReceived(range, ticket, input)
        case .installSnapshot(let position, let membership, let ticket):
            log.base = position
            log.baseMembership = membership
            log.entries = []
            writes.append((ticket, .install(position, membership)))
        case .send(let message, let target, let ticket):
            let packet = Packet(
                message: message,
                sender: id,
                target: target,
                payloads: payloads(for: message)
            )
            if let ticket {
                precondition(ticket.number > completedNumber, "a send rests on a write under way")
                held.append((ticket.number, packet))
            } else {
                packets.append(packet)
            }
        case .electableChanged(let isElectable):
            isDamaged = !isElectable
        case .rejectProposal, .readEntries, .sendSnapshot, .receiveSnapshot, .commitAdvanced,
            .acknowledgedAdvanced, .roleChanged, .leaderReady, .membershipChanged,
            .membershipChangeFinished, .membershipChangeFailed, .readReady, .readFailed,
            .transferFinished, .transferRejected, .quietChanged:
            break
        }
    }

    private func append(
        _ range: Range<LogIndex>,
        _ term: Term,
        _ content: AppendContent,
        _ ticket: Ticket,
        _ input: Input
    ) {
        var new: [TestEntry] = []
        switch content {
        case .proposal:
            guard case .propose(let entries) = input else {
                preconditionFailure("only a proposal is appended as one")
            }
            for (entry, payload) in zip(entries, proposed) {
                new.append(
                    TestEntry(
                        term: term,
                        kind: entry.kind,
                        byteCount: entry.byteCount,
                        payload: payload
                    )
                )
            }
        case .termStart:
            new = [TestEntry(own: .termStart, term: term)]
        case .membership(let membership):
            new = [TestEntry(own: .membership(membership), term: term)]
        }
        precondition(range.lowerBound == log.lastIndex.next, "a leader appends at its log's end")
        precondition(range.upperBound == range.lowerBound + UInt64(new.count), "a range per entry")
        log.entries.append(contentsOf: new)
        writes.append((ticket, .entries(first: range.lowerBound, new)))
    }

    private func appendReceived(_ range: Range<LogIndex>, _ ticket: Ticket, _ input: Input) {
        guard case .receive(.appendRequest(let request), _, _) = input else {
            preconditionFailure("entries come with a request")
        }
        precondition(
            range.lowerBound >= request.range.lowerBound
                && range.upperBound == request.range.upperBound,
            "what is taken is the rest of the request"
        )
        var new: [TestEntry] = []
        var index = range.lowerBound
        while index < range.upperBound {
            let place = Int(index.rawValue - request.range.lowerBound.rawValue)
            let entry = request.entries[place]
            new.append(
                TestEntry(
                    term: entry.term,
                    kind: entry.kind,
                    byteCount: entry.byteCount,
                    payload: attached[place]
                )
            )
            index = index.next
        }
        precondition(range.lowerBound == log.lastIndex.next, "a truncation comes first")
        log.entries.append(contentsOf: new)
        writes.append((ticket, .entries(first: range.lowerBound, new)))
    }

    private func payloads(for message: Message) -> [UInt64] {
        guard case .appendRequest(let request) = message, !request.entries.isEmpty else {
            return []
        }
        let start = log.position(of: request.range.lowerBound)
        let entries = log.entries[start..<(start + request.entries.count)]
        precondition(
            entries.map(\.descriptor) == request.entries,
            "a request describes the leader's entries"
        )
        return entries.map(\.payload)
    }

    /// Entries for `Input.entriesRead`, as a driver reads them.
    func read(from first: LogIndex, byteLimit: Int) -> [EntryDescriptor] {
        guard first > log.base.index, first <= log.lastIndex else {
            return []
        }
        var found: [EntryDescriptor] = []
        var byteCount = 0
        for entry in log.entries[log.position(of: first)...] {
            byteCount += entry.byteCount
            if !found.isEmpty, byteCount > byteLimit || found.count >= 8 {
                break
            }
            found.append(entry.descriptor)
        }
        return found
    }

    // MARK: The disk

    /// Makes the first `count` writes durable; the member does not know yet.
    func flush(_ count: Int) -> [Ticket] {
        let done = writes.prefix(count)
        for (_, write) in done {
            switch write {
            case .hardState(let hardState): durable.hardState = hardState
            case .entries(let first, let entries): durable.replace(from: first, with: entries)
            case .install(let position, let membership):
                durable.base = position
                durable.baseMembership = membership
                durable.entries = []
            }
        }
        writes.removeFirst(done.count)
        return done.map(\.ticket)
    }

    /// The member learns of a durable write; what waited for it leaves.
    func complete(_ ticket: Ticket) -> (effects: [Effect], packets: [Packet]) {
        completedNumber = max(completedNumber, ticket.number)
        let ready = held.filter { $0.number <= ticket.number }.map(\.packet)
        held.removeAll { $0.number <= ticket.number }
        let (effects, packets) = step(.persisted(ticket))
        return (effects, ready + packets)
    }

    /// Forgets entries below `firstIndex`, on disk and in memory.
    ///
    /// - Returns: whether it could; pending writes and uncommitted entries stand in the way.
    func trim(to firstIndex: LogIndex) -> Bool {
        guard writes.isEmpty, firstIndex <= raft.commitIndex.next, firstIndex > log.base.index.next
        else {
            return false
        }
        durable.trim(to: firstIndex)
        log.trim(to: firstIndex)
        _ = step(.logStartAdvanced(to: firstIndex))
        return true
    }

    // MARK: Crashes

    /// Stops; of the pending writes only the first `survivors` reach the disk.
    func crash(survivors: Int) {
        _ = flush(survivors)
        writes = []
        held = []
        completedNumber = 0
        isUp = false
        incarnation += 1
    }

    /// The disk lost everything from `index` on, acknowledged or not; a member that does not notice
    /// is as sure of itself as before.
    func damage(from index: LogIndex, isNoticed: Bool = true) {
        precondition(!isUp, "damage is found at a start")
        if index <= durable.lastIndex, index > durable.base.index {
            durable.replace(from: index, with: [])
        }
        isDamaged = isDamaged || isNoticed
    }

    /// Starts from what is durable; `commitHint`, how far the disk says the log is committed, is cut
    /// to what is there.
    func restart(commitHint: LogIndex, settings: Settings, seed: UInt64) {
        precondition(!isUp, "only a member that is down starts")
        log = durable
        let commitIndex = max(min(commitHint, durable.lastIndex), durable.base.index)
        let restored = durable.restored(commitIndex: commitIndex, isElectable: !isDamaged)
        raft = Raft(self: id, restored: restored, settings: settings, seed: seed)
        isUp = true
        raft.checkInvariants()
    }
}
