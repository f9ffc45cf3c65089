package import FlotillaEnvironment
import FlotillaModel

/// Heartbeats: how members come, live and go.
extension ConsumerGroup {
    /// A member has been heard.
    ///
    /// - Throws: why it is refused; nothing has changed then, but for time.
    package mutating func heartbeat(
        _ request: ConsumerHeartbeat,
        _ image: MetadataImage,
        now: Instant
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        switch request.epoch {
        case CurrentAssignment.leavingEpoch: return try leave(request, image, now: now)
        case CurrentAssignment.awayEpoch: return try goAway(request)
        default: break
        }
        try check(request, image)
        if request.epoch == 0 {
            try admit(request)
        } else {
            try recognize(request)
        }
        touch(request.memberID, now: now)
        // What a member of the classic protocol is waited for does not concern one that speaks this protocol now.
        patience[request.memberID]?.rejoin = nil
        patience[request.memberID]?.sync = nil
        update(request, image)
        assignIfDue(image, now: now)
        let id = request.memberID
        let hasChanged = reconcile(id, owned: request.owned, now: now)
        guard let current = state.members[id]?.current else {
            preconditionFailure("who was let in is a member")
        }
        // Who reads something else than it was told has not heard us.
        let isMisled = request.owned.map { $0 != current.assigned } ?? false
        return ConsumerHeartbeatAnswer(
            memberID: id,
            epoch: current.epoch,
            assignment: request.isFull || hasChanged || isMisled ? current.assigned : nil
        )
    }

    /// What the client says must be something that can be done.
    private mutating func check(
        _ request: ConsumerHeartbeat,
        _ image: MetadataImage
    ) throws(HeartbeatRefusal) {
        if let name = request.assignor {
            let isServed = Assignor(rawValue: name).map(settings.assignors.contains) ?? false
            guard isServed else {
                let served = settings.assignors.map(\.rawValue).joined(separator: ", ")
                throw HeartbeatRefusal(
                    .unsupportedAssignor,
                    "there is no assignor \(name); there are: \(served)"
                )
            }
        }
        if let text = request.pattern, !text.isEmpty, patternCounts[text] == nil {
            let former = state.members[request.memberID]?.subscription.pattern
            let isLeft = former.map { patternCounts[$0] == 1 } ?? false
            guard patternCounts.count - (isLeft ? 1 : 0) < Self.patternLimit else {
                throw HeartbeatRefusal(
                    .invalidRegularExpression,
                    "the group has \(Self.patternLimit) expressions already"
                )
            }
            try check(text, instead: isLeft ? former : nil, image)
        }
    }

    /// An expression must be one, and nothing that holds the broker up for all its topics, together with the group's others.
    ///
    /// `former`: the one that the member had, if nobody else has it.
    private mutating func check(
        _ text: String,
        instead former: String?,
        _ image: MetadataImage
    ) throws(HeartbeatRefusal) {
        do throws(TopicPatternError) {
            var size = try TopicPattern(text).size
            for other in patternCounts.keys where other != former {
                size += compiled(other)?.size ?? 0
            }
            let stepCount = image.topics.reduce(0) { $0 + $1.key.utf8.count } * size
            guard stepCount <= Self.matchStepLimit else {
                throw TopicPatternError(
                    explanation:
                        "with the group's others it may take \(stepCount) steps for all topics, more than \(Self.matchStepLimit)"
                )
            }
        } catch {
            throw HeartbeatRefusal(.invalidRegularExpression, "\(error)")
        }
    }

    /// The most expressions of a group.
    private static let patternLimit = 32
    /// The most steps of all expressions for the names of all topics: a tenth of a second, ten turns.
    private static let matchStepLimit = 50_000_000

    // MARK: Coming

    /// Lets a member in that is new, has been fenced or has started again.
    private mutating func admit(_ request: ConsumerHeartbeat) throws(HeartbeatRefusal) {
        if let instance = request.instanceID, let known = instances[instance],
            known != request.memberID
        {
            return try takeOver(known, request)
        }
        guard state.members[request.memberID] == nil else { return }
        guard memberCount < settings.maximumSize else {
            throw HeartbeatRefusal(
                .groupMaxSizeReached,
                "the group has \(memberCount) members, and may have no more"
            )
        }
    }

    /// A static member has come back under another id: it gets what it had.
    private mutating func takeOver(
        _ known: String,
        _ request: ConsumerHeartbeat
    ) throws(HeartbeatRefusal) {
        // A member of the classic protocol says nothing when its process ends, so nothing can be asked of it.
        let member = state.members[known]
        guard
            member?.subscription.classic != nil
                || member?.current.epoch == CurrentAssignment.awayEpoch
        else {
            throw HeartbeatRefusal(
                .unreleasedInstanceId,
                "the static name \(request.instanceID ?? "") is that of member \(known), which has not left"
            )
        }
        guard state.members[request.memberID] == nil else {
            throw HeartbeatRefusal(
                .fencedInstanceId,
                "member \(request.memberID) is in the group without the static name"
            )
        }
        replace(known, with: request.memberID)
    }

