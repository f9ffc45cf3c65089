import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// OffsetFetch (9): what is committed, and durable on a majority. SEMANTICS section 5.8.
extension Shard {
    func handle(_ request: OffsetFetchRequest, _ context: RequestContext) {
        let partitionCount =
            (request.topics ?? []).reduce(0) { $0 + $1.partitionIndexes.count }
            + request.groups.reduce(0) { count, group in
                (group.topics ?? []).reduce(count) { $0 + $1.partitionIndexes.count }
            }
        let isTooLarge = partitionCount > Self.fetchedOffsetLimit
        if context.version >= 8 { return fetchOffsets(of: request.groups, isTooLarge, context) }
        let wanted = request.topics.map { topics in
            topics.map { WantedOffsets(topic: $0.name, partitions: $0.partitionIndexes) }
        }
        ask(request.groupId, wanted, by: nil, isTooLarge) { found in
            context.respond(
                OffsetFetchResponse(
                    topics: found.topics.map { topic in
                        .init(
                            name: topic.wanted.topic ?? "",
                            partitions: topic.offsets.map { partition, offset in
                                .init(
                                    partitionIndex: partition,
                                    committedOffset: offset?.offset ?? -1,
                                    committedLeaderEpoch: offset?.leaderEpoch ?? -1,
                                    metadata: offset?.metadata ?? "",
                                    errorCode: found.error.rawValue
                                )
                            }
                        )
                    },
                    errorCode: found.error.rawValue
                )
            )
        }
    }

    /// The most partitions that one request may ask about.
    private static let fetchedOffsetLimit = 1_000_000

    /// A topic as the client names it, and the partitions of it that it asks about.
    private struct WantedOffsets {
        /// Nil for an id that no topic has.
        var topic: String?
        var id = TopicID.zero
        var partitions: [Int32]
    }

    /// What was found of a group, in the order of the question.
    private struct FoundOffsets {
        var error: ErrorCode
        var topics: [(wanted: WantedOffsets, offsets: [(partition: Int32, CommittedOffset?)])]
    }

    /// Asks a group's coordinator; `wanted`: nil for everything that the group has committed.
    private func ask(
        _ group: String,
        _ wanted: [WantedOffsets]?,
        by member: GroupMembership?,
        _ isTooLarge: Bool,
        then completion: @escaping (FoundOffsets) -> Void
    ) {
        let keys = wanted.map { topics in
            topics.flatMap { topic in
                (topic.topic == nil ? [] : topic.partitions).map { partition in
                    OffsetKey(topic: topic.topic ?? "", partition: partition)
                }
            }
        }
        guard !isTooLarge else {
            return completion(FoundOffsets(error: .invalidRequest, topics: []))
        }
        askCoordinator(of: group, .offsets(keys, by: member)) { [unowned self] answer in
            switch answer {
            case .error(let error):
                completion(
                    FoundOffsets(
                        error: error,
                        topics: (wanted ?? []).map { ($0, $0.partitions.map { ($0, nil) }) }
                    )
                )
            case .offsets(let offsets):
                let topics = wanted.map { Self.sorted(offsets, as: $0) } ?? self.byTopic(offsets)
                completion(FoundOffsets(error: .noError, topics: topics))
            default: preconditionFailure("offsets are answered as such")
            }
        }
    }

    private static func sorted(
        _ offsets: [(key: OffsetKey, offset: CommittedOffset?)],
        as wanted: [WantedOffsets]
    ) -> [(wanted: WantedOffsets, offsets: [(partition: Int32, CommittedOffset?)])] {
        var rest = offsets[...]
        return wanted.map { topic in
            guard topic.topic != nil else { return (topic, topic.partitions.map { ($0, nil) }) }
            return (
                topic,
                topic.partitions.map { partition in
                    let offset = rest.removeFirst().offset
                    let isOther =
                        topic.id != .zero && offset?.topic.map { $0.id != topic.id } == true
                    return (partition, isOther ? nil : offset)
                }
            )
        }
    }

    /// Commits of one topic stand together; a topic that is gone is left out where ids are wanted.
    private func byTopic(
        _ offsets: [(key: OffsetKey, offset: CommittedOffset?)]
    ) -> [(wanted: WantedOffsets, offsets: [(partition: Int32, CommittedOffset?)])] {
        var topics: [(wanted: WantedOffsets, offsets: [(partition: Int32, CommittedOffset?)])] = []
        for (key, offset) in offsets {
            if topics.last?.wanted.topic != key.topic {
                let id = image.topic(named: key.topic)?.id ?? .zero
                topics.append((WantedOffsets(topic: key.topic, id: id, partitions: []), []))
            }
            topics[topics.count - 1].offsets.append((key.partition, offset))
        }
        return topics
    }

    // MARK: Several groups

    private func fetchOffsets(
        of groups: [OffsetFetchRequest.OffsetFetchRequestGroup],
        _ isTooLarge: Bool,
        _ context: RequestContext
    ) {
        // A group that is asked for again and again is answered once.
        var seen: Set<String> = []
        let groups = groups.filter { seen.insert($0.groupId).inserted }
        let usesIDs = context.version >= 10
        let gathering = Gathering<OffsetFetchResponse.OffsetFetchResponseGroup>(
            count: groups.count
        ) { answers in
            context.respond(OffsetFetchResponse(groups: answers))
        }
        for (place, group) in groups.enumerated() {
            let wanted = group.topics.map { topics in
                topics.map { topic in
                    WantedOffsets(
                        topic: usesIDs ? image.topic(topic.topicId)?.name : topic.name,
                        id: topic.topicId,
                        partitions: topic.partitionIndexes
                    )
                }
            }
            ask(group.groupId, wanted, by: group.membership, isTooLarge) { found in
                gathering.put(Self.describe(group.groupId, found, usesIDs: usesIDs), at: place)
            }
        }
        gathering.finishIfComplete()
    }

    private static func describe(
        _ group: String,
        _ found: FoundOffsets,
        usesIDs: Bool
    ) -> OffsetFetchResponse.OffsetFetchResponseGroup {
        guard found.error == .noError else {
            return .init(groupId: group, topics: [], errorCode: found.error.rawValue)
        }
        let topics = found.topics.filter { !usesIDs || $0.wanted.id != .zero }
        return .init(
            groupId: group,
            topics: topics.map { topic in
                let isUnknown = topic.wanted.topic == nil
                return .init(
                    name: usesIDs ? "" : topic.wanted.topic ?? "",
                    topicId: usesIDs ? topic.wanted.id : .zero,
                    partitions: topic.offsets.map { partition, offset in
                        .init(
                            partitionIndex: partition,
                            committedOffset: offset?.offset ?? -1,
                            committedLeaderEpoch: offset?.leaderEpoch ?? -1,
                            metadata: offset?.metadata ?? "",
                            errorCode: isUnknown ? ErrorCode.unknownTopicId.rawValue : 0
                        )
                    }
                )
            }
        )
    }
}

extension OffsetFetchRequest.OffsetFetchRequestGroup {
    /// Who asks, where it names itself (OF-3).
    fileprivate var membership: GroupMembership? {
        guard let memberId, memberEpoch >= 0 else { return nil }
        return GroupMembership(
            member: memberId,
            instanceID: nil,
            generation: memberEpoch,
            knowsEpochs: true
        )
    }
}
