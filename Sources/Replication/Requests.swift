import DequeModule
import FlotillaModel
import FlotillaRaft

/// Who waits for the group to do something other than append.
///
/// Completions are taken out here and called by the replica: they may ask for something again.
struct Requests {
    typealias TransferCompletion = (Result<GroupMember, ReplicationError>) -> Void
    typealias MembershipCompletion = (Result<Membership, ReplicationError>) -> Void
    typealias ReadCompletion = (Result<LogIndex, ReplicationError>) -> Void

    /// Who wants leadership to move; one at a time.
    var transfer: TransferCompletion?
    /// Who wants other members; one at a time.
    var membershipChange: MembershipCompletion?
    /// Reads whose index is not known, by their id; rising.
    ///
    /// Raft bounds their number.
    private var unconfirmed = Deque<(id: UInt64, completion: ReadCompletion)>()
    /// Reads whose index has to be applied; rising.
    private var confirmed = Deque<(index: LogIndex, completion: ReadCompletion)>()
    private var lastReadID: UInt64 = 0

    mutating func takeTransfer() -> TransferCompletion? {
        defer { transfer = nil }
        return transfer
    }

    mutating func takeMembershipChange() -> MembershipCompletion? {
        defer { membershipChange = nil }
        return membershipChange
    }

    /// Numbers a read.
    mutating func open(_ completion: @escaping ReadCompletion) -> UInt64 {
        lastReadID += 1
        unconfirmed.append((lastReadID, completion))
        return lastReadID
    }

    /// A read is linearizable once this index is applied.
    mutating func confirm(_ id: UInt64, at index: LogIndex) {
        guard let completion = takeRead(id) else { return }
        confirmed.append((index, completion))
    }

    mutating func takeRead(_ id: UInt64) -> ReadCompletion? {
        guard let place = unconfirmed.firstIndex(where: { $0.id == id }) else { return nil }
        return unconfirmed.remove(at: place).completion
    }

    /// Takes the next read whose index is applied.
    mutating func takeRead(
        upTo applied: LogIndex
    ) -> (index: LogIndex, completion: ReadCompletion)? {
        guard let first = confirmed.first, first.index <= applied else { return nil }
        return confirmed.removeFirst()
    }

    /// Tells everybody that nothing comes of it.
    func failAll(_ error: ReplicationError) {
        transfer?(.failure(error))
        membershipChange?(.failure(error))
        for read in unconfirmed { read.completion(.failure(error)) }
        for read in confirmed { read.completion(.failure(error)) }
    }
}
