import FlotillaKafkaWire
import FlotillaModel
import NIOCore

/// A topic as the leader of a classic group knew it when it divided.
struct WatchedTopic: Hashable, Sendable {
    var id: TopicID
    var partitionCount: Int32
}

// The classic protocol: all members join, the leader divides, everybody is told its share.

extension GroupConsumer {
    /// While a topic is missing its leader looks for it more often than for new partitions.
    private static let missingTopicInterval = Duration.seconds(5)

    /// One round: joins where that is due, else waits for news.
    func followClassic() async throws(ClientError) {
        guard classic.isRejoinDue else { return try await awaitNews() }
        guard await getReadyToJoin() else { return }
        let joined: ClassicMember.Joined
        do throws(ClientError) {
            joined = try await join()
        } catch {
            classic.stopJoining()
            throw error
        }
        guard joined != .again else { return }
        let share: [NamedPartition]?
        do throws(ClientError) {
            share = try await synchronize(try await divide(joined))
        } catch {
            classic.stopJoining()
            throw error
        }
        guard let share else { return }
        try await adopt(share)
    }

    /// Gives up what must not be read while the group divides; false where the member must look again first.
    private func getReadyToJoin() async -> Bool {
        if classic.hasLostShare {
            guard await takeTurn() else { return false }
            await giveUpLost()
            giveTurn()
        } else if !configuration.isCooperative, !owned.isEmpty {
            guard await takeTurn() else { return false }
            // While the application was busy the session may have ended.
            if !classic.hasLostShare { await giveUp(Set(owned.keys)) }
            giveTurn()
        }
        return isLiving && !classic.hasLostShare
    }

    private func adopt(_ share: [NamedPartition]) async throws(ClientError) {
        let generation = classic.generation
        let isCurrent = { self.classic.generation == generation && !self.classic.hasLostShare }
        let wanted = Dictionary(share.map { ($0, TopicID.zero) }) { $1 }
        do throws(ClientError) {
            let hasGivenUp = try await adopt(wanted, acknowledge: {}, isCurrent: isCurrent)
            // What was given up is somebody else's in the next generation.
            if hasGivenUp { classic.rejoin() }
        } catch {
            classic.rejoin()
            throw error
        }
    }

    // MARK: Joining

    private func join() async throws(ClientError) -> ClassicMember.Joined {
        let protocols = try protocols()
        classic.beginJoining()
        let settings = configuration
        let memberID = classic.memberID
        // The answer comes when all have joined, or were given up.
        let response = try await ask(
            isParked: true,
            within: settings.maximumPollInterval + client.configuration.requestTimeout
        ) { _ in
            JoinGroupRequest(
                groupId: settings.group,
                sessionTimeoutMs: Int32(clamping: settings.sessionTimeout.milliseconds),
                rebalanceTimeoutMs: Int32(clamping: settings.maximumPollInterval.milliseconds),
                memberId: memberID,
                groupInstanceId: settings.instanceID,
                protocolType: "consumer",
                protocols: protocols
            )
        }
        return try classic.take(response)
    }

    private func protocols() throws(ClientError) -> [JoinGroupRequest.JoinGroupRequestProtocol] {
        let subscription = MemberSubscription(
            topics: configuration.topics,
            owned: owned.keys.sorted(),
            generation: owned.isEmpty ? -1 : classic.generation,
            rack: configuration.fetching.rack
        )
        do throws(WireError) {
            var protocols: [JoinGroupRequest.JoinGroupRequestProtocol] = []
            for assignor in configuration.assignors {
                let bytes = try subscription.bytes(for: assignor)
                protocols.append(.init(name: assignor.rawValue, metadata: bytes))
            }
            return protocols
        } catch {
            throw .invalidConfiguration("the subscription cannot be sent: \(error)")
        }
    }

