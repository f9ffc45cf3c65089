import FlotillaModel

/// A group that commits what it has processed processes every record at least once.
final class ProcessingChecker {
    private unowned let world: World
    private let history: History
    private var progress: [Place: Progress] = [:]

    private struct Place: Hashable {
        var group: String
        var partition: TopicPartition
    }

    private struct Progress {
        /// All records below were processed.
        var end: Int64 = 0
        /// What was processed beyond.
        var others: Set<Int64> = []
    }

    init(world: World, history: History) {
        self.world = world
        self.history = history
    }

    /// A member has processed a record.
    func processed(_ offset: Int64, of partition: TopicPartition, by group: String) {
        let place = Place(group: group, partition: partition)
        var known = progress.removeValue(forKey: place) ?? Progress()
        if offset >= known.end { known.others.insert(offset) }
        while known.others.remove(known.end) != nil { known.end += 1 }
        progress[place] = known
    }

    /// A member is about to commit an offset: what lies below nobody will look at any more.
    func commits(_ offset: Int64, of partition: TopicPartition, by group: String) {
        let end = end(of: partition, group)
        guard offset > end else { return }
        world.lose(
            "group \(group) goes on at offset \(offset) of \(partition), and nobody has processed \(end)",
            of: partition
        )
    }

    /// How far a group is that has yet to process something.
    func whatIsLeft(of partition: TopicPartition, for group: String) -> String? {
        let end = end(of: partition, group)
        let last = history.log(partition).endOffset
        guard end < last else { return nil }
        return "group \(group) has processed \(partition) up to \(end) of \(last)"
    }

    private func end(of partition: TopicPartition, _ group: String) -> Int64 {
        progress[Place(group: group, partition: partition)]?.end ?? 0
    }
}
