package import FlotillaEnvironment
package import FlotillaModel

/// A member of the classic protocol that joins a group of the consumer protocol.
package struct ClassicJoin: Sendable {
    /// The member's id, which it was given before or just now.
    package var memberID: String
    /// Whether the id was given just now.
    package var isNew: Bool
    /// What it says of itself; its topics and its rack are those of its subscription.
    package var subscription: ConsumerSubscription
    /// What it reads, as it says.
    package var owned: Set<TopicPartition>

    /// States a request.
    package init(
        memberID: String,
        isNew: Bool,
        subscription: ConsumerSubscription,
        owned: Set<TopicPartition>
    ) {
        self.memberID = memberID
        self.isNew = isNew
        self.subscription = subscription
        self.owned = owned
    }
}

/// Members of the classic protocol in a group of the consumer protocol, while its members change from one to the other.
///
/// Their generation is their epoch. They are told to join again where there is something for them to give back or to get, and say what
/// they still read when they do.
/// - Source: SEMANTICS rule MIG-1; KIP-848.
extension ConsumerGroup {
    /// A classic group whose members go on as those of the consumer protocol.
    ///
    /// `members`: with what their leader last gave each of them.
    package init(
        name: String,
        generation: Int32,
        members: [String: (subscription: ConsumerSubscription, assigned: Set<TopicPartition>)],
        settings: Settings,
        _ image: MetadataImage,
        now: Instant
    ) {
        self.init(name: name, state: ConsumerGroupState(), settings: settings, now: now)
        note(.epoch(max(generation, 1)))
        note(.targetEpoch(state.epoch))
        for (id, member) in members.sorted(by: { $0.key < $1.key }) {
            note(.member(id, member.subscription))
            // What two were given is the first one's.
            let share = member.assigned.filter { owners[$0] == nil }
            note(.target(id, share))
            note(
                .current(
                    id,
                    CurrentAssignment(
                        epoch: state.epoch,
                        previousEpoch: state.epoch,
                        phase: .stable,
                        assigned: share,
                        revoking: []
                    )
                )
            )
            touch(id, now: now)
        }
        refreshTopics(image)
        assignIfDue(image, now: now)
    }

    /// Whether only members of the classic protocol are left.
    package var isAllClassic: Bool {
        !state.members.isEmpty
            && state.members.values.allSatisfy { $0.subscription.classic != nil }
    }

    /// The strategy that its classic members have in common, for the way back; nil where there is none.
    package var classicProtocol: String? {
        let all = state.members.values.compactMap(\.subscription.classic)
        guard let first = all.first else { return nil }
        return first.protocols.map(\.name).filter { name in
            all.allSatisfy { $0.knows(name) }
        }.min()
    }

    // MARK: What members ask

    /// A member joins, or joins again.
    ///
    /// - Returns: its generation.
    package mutating func join(
        _ request: ClassicJoin,
        _ image: MetadataImage,
        now: Instant
    ) throws(HeartbeatRefusal) -> Int32 {
        let id = request.memberID
        try admit(request)
        touch(id, now: now)
        patience[id]?.rejoin = nil
        let before = state.members[id]
        if before?.subscription != request.subscription { note(.member(id, request.subscription)) }
        let hasBegun = refreshTopics(image)
        let asksForOther =
            before.map { request.subscription.asksForOther(than: $0.subscription) } ?? true
        if asksForOther, !hasBegun { bumpEpoch(image) }
        assignIfDue(image, now: now)
        _ = reconcile(id, owned: request.owned, now: now)
        return state.members[id]?.current.epoch ?? 0
    }

    private mutating func admit(_ request: ClassicJoin) throws(HeartbeatRefusal) {
        let others = state.members.filter { $0.key != request.memberID }
        let classic = others.values.compactMap(\.subscription.classic)
        let knowsOne = request.subscription.classic?.protocols.contains { candidate in
            classic.allSatisfy { $0.knows(candidate.name) }
        }
        guard knowsOne == true else {
            throw HeartbeatRefusal(
                .inconsistentGroupProtocol,
                "the member knows no strategy that all members of the classic protocol know"
            )
        }
        if let instance = request.subscription.instanceID, let known = instances[instance],
            known != request.memberID
        {
            guard request.isNew else {
                throw HeartbeatRefusal(.fencedInstanceId, "another member has the static name")
            }
            // Classic clients know no error for a name that was not released: who comes last has it, as among themselves.
            return replace(known, with: request.memberID)
        }
        guard state.members[request.memberID] == nil else { return }
        guard memberCount < settings.maximumSize else {
            throw HeartbeatRefusal(.groupMaxSizeReached, "the group is full")
        }
    }

