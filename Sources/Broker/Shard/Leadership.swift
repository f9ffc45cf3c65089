import FlotillaModel

/// Who leads which partition, as this shard has heard; the highest term wins.
///
/// Soft state: it is told again after every restart, and never decides anything but where clients are sent.
struct Leadership {
    /// A partition's leader in a term.
    struct Entry {
        var term: Term
        var leader: BrokerID?
        /// Who led last, where nobody does and that broker was just lost.
        var former: Former?

        /// Who was the last to lead, as far as this shard knows.
        var latest: Former? { leader.map { Former(term: term, leader: $0) } ?? former }
    }

    /// A leader of a term that may be over.
    struct Former {
        var term: Term
        var leader: BrokerID
    }

    private var entries: [TopicPartition: Entry] = [:]

    /// The leader of a partition as far as this shard knows.
    func leader(of partition: TopicPartition) -> Entry? {
        entries[partition]
    }

    /// Who leads each partition, where that is known.
    var leaders: [TopicPartition: BrokerID] { entries.compactMapValues(\.leader) }

    /// Takes in a statement, unless a newer one is known.
    ///
    /// A term has one leader at most: that somebody does not know it takes nothing away from who does.
    ///
    /// `isJustLost`: whether clients are still to be told of a broker. One that was not lost when its leadership ended is
    /// forgotten with it: clients have been told of the newer term, and epochs do not go back.
    mutating func note(_ update: LeadershipUpdate, isJustLost: (BrokerID) -> Bool) {
        let known = entries[update.partition]
        if let known {
            if known.term > update.term { return }
            if known.term == update.term, known.leader != nil, update.leader == nil,
                !update.isResignation
            {
                return
            }
        }
        entries[update.partition] = Entry(
            term: update.term,
            leader: update.leader,
            former: update.leader == nil
                ? known?.latest.flatMap { isJustLost($0.leader) ? $0 : nil } : nil
        )
    }

    /// What a broker leads, in an order that does not depend on hashing.
    func led(by broker: BrokerID) -> [LeadershipUpdate] {
        entries.filter { $0.value.leader == broker }.sorted { $0.key < $1.key }.map { id, entry in
            LeadershipUpdate(partition: id, term: entry.term, leader: broker)
        }
    }

    /// Forgets a partition whose topic is gone.
    mutating func forget(_ partition: TopicPartition) {
        entries[partition] = nil
    }
}
