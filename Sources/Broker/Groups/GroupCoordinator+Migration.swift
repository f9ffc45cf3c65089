import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Groups whose members change from one protocol to the other while they read.
///
/// The first member of the consumer protocol takes the whole group with it; those of the classic protocol stay, and are served by
/// `ConsumerGroup`. When the last member of the consumer protocol has gone, the others are a classic group again.
/// - Source: SEMANTICS rule MIG-1; KIP-848.
extension GroupCoordinator {
    // MARK: There

    /// Has a classic group with members go on as one of the consumer protocol, for the first member that uses it.
    ///
    /// - Returns: why that cannot be; nil when it is done.
    func upgrade(_ name: String, for request: ConsumerHeartbeat) -> HeartbeatRefusal? {
        guard let live = groups[name] else { return nil }
        let state = live.group.state
        guard shard.config.allowsGroupUpgrade else {
            return HeartbeatRefusal(
                .groupIdNotFound,
                "the group \(name) has members of the classic protocol, and may not change"
            )
        }
        let protocols = live.group.supportedProtocols
        var members: [String: (subscription: ConsumerSubscription, assigned: Set<TopicPartition>)] =
            [:]
        for member in state.members {
            let known = protocols[member.id] ?? []
            guard state.protocolType == Self.consumerType,
                let subscription = subscription(of: member, known)
            else {
                return HeartbeatRefusal(
                    .groupIdNotFound,
                    "the group \(name) has members that say what they want in a form of their own"
                )
            }
            members[member.id] = (subscription, assigned(member.assignment))
        }
        let group = ConsumerGroup(
            name: name,
            generation: state.generation,
            members: members,
            settings: consumerSettings(name),
            shard.image,
            now: now
        )
        if let refusal = refusal(of: request, in: group) { return refusal }
        var effects: [ClassicGroup.Effect] = []
        groups[name]?.group.dissolve(into: &effects)
        if let timer = live.timer { shard.timers.cancel(timer.id) }
        groups[name] = nil
        perform(effects, of: name)
        consumerGroups[name] = Live(group: group)
        return nil
    }

    /// Why the first member of the consumer protocol is not let in, or would change more than one batch holds; nothing has changed then.
    private func refusal(
        of request: ConsumerHeartbeat,
        in group: ConsumerGroup
    ) -> HeartbeatRefusal? {
        var trial = group
        do throws(HeartbeatRefusal) {
            _ = try trial.heartbeat(request, shard.image, now: now)
        } catch {
            return error
        }
        let facts = trial.takeRecords().map { GroupRecord.consumerGroup(name: trial.name, $0) }
        guard GroupDecisions.fits(facts) else {
            return HeartbeatRefusal(
                .groupIdNotFound,
                "the members of the classic protocol in \(trial.name) say too much of themselves for one change"
            )
        }
        return nil
    }

    private func subscription(
        of member: ClassicGroupState.Member,
        _ protocols: [GroupProtocol]
    ) -> ConsumerSubscription? {
        guard let metadata = protocols.first?.metadata, let told = Told(metadata) else {
            return nil
        }
        var subscription = told.subscription
        subscription.instanceID = member.instanceID
        subscription.clientID = member.clientID
        subscription.clientHost = member.clientHost
        subscription.rebalanceTimeoutMillis = member.rebalanceTimeoutMillis
        subscription.classic = ClassicSupport(
            sessionTimeoutMillis: member.sessionTimeoutMillis,
            protocols: protocols
        )
        return subscription
    }

    /// What a classic member says of itself in the consumers' own form.
    private struct Told {
        var topics: [String]
        var rack: String?
        var owned: [ConsumerProtocolSubscription.TopicPartition]

        /// What it wants, as the consumer protocol has it.
        var subscription: ConsumerSubscription {
            var subscription = ConsumerSubscription()
            subscription.topics = topics
            subscription.rack = rack
            return subscription
        }

        init?(_ metadata: ByteBuffer) {
            do throws(WireError) {
                let told = try ConsumerProtocolSubscription(
                    versionPrefixed: metadata,
                    acceptsNewer: true
                )
                topics = Set(told.topics).sorted()
                rack = told.rackId.flatMap { $0.isEmpty ? nil : $0 }
                owned = told.ownedPartitions
            } catch {
                return nil
            }
        }
    }

    /// The partitions of a share that a classic member assigned; of one in another form none.
    private func assigned(_ share: ByteBuffer) -> Set<TopicPartition> {
        do throws(WireError) {
            let told = try ConsumerProtocolAssignment(versionPrefixed: share, acceptsNewer: true)
            return partitions(told.assignedPartitions.map { ($0.topic, $0.partitions) })
        } catch {
            // Nobody has assigned anything yet, or in a form that only the members know: they begin with nothing.
            return []
        }
    }

    /// Partitions by the names of their topics; those that do not exist are left out.
    private func partitions(_ topics: [(name: String, partitions: [Int32])]) -> Set<TopicPartition>
    {
        var found: Set<TopicPartition> = []
        for (name, partitions) in topics {
            guard let topic = shard.image.topic(named: name) else { continue }
            for partition in partitions where topic.partitions.indices.contains(Int(partition)) {
                found.insert(TopicPartition(topic: topic.id, partition: partition))
            }
        }
        return found
    }

    // MARK: Meanwhile

