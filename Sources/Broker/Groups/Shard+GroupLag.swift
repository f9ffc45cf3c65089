package import FlotillaCoordination
import FlotillaEnvironment
package import FlotillaModel

/// How far a group is behind in one partition.
package struct GroupPosition: Hashable, Sendable {
    package var key: OffsetKey
    /// The next record that it will read, as it committed.
    package var committed: Offset
    /// One past the last record; nil where nobody can tell.
    package var end: Offset?
    /// The first record that can be read.
    package var start: Offset?
    /// The time of the first batch that is not read; nil where there is none, and where it is not known.
    package var time: Timestamp?

    /// The records that are not read; nil where nobody can tell.
    package var records: Int64? {
        guard let end, let start else { return nil }
        return Swift.max(0, end.rawValue - Swift.max(committed, start).rawValue)
    }

    /// The age of the first of them in milliseconds; 0 where all are read, nil where nobody can tell.
    package func milliseconds(at now: Timestamp) -> Int64? {
        guard let records else { return nil }
        if records == 0 { return 0 }
        return time.map { Swift.max(0, now.rawValue - $0.rawValue) }
    }
}

/// How far a group is behind.
package struct GroupPositions: Hashable, Sendable {
    package var group: String
    /// By topic and partition.
    package var positions: [GroupPosition]

    /// States what is known of a group.
    package init(group: String, positions: [GroupPosition]) {
        self.group = group
        self.positions = positions
    }

    /// The records that are not read in all partitions of which that is known; nil where it is known of none.
    package var records: Int64? {
        let known = positions.compactMap(\.records)
        return known.isEmpty ? nil : known.reduce(0) { $0.addingReportingOverflow($1).partialValue }
    }

    /// The age of the oldest of them in milliseconds; nil where nobody can tell.
    package func milliseconds(at now: Timestamp) -> Int64? {
        positions.compactMap { $0.milliseconds(at: now) }.max()
    }
}

/// What groups have committed, and how many were left out.
package struct GroupCommits: Hashable, Sendable {
    /// Each with its commits, by topic and partition.
    package var groups: [GroupPositions] = []
    /// The groups that there was no room for.
    package var droppedCount = 0
}

/// Lag, found by the broker that coordinates the groups.
extension Shard {
    /// The most groups that are looked at in one go.
    package static let lagGroupLimit = 1_000
    /// The most partitions of all groups that are looked at in one go.
    static let lagPartitionLimit = 20_000
    /// The most partitions in one call, after which others have a turn.
    private static let lagChunk = 256

    /// How far the groups that this broker coordinates are behind, by name; those that are beyond a limit are counted.
    package func ownLags(then completion: @escaping (GroupCommits) -> Void) {
        let shards = Array(0..<settings.shardCount)
        gather(shards) { shard, done in
            ask(shard, .groupCommits) { reply in
                guard case .groupCommits(let commits) = reply else {
                    preconditionFailure("a call about commits is answered as one")
                }
                done(commits)
            }
        } then: { [unowned self] parts in
            var all = GroupCommits()
            var partitionCount = 0
            let groups = parts.flatMap(\.groups).sorted { $0.group < $1.group }
            for group in groups {
                partitionCount += group.positions.count
                guard all.groups.count < Self.lagGroupLimit,
                    partitionCount <= Self.lagPartitionLimit
                else { break }
                all.groups.append(group)
            }
            all.droppedCount =
                groups.count - all.groups.count + parts.reduce(0) { $0 + $1.droppedCount }
            self.fill(all.groups) { filled in
                all.groups = filled
                completion(all)
            }
        }
    }

    /// What the groups that are coordinated on this shard have committed.
    ///
    /// As this broker knows it: a coordinator that was just deposed may tell something older.
    var groupCommits: GroupCommits {
        var commits = GroupCommits()
        var partitionCount = 0
        for coordinator in allPartitions.compactMap(\.coordinator) where coordinator.isServing {
            for name in coordinator.machine.table.groups.keys.sorted() {
                let offsets = coordinator.offsets(of: name)
                guard !offsets.isEmpty else { continue }
                partitionCount += offsets.count
                guard commits.groups.count < Self.lagGroupLimit,
                    partitionCount <= Self.lagPartitionLimit
                else {
                    commits.droppedCount += 1
                    continue
                }
                commits.groups.append(GroupPositions(group: name, offsets))
            }
        }
        return commits
    }

    /// How far a group is behind, wherever it is coordinated.
    package func groupLag(
        of group: String,
        then completion: @escaping (Result<GroupLagReply, Refusal>) -> Void
    ) {
        askAboutGroup(group, own: ownLag, elsewhere: { .lag($0) }, then: completion) {
            if case .lag(let reply) = $0 { reply } else { nil }
        }
    }

    /// How far a group is behind that this broker coordinates.
    func ownLag(of place: GroupPlace, then completion: @escaping (PeerAnswer) -> Void) {
        let call = GroupCall(partition: place.partition, group: place.group, question: .commits)
        ask(settings.shard(of: place.partition), .groups([call])) { [unowned self] reply in
            guard case .groups(let answers) = reply else {
                preconditionFailure("a call about groups is answered as one")
            }
            switch answers[0] {
            case .commits(let positions):
                self.fill([positions]) { filled in
                    completion(
                        .lag(
                            GroupLagReply(
                                coordinator: self.settings.broker,
                                time: self.wallTime,
                                positions: filled[0].positions
                            )
                        )
                    )
                }
            case .error(let code): completion(.refused(Self.refusal(code, of: place.group)))
            case .joined, .synced, .left, .offsets, .committed, .deletedOffsets, .described,
                .describedConsumer, .heartbeat, .refused, .history:
                preconditionFailure("a question is answered as what it is")
            }
        }
    }

