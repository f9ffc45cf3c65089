import FlotillaModel

/// The reference logs of all partitions that ever were.
final class History {
    private unowned let world: World
    private var logs: [TopicPartition: ReferenceLog] = [:]
    private(set) var acknowledgedCount = 0
    private(set) var seenCount = 0

    init(world: World) {
        self.world = world
    }

    func log(_ partition: TopicPartition) -> ReferenceLog {
        if let log = logs[partition] { return log }
        let log = ReferenceLog()
        logs[partition] = log
        return log
    }

    /// Acknowledged records of a batch, from its first offset on.
    func acknowledged(_ values: [String], _ partition: TopicPartition, at offset: Int64) {
        let log = log(partition)
        judge(log.visibilityViolation(offset + Int64(values.count) - 1), partition)
        for (place, value) in values.enumerated() {
            acknowledgedCount += 1
            judge(log.note(acknowledged: value, at: offset + Int64(place)), partition)
        }
    }

    /// A reader got a record.
    func seen(_ value: String, _ partition: TopicPartition, at offset: Int64) {
        seenCount += 1
        let log = log(partition)
        judge(log.visibilityViolation(offset) ?? log.note(value, at: offset), partition)
    }

    /// Ends the run when something is wrong.
    func judge(_ problem: String?, _ partition: TopicPartition) {
        if let problem { world.violate("\(partition): \(problem)") }
    }
}
