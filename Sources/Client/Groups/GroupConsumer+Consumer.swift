import FlotillaKafkaWire
import FlotillaModel

// The consumer protocol: heartbeats say what is read, their answers what is to be read, and the member follows.

extension GroupConsumer {
    /// One round: follows what the coordinator wants this member to read, or waits for it to say so.
    func followConsumer() async throws(ClientError) {
        if modern.hasLostShare {
            guard await takeTurn() else { return }
            await giveUpLost()
            giveTurn()
            return beatAlarm.ring()
        }
        guard let target = modern.target, target != ownedIDs else {
            return await membershipAlarm.wait()
        }
        let share = try await names(of: target)
        if share == owned {
            // What is missing is of topics so new, or so long gone, that nobody can name them.
            throw .refused(
                .unknownTopicId,
                subject: "topics of group \(configuration.group)",
                message: nil
            )
        }
        let isCurrent = { self.modern.target == target && !self.modern.hasLostShare }
        guard isCurrent() else { return }
        // Each step is told at once: others wait for what is given up here.
        _ = try await adopt(
            share,
            acknowledge: { self.beatAlarm.ring() },
            isCurrent: isCurrent
        )
        beatAlarm.ring()
    }

    /// What this member reads, by ids.
    private var ownedIDs: Set<TopicPartition> {
        Set(owned.map { TopicPartition(topic: $1, partition: $0.index) })
    }

    /// The partitions by name, without those whose topics nobody names.
    private func names(
        of partitions: Set<TopicPartition>
    ) async throws(ClientError) -> [NamedPartition: TopicID] {
        var names: [TopicID: String] = [:]
        for partition in owned { names[partition.value] = partition.key.topic }
        let unknown = partitions.filter { names[$0.topic] == nil }
        if !unknown.isEmpty {
            let isPattern = configuration.topics.isEmpty
            let metadata = try await client.metadata(topics: isPattern ? nil : configuration.topics)
            for topic in metadata.topics where topic.error == .noError {
                names[topic.id] = topic.name
            }
        }
        var named: [NamedPartition: TopicID] = [:]
        for partition in partitions.sorted() {
            guard let name = names[partition.topic] else { continue }
            named[NamedPartition(topic: name, index: partition.partition)] = partition.topic
        }
        return named
    }

    /// Sends a heartbeat, unless the application must give something up first.
    ///
    /// - Returns: whether the coordinator is known and answers.
    func beatConsumer() async -> Bool {
        guard !modern.hasLostShare, isLiving else { return true }
        let said = ownedIDs
        let epoch = modern.epoch
        let request = modern.heartbeat(reading: said)
        do throws(ClientError) {
            let response = try await ask(within: patience) { _ in request }
            // It may have left meanwhile.
            guard modern.epoch == epoch, !modern.hasLostShare else { return true }
            switch modern.take(response, to: said) {
            case .fine: return true
            case .newShare, .isLost:
                membershipAlarm.ring()
                return true
            case .coordinatorMoved:
                coordinator = nil
                return false
            case .fails(let error):
                fail(error)
                return true
            }
        } catch {
            modern.missAnswer()
            if isPassing(error) { configuration.listener.troubled(error) } else { fail(error) }
            return false
        }
    }
}