    // MARK: Positions

    /// Adds ends and times to what groups have committed.
    private func fill(
        _ groups: [GroupPositions],
        then completion: @escaping ([GroupPositions]) -> Void
    ) {
        var asked: [BrokerID: [LagQuestion]] = [:]
        for (group, each) in groups.enumerated() {
            for (place, position) in each.positions.enumerated() {
                let key = position.key
                guard case .success(let id) = resolve(key.topic, key.partition),
                    let broker = whoKnows(id)
                else { continue }
                let call = PositionCall(partition: id, offset: position.committed)
                asked[broker, default: []].append(
                    LagQuestion(group: group, place: place, call: call)
                )
            }
        }
        var filled = groups
        let chunks = asked.sorted { $0.key < $1.key }.flatMap { broker, questions in
            stride(from: 0, to: questions.count, by: Self.lagChunk).map { start in
                (broker, Array(questions[start..<min(start + Self.lagChunk, questions.count)]))
            }
        }
        ask(chunks[...]) { question, reply in
            guard reply.error == .noError else { return }
            filled[question.group].positions[question.place].start = reply.logStartOffset
            filled[question.group].positions[question.place].end = reply.highWatermark
            filled[question.group].positions[question.place].time = reply.time
        } then: {
            completion(filled)
        }
    }

    /// A partition that a group has committed for: which of the groups, and which of its commits.
    private struct LagQuestion {
        var group: Int
        var place: Int
        var call: PositionCall
    }

    /// The broker to ask about a partition: the leader, and where none is known this one if it has a replica, which may be late.
    private func whoKnows(_ id: TopicPartition) -> BrokerID? {
        if let leader = leadership.leader(of: id)?.leader { return leader }
        let replicas = image.topic(id.topic)?.partitions[Int(id.partition)].replicas ?? []
        return replicas.contains { $0.broker == settings.broker } ? settings.broker : nil
    }

    /// Asks one chunk after the other; between two of them others have a turn.
    private func ask(
        _ chunks: ArraySlice<(BrokerID, [LagQuestion])>,
        each: @escaping (LagQuestion, PositionReply) -> Void,
        then completion: @escaping () -> Void
    ) {
        guard let (broker, questions) = chunks.first else { return completion() }
        positions(of: questions.map(\.call), at: broker) { [unowned self] replies in
            for (question, reply) in zip(questions, replies ?? []) { each(question, reply) }
            // A broker that does not answer is waited for once.
            let rest = replies == nil ? chunks.drop { $0.0 == broker } : chunks.dropFirst()
            guard !rest.isEmpty else { return completion() }
            self.schedule(after: .zero) { [unowned self] in
                self.ask(rest, each: each, then: completion)
            }
        }
    }

    private func positions(
        of calls: [PositionCall],
        at broker: BrokerID,
        then completion: @escaping ([PositionReply]?) -> Void
    ) {
        guard broker != settings.broker else { return ownPositions(calls, then: completion) }
        ask(broker, .positions(calls)) { answer in
            guard case .positions(let replies) = answer, replies.count == calls.count else {
                return completion(nil)
            }
            completion(replies)
        }
    }

    /// What this broker's replicas know.
    func ownPositions(
        _ calls: [PositionCall],
        then completion: @escaping ([PositionReply]) -> Void
    ) {
        let items: [Result<PositionCall, Settled<PositionReply>>] = calls.map { .success($0) }
        scatter(items, partition: \.partition, call: { .positions($0) }) { reply in
            if case .positions(let replies) = reply { replies } else { nil }
        } then: {
            completion($0)
        }
    }
}

/// How far a group is behind, and who found out when.
package struct GroupLagReply: Hashable, Sendable {
    package var coordinator: BrokerID
    package var time: Timestamp
    /// By topic and partition.
    package var positions: [GroupPosition]
}

extension GroupPositions {
    /// What a group has committed.
    fileprivate init(group: String, _ offsets: [OffsetKey: CommittedOffset]) {
        self.init(
            group: group,
            positions: offsets.sorted { $0.key < $1.key }.map { key, offset in
                GroupPosition(key: key, committed: Offset(offset.offset))
            }
        )
    }
}

extension GroupCoordinator {
    /// Counts the groups, their members and what they did.
    func count(into statistics: inout ShardStatistics) {
        for listing in listings {
            let kind = ShardStatistics.GroupKind(type: listing.type, state: listing.state)
            statistics.groupCounts[kind, default: 0] += 1
        }
        statistics.groupMemberCount += groups.values.reduce(0) { $0 + $1.group.memberCount }
        statistics.groupMemberCount += consumerGroups.values.reduce(0) { $0 + $1.group.memberCount }
    }

    /// What a group has committed, as this broker knows it; an error for a group that is not there.
    func commits(_ name: String) -> GroupAnswer {
        guard
            machine.table.groups[name] != nil || groups[name] != nil || consumerGroups[name] != nil
        else { return .error(.groupIdNotFound) }
        return .commits(GroupPositions(group: name, offsets(of: name)))
    }
}
