import FlotillaCoordination
import struct NIOCore.ByteBuffer

/// What is decided about a group of the consumer protocol, in its order, and who is told when it is in the log.
///
/// One batch of a group is on its way at a time: where it does not come into the log, all that was decided on top of it is void as well.
struct GroupDecisions {
    /// A change, and the answer that tells of it; without records an answer that must not be given before what was decided earlier.
    struct Decision {
        var records: [GroupRecord]
        /// Who waits for it; nil where nobody does.
        var ticket: ReplyTicket?
        var answer: GroupAnswer
        /// Whether the group is one of the other protocol with it, so that nothing can be decided on top of it.
        var isLast = false
    }

    /// What is on its way into the log.
    private(set) var current: [Decision] = []
    /// What comes after it.
    private(set) var next: [Decision] = []

    /// How many bytes of records go into one batch, if it is more than one decision.
    private static let batchByteCount = 2 << 20

    /// Whether a batch holds records beside as many as are gathered from earlier decisions.
    static func fits(_ records: [GroupRecord]) -> Bool {
        let byteCount = records.reduce(0) { $0 + $1.approximateByteCount }
        return byteCount <= GroupCoordinator.batchByteLimit - 2 * batchByteCount
    }

    /// Whether nothing is on its way and nothing waits.
    var isEmpty: Bool { current.isEmpty && next.isEmpty }

    mutating func add(_ decision: Decision) { next.append(decision) }

    /// Begins the next batch.
    mutating func begin() -> [GroupRecord] {
        precondition(current.isEmpty, "one batch is on its way at a time")
        var byteCount = 0
        var isOver = false
        let count = next.prefix { decision in
            defer {
                isOver = isOver || decision.isLast
                byteCount += decision.records.reduce(0) { $0 + $1.approximateByteCount }
            }
            return byteCount <= Self.batchByteCount && !isOver
        }.count
        current = Array(next.prefix(count))
        next.removeFirst(count)
        return current.flatMap(\.records)
    }

    /// The batch is in the log.
    ///
    /// - Returns: what can be answered.
    mutating func end() -> [Decision] {
        defer { current.removeAll() }
        return current
    }
}

extension GroupRecord {
    /// About how many bytes it takes in a batch.
    fileprivate var approximateByteCount: Int {
        let name: String
        let record: ConsumerGroupRecord
        switch self {
        case .classicGroup(let name, let state):
            let members = state?.members ?? []
            return name.utf8.count + 256 + members.reduce(0) { $0 + $1.approximateByteCount }
        case .offset, .consumerGroup(_, nil): return 1_024
        case .consumerGroup(let group, let fact?): (name, record) = (group, fact)
        }
        let rest =
            switch record {
            case .epoch, .targetEpoch: 0
            case .topics(let topics):
                topics.values.reduce(0) { $0 + $1.name.utf8.count + 32 }
            case .member(let id, let subscription):
                id.utf8.count + (subscription.map { $0.byteCount + 512 } ?? 0)
            case .target(let id, let target): id.utf8.count + (target?.count ?? 0) * 20
            case .current(let id, let current):
                id.utf8.count
                    + ((current?.assigned.count ?? 0) + (current?.revoking.count ?? 0)) * 20
            }
        return name.utf8.count + 64 + rest
    }
}

extension ClassicGroupState.Member {
    /// About how many bytes it takes in a batch.
    fileprivate var approximateByteCount: Int {
        id.utf8.count + subscription.readableBytes + assignment.readableBytes + 1_024
    }
}
