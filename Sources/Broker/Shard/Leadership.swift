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

    /// Takes in a statement, unless a newer one is known.
    mutating func note(_ update: LeadershipUpdate) {
        if let known = entries[update.partition], known.term > update.term { return }
        entries[update.partition] = Entry(term: update.term, leader: update.leader)
    }

    /// Forgets a partition whose topic is gone.
    mutating func forget(_ partition: TopicPartition) {
        entries[partition] = nil
    }

    /// Where to send a client.
    func hint(for partition: TopicPartition) -> LeaderHint {
        guard let entry = entries[partition], let leader = entry.leader else { return .unknown }
        return LeaderHint(leader: leader.rawValue, epoch: entry.term.leaderEpoch)
    }
}