    /// A member of the classic protocol joins a group of the consumer protocol.
    func joinConsumers(
        _ name: String,
        _ request: JoinRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard request.protocolType == Self.consumerType, let first = request.protocols.first,
            let told = Told(first.metadata)
        else { return completion(.error(.inconsistentGroupProtocol)) }
        guard told.topics.count <= Self.topicLimit else {
            return completion(.error(.invalidRequest))
        }
        var id = request.memberID
        if id.isEmpty {
            id =
                "\(request.instanceID ?? request.clientID)-\(MemberID.suffix(using: &shard.random))"
            if request.mustKnowID, request.instanceID == nil {
                return completion(.joined(.refused(.memberIdRequired, memberID: id)))
            }
        }
        var subscription = told.subscription
        subscription.instanceID = request.instanceID
        subscription.clientID = request.clientID
        subscription.clientHost = request.clientHost
        subscription.rebalanceTimeoutMillis = request.rebalanceTimeout.wholeMillisInt32
        subscription.classic = ClassicSupport(
            sessionTimeoutMillis: request.sessionTimeout.wholeMillisInt32,
            protocols: request.protocols
        )
        let join = ClassicJoin(
            memberID: id,
            isNew: request.memberID.isEmpty,
            subscription: subscription,
            owned: partitions(told.owned.map { ($0.topic, $0.partitions) })
        )
        let answered = { [weak self] (answer: GroupAnswer) in
            self?.hasJoined(id, name)
            completion(answer)
        }
        decide(name, answered) { group in
            do throws(HeartbeatRefusal) {
                return .joined(
                    .accepted(
                        id,
                        generation: try group.join(join, shard.image, now: now),
                        protocolType: Self.consumerType,
                        protocolName: first.name
                    )
                )
            } catch {
                return .joined(.refused(error.code, memberID: request.memberID))
            }
        }
    }

    private func hasJoined(_ member: String, _ name: String) {
        consumerGroups[name]?.group.hasJoined(member, now: now)
        armConsumers(name)
    }

    func syncConsumers(
        _ name: String,
        _ request: SyncRequest,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        decide(name, completion) { group in
            do throws(HeartbeatRefusal) {
                let share = try group.share(for: request, now: now)
                return .synced(
                    .share(
                        assignment(share),
                        protocolType: request.protocolType,
                        protocolName: request.protocolName
                    )
                )
            } catch {
                return .synced(.refused(error.code))
            }
        }
    }

    func beatConsumers(
        _ name: String,
        _ member: GroupMembership,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        decide(name, completion) { group in
            .error(
                group.heartbeat(
                    of: member.member,
                    instanceID: member.instanceID,
                    generation: member.generation,
                    shard.image,
                    now: now
                )
            )
        }
    }

    func leaveConsumers(
        _ name: String,
        _ members: [LeavingMember],
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        decide(name, completion) { group in
            .left(
                members.map {
                    group.leave($0.member, instanceID: $0.instanceID, shard.image, now: now)
                }
            )
        }
    }

    /// A share in the form that classic members know.
    private func assignment(_ partitions: Set<TopicPartition>) -> ByteBuffer {
        let topics = partitions.byTopic.compactMap { topic, partitions in
            shard.image.topic(topic).map {
                ConsumerProtocolAssignment.TopicPartition(topic: $0.name, partitions: partitions)
            }
        }.sorted { $0.topic < $1.topic }
        do throws(WireError) {
            return try ConsumerProtocolAssignment(assignedPartitions: topics)
                .versionPrefixed(version: 0)
        } catch {
            preconditionFailure("a topic's name is short enough for its form: \(error)")
        }
    }

    // MARK: And back

    /// The group as a classic one, where only members of that protocol are left; nil where it stays as it is, also because one batch
    /// does not hold it.
    func downgrade(_ name: String) -> GroupRecord? {
        guard let group = consumerGroups[name]?.group, group.isAllClassic,
            shard.config.allowsGroupDowngrade, let strategy = group.classicProtocol,
            group.memberCount <= shard.config.maximumGroupSize
        else { return nil }
        // Members go on from the epochs that they were told. The group's own is beyond, since the last one has just left.
        let generation = group.state.members.values.map(\.current.epoch).max() ?? 0
        let members = group.state.members.sorted { $0.key < $1.key }.map { id, member in
            let said = member.subscription
            return ClassicGroupState.Member(
                id: id,
                instanceID: said.instanceID,
                clientID: said.clientID,
                clientHost: said.clientHost,
                rebalanceTimeoutMillis: said.rebalanceTimeoutMillis,
                sessionTimeoutMillis: said.classic?.sessionTimeoutMillis ?? 0,
                subscription: said.classic?.protocols.first { $0.name == strategy }?.metadata
                    ?? ByteBuffer(),
                assignment: assignment(member.current.assigned)
            )
        }
        let record = GroupRecord.classicGroup(
            name: name,
            ClassicGroupState(
                protocolType: Self.consumerType,
                generation: max(generation, 1),
                protocolName: strategy,
                leader: members.first?.id,
                time: shard.wallTime,
                members: members
            )
        )
        return GroupDecisions.fits([record]) ? record : nil
    }

    /// The log has it that the group is a classic one: its members join again, and one of them assigns.
    func downgraded(_ name: String) {
        forgetConsumers(name)
        guard let state = machine.table.groups[name]?.classic else { return }
        revive(name, state)
        _ = change(name) { group, effects in
            group.rebalance(now: now, wallTime: shard.wallTime, into: &effects)
        }
    }
}