    /// What a member reads, once it has joined; it has a whole session from now on.
    package mutating func share(
        for request: SyncRequest,
        now: Instant
    ) throws(HeartbeatRefusal) -> Set<TopicPartition> {
        let id = request.memberID
        let member = try classicMember(id, request.instanceID)
        let current = member.current
        guard current.epoch == request.generation else {
            throw HeartbeatRefusal(.illegalGeneration, "the generation is \(current.epoch)")
        }
        let strategy = member.subscription.classic?.protocols.first?.name
        guard request.protocolType.map({ $0 == Self.protocolType }) ?? true,
            request.protocolName.map({ $0 == strategy }) ?? true
        else {
            throw HeartbeatRefusal(
                .inconsistentGroupProtocol,
                "the member shares by \(strategy ?? "")"
            )
        }
        touch(id, now: now)
        patience[id]?.sync = nil
        return current.assigned
    }

    /// What groups of consumers are called among groups of the classic protocol.
    package static let protocolType = "consumer"

    /// A member was told its generation: it can say nothing before, however long that took, and has to ask for its share now.
    package mutating func hasJoined(_ id: String, now: Instant) {
        guard let member = state.members[id], member.subscription.classic != nil else { return }
        touch(id, now: now)
        let deadline = now + member.rebalanceTimeout
        patience[id]?.sync = deadline
        expect(deadline)
    }

    /// A member is alive; the error tells it to join again where there is something for it to give back or to get.
    package mutating func heartbeat(
        of id: String,
        instanceID: String?,
        generation: Int32,
        _ image: MetadataImage,
        now: Instant
    ) -> ErrorCode {
        do throws(HeartbeatRefusal) {
            let current = try classicMember(id, instanceID).current
            guard current.epoch == generation else { return .illegalGeneration }
        } catch {
            return error.code
        }
        touch(id, now: now)
        refreshTopics(image)
        assignIfDue(image, now: now)
        guard let member = state.members[id], hasToJoin(id, member) else {
            patience[id]?.rejoin = nil
            return .noError
        }
        if patience[id]?.rejoin == nil {
            let deadline = now + member.rebalanceTimeout
            patience[id]?.rejoin = deadline
            expect(deadline)
        }
        return .rebalanceInProgress
    }

    private func hasToJoin(_ id: String, _ member: ConsumerMember) -> Bool {
        member.current.phase == .unrevoked
            || member.current
                != member.current.next(
                    target: member.target,
                    targetEpoch: state.targetEpoch,
                    owned: nil,
                    isFree: { owners[$0].map { $0 == id } ?? true }
                )
    }

    /// A member goes, or is made to go by its static name.
    ///
    /// - Returns: the error for it.
    package mutating func leave(
        _ id: String,
        instanceID: String?,
        _ image: MetadataImage,
        now: Instant
    ) -> ErrorCode {
        var leaving = id
        if let instanceID {
            guard let known = instances[instanceID] else { return .unknownMemberId }
            guard id.isEmpty || id == known else { return .fencedInstanceId }
            leaving = known
        }
        guard state.members[leaving] != nil else { return .unknownMemberId }
        remove([leaving], image, now: now)
        return .noError
    }

    private func classicMember(
        _ id: String,
        _ instanceID: String?
    ) throws(HeartbeatRefusal) -> ConsumerMember {
        let member = try member(id, instanceID)
        guard member.subscription.classic != nil else {
            throw HeartbeatRefusal(.unknownMemberId, "the member uses the consumer protocol")
        }
        return member
    }
}

extension ClassicSupport {
    fileprivate func knows(_ name: String) -> Bool { protocols.contains { $0.name == name } }
}