    /// A static member goes on under another id.
    mutating func replace(_ old: String, with id: String) {
        guard let member = state.members[old] else {
            preconditionFailure("a static name is that of a member")
        }
        remove(old)
        var current = member.current
        current.epoch = 0
        current.previousEpoch = 0
        // Its process has begun anew, and reads nothing that it did not get.
        current.revoking = []
        if current.phase == .unrevoked { current.phase = .stable }
        note(.member(id, member.subscription))
        note(.target(id, member.target))
        note(.current(id, current))
    }

    // MARK: Being there

    /// Whether the request is that of the member at this point of its life.
    ///
    /// - Source: SEMANTICS rules CG-4 and CG-6.
    private func recognize(_ request: ConsumerHeartbeat) throws(HeartbeatRefusal) {
        let member = try member(request)
        let current = member.current
        if request.epoch == current.epoch { return }
        // Our last answer may have been lost.
        let owned = request.owned ?? []
        guard request.epoch < current.epoch, request.epoch == current.previousEpoch,
            request.owned != nil, owned.isSubset(of: current.assigned)
        else {
            throw HeartbeatRefusal(
                .fencedMemberEpoch,
                "the member's epoch is \(current.epoch), not \(request.epoch); join again"
            )
        }
    }

    /// The member that a request names.
    private func member(_ request: ConsumerHeartbeat) throws(HeartbeatRefusal) -> ConsumerMember {
        try member(request.memberID, request.instanceID)
    }

    func member(_ id: String, _ instanceID: String?) throws(HeartbeatRefusal) -> ConsumerMember {
        if let instance = instanceID {
            guard let known = instances[instance] else {
                throw HeartbeatRefusal(
                    .unknownMemberId,
                    "the group has no member with the static name \(instance)"
                )
            }
            guard known == id else {
                throw HeartbeatRefusal(
                    .fencedInstanceId,
                    "the static name \(instance) is that of another member now"
                )
            }
        }
        guard let member = state.members[id] else {
            throw HeartbeatRefusal(.unknownMemberId, "the group has no member \(id)")
        }
        return member
    }

    /// Takes in what the member says of itself, and begins a new epoch where that or the topics have changed.
    private mutating func update(_ request: ConsumerHeartbeat, _ image: MetadataImage) {
        let id = request.memberID
        let before = state.members[id]
        let subscription = request.subscription(after: before?.subscription ?? .init())
        if before?.subscription != subscription { note(.member(id, subscription)) }
        // An old answer, or one that was lost, must not let the member pass for one that is away.
        if request.epoch == 0, before?.current.epoch == CurrentAssignment.awayEpoch,
            var current = state.members[id]?.current
        {
            current.epoch = 0
            note(.current(id, current))
        }
        let hasBegun = refreshTopics(image)
        let asksForOther = before.map { subscription.asksForOther(than: $0.subscription) } ?? true
        if asksForOther, !hasBegun { bumpEpoch(image) }
    }

    // MARK: Going

    private mutating func leave(
        _ request: ConsumerHeartbeat,
        _ image: MetadataImage,
        now: Instant
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        _ = try member(request)
        remove([request.memberID], image, now: now)
        return ConsumerHeartbeatAnswer(memberID: request.memberID, epoch: request.epoch)
    }

    /// A static member that will be back: what it has stays with it until its session ends.
    private mutating func goAway(
        _ request: ConsumerHeartbeat
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        var current = try member(request).current
        current.epoch = CurrentAssignment.awayEpoch
        current.previousEpoch = CurrentAssignment.awayEpoch
        // It reads nothing any more, so nothing has to be waited for.
        current.revoking = []
        if current.phase == .unrevoked { current.phase = .stable }
        patience[request.memberID]?.revocation = nil
        note(.current(request.memberID, current))
        return ConsumerHeartbeatAnswer(memberID: request.memberID, epoch: request.epoch)
    }

    /// Takes members out, and shares what they had among the others.
    mutating func remove(_ ids: [String], _ image: MetadataImage, now: Instant) {
        for id in ids { remove(id) }
        bumpEpoch(image)
        assignIfDue(image, now: now)
    }

    private mutating func remove(_ id: String) {
        note(.current(id, nil))
        note(.target(id, nil))
        note(.member(id, nil))
        patience[id] = nil
    }

    // MARK: Time

    /// Looks at all timers.
    ///
    /// - Returns: the members that were taken out, and why.
    @discardableResult
    package mutating func tick(
        _ image: MetadataImage,
        now: Instant
    ) -> [(id: String, reason: Silence)] {
        var late: [(id: String, reason: Silence)] = []
        for (id, patience) in patience {
            let others = [patience.revocation?.deadline, patience.rejoin, patience.sync]
            if patience.session <= now {
                late.append((id, .silent))
            } else if others.contains(where: { $0.map { $0 <= now } == true }) {
                late.append((id, .keeping))
            }
        }
        late.sort { $0.id < $1.id }
        if !late.isEmpty { remove(late.map(\.id), image, now: now) }
        if !unmatched.isEmpty || state.epoch > state.targetEpoch && !isMatched {
            refreshTopics(image)
        }
        if state.epoch > state.targetEpoch, assignmentDeadline.map({ $0 <= now }) ?? true {
            assignIfDue(image, now: now)
        }
        findNextDeadline(now: now)
        return late
    }

    /// Why a member was taken out.
    package enum Silence: Sendable {
        /// It was not heard for as long as a session lasts.
        case silent
        /// It did not give back what it had to, did not join again, or did not ask for its share.
        case keeping
    }
}
