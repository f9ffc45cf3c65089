import FlotillaModel

/// Who leads which partition, as this shard has heard; the highest term wins.
///
/// Soft state: it is told again after every restart, and never decides anything but where clients are sent.
struct Leadership {
    /// A partition's leader in a term.
    struct Entry {
        var term: Term
        var leader: BrokerID?
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
    mutating func note(_ update: LeadershipUpdate) {
        if let known = entries[update.partition] {
            if known.term > update.term { return }
            if known.term == update.term, known.leader != nil, update.leader == nil,
                !update.isResignation
            {
                return
            }
        }
        entries[update.partition] = Entry(term: update.term, leader: update.leader)
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
