import FlotillaModel
import FlotillaRaft

/// What must hold over all members together; every violation is a sentence.
///
/// - Source: Ongaro and Ousterhout (2014), figure 3.
struct RaftChecker {
    private struct Place: Hashable {
        var index: LogIndex
        var term: Term
    }

    private struct Content: Hashable {
        var entry: TestEntry
        var previousTerm: Term
    }

    private struct Ballot: Hashable {
        var voter: GroupMember
        var term: Term
    }

    private(set) var violations: [String] = []
    /// Every entry that any member has committed, from index 1.
    private(set) var committed: [TestEntry] = []
    /// The newest membership among them.
    private(set) var committedMembership: Membership
    private var leaders: [Term: GroupMember] = [:]
    private var contents: [Place: Content] = [:]
    private var votes: [Ballot: GroupMember] = [:]
    private var applied: [GroupMember: LogIndex] = [:]
    private var reads: [UInt64: LogIndex] = [:]

    init(membership: Membership) {
        committedMembership = membership
    }

    var committedIndex: LogIndex {
        LogIndex(UInt64(committed.count))
    }

    private mutating func expect(_ condition: Bool, _ sentence: @autoclosure () -> String) {
        if !condition {
            violations.append(sentence())
        }
    }

    // MARK: Log matching

    /// An entry is determined by its index and term, and so is the term before it: hence logs that
    /// agree on an entry agree on all before it.
    mutating func noteEntry(at index: LogIndex, of member: TestMember) {
        guard let previousTerm = member.log.term(at: index - 1) else {
            return
        }
        let entry = member.log.entries[member.log.position(of: index)]
        let content = Content(entry: entry, previousTerm: previousTerm)
        let known = contents.updateValue(content, forKey: Place(index: index, term: entry.term))
        expect(
            known == nil || known == content,
            "log matching: entry \(index) of term \(entry.term) differs at \(member.id)"
        )
    }

    // MARK: Elections

    mutating func noteLeader(_ member: TestMember) {
        let term = member.raft.term
        let known = leaders.updateValue(member.id, forKey: term)
        expect(
            known == nil || known == member.id,
            "election safety: term \(term) has leaders \(member.id) and \(String(describing: known))"
        )
        for (offset, entry) in committed.enumerated() {
            let index = LogIndex(UInt64(offset) + 1)
            guard index > member.log.base.index else {
                continue
            }
            guard index <= member.log.lastIndex,
                member.log.entries[member.log.position(of: index)] == entry
            else {
                expect(
                    false,
                    "leader completeness: \(member.id) of term \(term) lacks entry \(index)"
                )
                return
            }
        }
    }

    mutating func noteVote(
        _ response: VoteResponse,
        by voter: GroupMember,
        for candidate: GroupMember
    ) {
        guard response.isGranted else {
            return
        }
        let ballot = Ballot(voter: voter, term: response.term)
        let known = votes.updateValue(candidate, forKey: ballot)
        expect(
            known == nil || known == candidate,
            "one vote per term: \(voter) voted twice in term \(response.term)"
        )
    }

    // MARK: Commits

    /// A member has committed up to `index`: it applies what everybody else applied there.
    mutating func noteCommit(of member: TestMember, upTo index: LogIndex) {
        var next = max(applied[member.id] ?? .zero, member.log.base.index).next
        expect(index >= next - 1 || applied[member.id] == nil, "\(member.id) commits backwards")
        while next <= index {
            let entry = member.log.entries[member.log.position(of: next)]
            if next <= committedIndex {
                expect(
                    committed[Int(next.rawValue) - 1] == entry,
                    "state machine safety: \(member.id) applies another entry \(next)"
                )
            } else {
                expect(next == committedIndex.next, "\(member.id) commits past a gap")
                committed.append(entry)
                if case .membership(let membership) = entry.kind {
                    committedMembership = membership
                }
            }
            next = next.next
        }
        applied[member.id] = index
    }

    /// Files replaced a log up to a position: it must be a committed one.
    mutating func noteInstall(_ position: LogPosition, at member: GroupMember) {
        let index = Int(position.index.rawValue)
        expect(
            index <= committed.count && committed[index - 1].term == position.term,
            "state machine safety: \(member) installs files that were never committed"
        )
        applied[member] = position.index
    }

    /// A member starts again and applies from the beginning.
    mutating func noteStart(of member: GroupMember, at commitIndex: LogIndex) {
        applied[member] = commitIndex
    }

    /// An index counts only when enough disks have it.
    mutating func noteDurable(
        _ index: LogIndex,
        term: Term,
        in membership: Membership,
        quorum: Quorum,
        members: [TestMember]
    ) {
        let isDurable = membership.hasQuorum(quorum) { voter in
            members.contains {
                $0.id == voter
                    && ($0.durable.term(at: index) == term || $0.durable.base.index >= index)
            }
        }
        expect(isDurable, "entry \(index) counts as committed but is not on enough disks")
    }

    // MARK: Reads

    mutating func noteReadAsked(_ requestID: UInt64) {
        reads[requestID] = committedIndex
    }

    mutating func noteReadReady(_ requestID: UInt64, _ index: LogIndex) {
        let least = reads[requestID] ?? .zero
        expect(index >= least, "linearizable reads: \(requestID) at \(index) misses \(least)")
    }

    mutating func noteStuck(_ sentence: String) {
        violations.append("progress: \(sentence)")
    }
}