    /// What the leader gives to each member; nothing from the others, or where the group keeps what it has.
    private func divide(
        _ joined: ClassicMember.Joined
    ) async throws(ClientError) -> [SyncGroupRequest.SyncGroupRequestAssignment] {
        guard case .leads(let members, let keepsShares) = joined, let assignor = classic.assignor
        else { return [] }
        watchedNames = members.reduce(into: []) { $0.formUnion($1.topics) }
        watched = try await find(watchedNames)
        lastWatch = .now
        guard !keepsShares else { return [] }
        let shares = assignor.assign(members, partitionCounts: watched.mapValues(\.partitionCount))
        do throws(WireError) {
            var assignments: [SyncGroupRequest.SyncGroupRequestAssignment] = []
            for (member, share) in shares.sorted(by: { $0.key < $1.key }) {
                let bytes = try MemberAssignment.bytes(share)
                assignments.append(.init(memberId: member, assignment: bytes))
            }
            return assignments
        } catch {
            throw .invalidConfiguration("the assignment cannot be sent: \(error)")
        }
    }

    /// - Returns: this member's share; nil where it must join again.
    private func synchronize(
        _ assignments: [SyncGroupRequest.SyncGroupRequestAssignment]
    ) async throws(ClientError) -> [NamedPartition]? {
        let (group, instanceID) = (configuration.group, configuration.instanceID)
        let (memberID, generation) = identity
        let assignor = classic.assignor?.rawValue
        let response = try await ask(
            isParked: true,
            within: configuration.maximumPollInterval + client.configuration.requestTimeout
        ) { _ in
            SyncGroupRequest(
                groupId: group,
                generationId: generation,
                memberId: memberID,
                groupInstanceId: instanceID,
                protocolType: "consumer",
                protocolName: assignor,
                assignments: assignments
            )
        }
        return try classic.take(response)
    }

    // MARK: Between rounds

    /// Waits until something happens; a leader looks from time to time whether its topics have changed.
    private func awaitNews() async throws(ClientError) {
        let isComplete = watched.count == watchedNames.count
        let interval =
            isComplete
            ? client.configuration.metadataMaximumAge
            : Swift.min(Self.missingTopicInterval, client.configuration.metadataMaximumAge)
        let left = lastWatch + interval - .now
        if left > .zero || !classic.isLeader {
            await membershipAlarm.wait(for: classic.isLeader ? left : nil)
            return
        }
        lastWatch = .now
        let topics = try await find(watchedNames)
        if topics != watched { classic.rejoin() }
    }

    /// Has a leader look soon whether its topics have changed.
    func lookAtTopics() {
        lastWatch = .now - client.configuration.metadataMaximumAge
        membershipAlarm.ring()
    }

    private func find(_ names: Set<String>) async throws(ClientError) -> [String: WatchedTopic] {
        let metadata = try await client.metadata(topics: names.sorted())
        var found: [String: WatchedTopic] = [:]
        for topic in metadata.topics where topic.error == .noError && !topic.partitions.isEmpty {
            found[topic.name] = WatchedTopic(
                id: topic.id,
                partitionCount: Int32(clamping: topic.partitions.count)
            )
        }
        return found
    }

    // MARK: Heartbeats

    /// Sends a heartbeat where one is due.
    ///
    /// - Returns: whether the coordinator is known and answers.
    func beatClassic() async -> Bool {
        guard classic.phase == .stable else { return true }
        let (group, instanceID) = (configuration.group, configuration.instanceID)
        let (memberID, generation) = identity
        do throws(ClientError) {
            let response = try await ask(within: patience) { _ in
                HeartbeatRequest(
                    groupId: group,
                    generationId: generation,
                    memberId: memberID,
                    groupInstanceId: instanceID
                )
            }
            // An answer about a generation that is past says nothing.
            guard identity == (memberID, generation), classic.phase == .stable else { return true }
            switch classic.judge(response.errorCode) {
            case .fine: return true
            case .rejoins, .isLost:
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
            if isPassing(error) { configuration.listener.troubled(error) } else { fail(error) }
            return false
        }
    }
}
