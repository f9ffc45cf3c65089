import FlotillaBroker
import FlotillaCoordination
import FlotillaModel
import NIOCore

/// What the broker can tell of groups over HTTP, whoever coordinates them.
extension BrokerNode {
    /// What happened to a group lately.
    func groupHistory(_ group: String) async -> GroupQuestions.Outcome<GroupHistoryReport> {
        let place = running.places[0]
        let result = await withCheckedContinuation { continuation in
            place.eventLoop.execute {
                place.shard.value.groupHistory(of: group) { continuation.resume(returning: $0) }
            }
        }
        return GroupQuestions.Outcome(result) { GroupHistoryReport(group, $0) }
    }

    /// How far a group is behind.
    func groupLag(_ group: String) async -> GroupQuestions.Outcome<GroupLagReport> {
        let place = running.places[0]
        let result = await withCheckedContinuation { continuation in
            place.eventLoop.execute {
                place.shard.value.groupLag(of: group) { continuation.resume(returning: $0) }
            }
        }
        return GroupQuestions.Outcome(result) { GroupLagReport(group, $0) }
    }

    /// How far the groups are behind that this broker coordinates.
    static func lagSamples(_ place: Place, _ metrics: MetricsRegistry?) async -> [MetricSample] {
        let (commits, now) = await withCheckedContinuation { continuation in
            place.eventLoop.execute {
                place.shard.value.ownLags { commits in
                    continuation.resume(returning: (commits, place.shard.value.wallTime))
                }
            }
        }
        metrics?.droppedSeries(commits.droppedCount * GroupSamples.lagSeriesCount)
        return GroupSamples.samples(commits.groups, at: now)
    }
}

extension GroupQuestions.Outcome {
    fileprivate init<Reply>(_ result: Result<Reply, Refusal>, _ report: (Reply) -> Answer) {
        switch result {
        case .success(let reply): self = .found(report(reply))
        case .failure(let refusal) where refusal.code == .groupIdNotFound:
            self = .notFound(refusal.message)
        case .failure(let refusal): self = .unavailable(refusal.message)
        }
    }
}

extension GroupLagReport {
    fileprivate init(_ group: String, _ reply: GroupLagReply) {
        let all = GroupPositions(group: group, positions: reply.positions)
        self.init(
            group: group,
            coordinator: reply.coordinator.rawValue,
            time: reply.time.rawValue,
            records: all.records,
            milliseconds: all.milliseconds(at: reply.time),
            partitions: reply.positions.map { position in
                Partition(
                    topic: position.key.topic,
                    partition: position.key.partition,
                    committed: position.committed.rawValue,
                    end: position.end?.rawValue,
                    records: position.records,
                    milliseconds: position.milliseconds(at: reply.time)
                )
            }
        )
    }
}

extension GroupHistoryReport {
    fileprivate init(_ group: String, _ reply: GroupHistoryReply) {
        self.init(
            group: group,
            coordinator: reply.coordinator.rawValue,
            dropped: reply.droppedCount,
            events: reply.lines.map { line in
                Event(
                    time: line.time.rawValue,
                    lastTime: line.lastTime.rawValue,
                    count: line.count,
                    event: line.event,
                    text: line.text,
                    names: line.words,
                    numbers: line.numbers
                )
            }
        )
    }
}
