package import FlotillaEnvironment
package import FlotillaModel

/// What a coordinator keeps of a group of the consumer protocol (KIP-848) while it leads: what the log says or is about to say, who owns
/// what, and until when members may be silent.
///
/// Members send heartbeats. The coordinator decides who reads what, and brings each member there at its own pace: a partition is taken from
/// one, and given to another only when the first has said that it does not read it any more.
///
/// Every change is a `ConsumerGroupRecord`, noted in the order in which the log shall have them; who asked is answered when they are there.
/// - Source: SEMANTICS section 6.
package struct ConsumerGroup: Sendable {
    /// How far the members are in sharing out the partitions.
    package enum Phase: String, Sendable {
        /// Nobody is there; there may be commits.
        case empty = "Empty"
        /// A target for the present epoch has yet to be computed.
        case assigning = "Assigning"
        /// Members are on their way to the target.
        case reconciling = "Reconciling"
        /// Every member has what it is to have.
        case stable = "Stable"
    }

    /// Limits and delays of a group.
    package struct Settings: Hashable, Sendable {
        /// How long a member may be silent.
        package var sessionTimeout: Duration
        /// The most members.
        package var maximumSize: Int
        /// The assignors that may be wished for; the first is taken where nobody wishes.
        package var assignors: [Assignor]

        /// States the settings.
        package init(sessionTimeout: Duration, maximumSize: Int, assignors: [Assignor]) {
            precondition(!assignors.isEmpty, "something has to share out the partitions")
            self.sessionTimeout = sessionTimeout
            self.maximumSize = maximumSize
            self.assignors = assignors
        }
    }

    /// Until when a member is waited for.
    struct Patience: Sendable {
        /// Until when it may be silent.
        var session: Instant
        /// Until when it has to have given something back; nil where it has nothing to give.
        var revocation: Revocation?
        /// Until when a member of the classic protocol has to have joined again; nil where it has not been told to.
        var rejoin: Instant?
        /// Until when a member of the classic protocol that has joined has to have asked for its share; nil where it has.
        var sync: Instant?
    }

    /// How long a member that has to give something back is waited for.
    enum Revocation: Sendable {
        /// Until it was told, which it is when that is in the log.
        case untold
        case until(Instant)

        var deadline: Instant? {
            switch self {
            case .untold: nil
            case .until(let deadline): deadline
            }
        }
    }

    /// The group's name.
    package let name: String
    /// What is in force for it.
    package var settings: Settings
    /// What the log says, or will say when the records that were noted are in it.
    package private(set) var state: ConsumerGroupState
    /// The member of each static name.
    private(set) var instances: [String: String] = [:]
    /// Who has each partition, what is being given back included.
    private(set) var owners: [TopicPartition: String] = [:]
    /// How many members name each topic.
    private(set) var topicCounts: [String: Int] = [:]
    /// How many members have each expression.
    private(set) var patternCounts: [String: Int] = [:]
    var patience: [String: Patience] = [:]
    /// The expressions of members, compiled.
    var patterns: [String: TopicPattern] = [:]
    /// The topics that each expression names, among those that it was compared with.
    var matches: [String: Set<TopicID>] = [:]
    /// The topics that all of them have been, or are about to be, compared with.
    var matchedTopics: Set<TopicID> = []
    /// What is left to compare, the oldest first.
    var unmatched: [Comparison] = []
    /// The metadata that the topics of the members were last looked up in; nil before that.
    var knownTopics: LogIndex?
    /// The racks that the target was computed for, where it looks at them; unknown after a change of the coordinator.
    var assignedRacks: [TopicID: [Set<String>]]?
    /// When the target was computed last.
    var assignmentTime: Instant?
    /// When a target is due that has been put off.
    var assignmentDeadline: Instant?
    /// What has been noted since `takeRecords()`.
    private var records: [ConsumerGroupRecord] = []

    /// No timer is due before this; nil when none runs.
    package internal(set) var nextDeadline: Instant?

    /// A group as the log knows it; every member has a whole session from now on.
    package init(name: String, state: ConsumerGroupState, settings: Settings, now: Instant) {
        self.name = name
        self.state = state
        self.settings = settings
        for (id, member) in state.members {
            if let instance = member.subscription.instanceID { instances[instance] = id }
            count(member.subscription, 1)
            for partition in member.current.held { owners[partition] = id }
            patience[id] = Patience(session: now + sessionTimeout(of: id))
            if member.current.phase == .unrevoked {
                patience[id]?.revocation = .until(now + member.rebalanceTimeout)
            }
        }
        if state.epoch > state.targetEpoch { assignmentDeadline = now }
        findNextDeadline(now: now)
    }

    // MARK: What it is

    /// How far it is.
    package var phase: Phase {
        if state.members.isEmpty { return .empty }
        if state.epoch > state.targetEpoch { return .assigning }
        let isStable = state.members.values.allSatisfy {
            $0.current.isReconciled(to: state.targetEpoch)
        }
        return isStable ? .stable : .reconciling
    }

    /// How many members it has.
    package var memberCount: Int { state.members.count }

    /// How many bytes they say of themselves.
    package var byteCount: Int { state.byteCount }

    /// How many of them are one member's.
    package func byteCount(of member: String) -> Int {
        state.members[member]?.subscription.byteCount ?? 0
    }

    /// The topics that its members want and that exist.
    package var topicNames: Set<String> { Set(state.topics.values.map(\.name)) }

    /// The assignor that most members wish for, the first in the settings where they are equal.
    package var assignor: Assignor {
        var votes: [Assignor: Int] = [:]
        for member in state.members.values {
            let wish = member.subscription.assignor.flatMap(Assignor.init(rawValue:))
            if let wish, settings.assignors.contains(wish) { votes[wish, default: 0] += 1 }
        }
        return settings.assignors.max { votes[$0, default: 0] < votes[$1, default: 0] }
            ?? settings.assignors[0]
    }

    /// Whether a member may commit, and may read what is committed; the error says why not.
    ///
    /// - Source: SEMANTICS rules OC-3 and OF-3.
    ///
    /// `knowsEpochs`: whether the client speaks a version of the API that has epochs, as members of the consumer protocol must.
    package func check(_ id: String, epoch: Int32, knowsEpochs: Bool) -> ErrorCode {
        // A member that was given up has to join again, whatever it speaks.
        guard let member = state.members[id] else { return .unknownMemberId }
        let isClassic = member.subscription.classic != nil
        guard isClassic || knowsEpochs else { return .unsupportedVersion }
        if member.current.epoch == epoch { return .noError }
        return isClassic ? .illegalGeneration : .staleMemberEpoch
    }

    // MARK: Changes

    /// Notes a fact for the log, and takes it in.
    mutating func note(_ record: ConsumerGroupRecord) {
        switch record {
        case .member(let id, let subscription):
            if let old = state.members[id]?.subscription.instanceID, instances[old] == id {
                instances[old] = nil
            }
            if let instance = subscription?.instanceID { instances[instance] = id }
            if let subscription { count(subscription, 1) } else { setOwned([], by: id) }
            if let old = state.members[id]?.subscription { count(old, -1) }
        case .current(let id, let assignment):
            setOwned(assignment?.held ?? [], by: id)
        case .epoch, .topics, .targetEpoch, .target: break
        }
        state.apply(record)
        records.append(record)
    }

    private mutating func setOwned(_ partitions: Set<TopicPartition>, by id: String) {
        for partition in state.members[id]?.current.held ?? [] where owners[partition] == id {
            owners[partition] = nil
        }
        for partition in partitions {
            precondition(owners[partition] == nil, "a partition is with one member")
            owners[partition] = id
        }
    }

    private mutating func count(_ subscription: ConsumerSubscription, _ change: Int) {
        for topic in subscription.topics { Self.count(topic, change, in: &topicCounts) }
        if let pattern = subscription.pattern {
            Self.count(pattern, change, in: &patternCounts)
            if patternCounts[pattern] == nil {
                patterns[pattern] = nil
                matches[pattern] = nil
                unmatched.removeAll { $0.pattern == pattern }
            }
        }
    }

    private static func count(_ name: String, _ change: Int, in counts: inout [String: Int]) {
        let count = (counts[name] ?? 0) + change
        counts[name] = count == 0 ? nil : count
    }

    /// What has been noted since the last call, for the log.
    package mutating func takeRecords() -> [ConsumerGroupRecord] {
        defer { records.removeAll() }
        return records
    }

    // MARK: Time

    mutating func expect(_ deadline: Instant) {
        nextDeadline = nextDeadline.map { min($0, deadline) } ?? deadline
    }

    /// The member was heard.
    mutating func touch(_ id: String, now: Instant) {
        let deadline = now + sessionTimeout(of: id)
        patience[id, default: Patience(session: deadline)].session = deadline
        expect(deadline)
    }

    /// A member of the consumer protocol has the group's, one of the classic protocol its own.
    private func sessionTimeout(of id: String) -> Duration {
        state.members[id]?.subscription.classic.map {
            .milliseconds(Int64(max($0.sessionTimeoutMillis, 0)))
        } ?? settings.sessionTimeout
    }

    mutating func findNextDeadline(now: Instant) {
        var deadlines = patience.values.map(\.session)
        deadlines += patience.values.compactMap(\.revocation?.deadline)
        deadlines += patience.values.compactMap(\.rejoin)
        deadlines += patience.values.compactMap(\.sync)
        if let assignmentDeadline { deadlines.append(assignmentDeadline) }
        if !unmatched.isEmpty { deadlines.append(now) }
        // Many members that fall silent one after the other are looked at together.
        nextDeadline = deadlines.min().map { max($0, now + Self.shortestTick) }
    }

    /// The least time between two looks at the timers.
    static let shortestTick = Duration.milliseconds(20)
}

extension CurrentAssignment {
    /// What nobody else may get.
    var held: Set<TopicPartition> { assigned.union(revoking) }
}

extension ConsumerMember {
    /// How long it may take to give partitions back.
    var rebalanceTimeout: Duration {
        .milliseconds(Int64(max(subscription.rebalanceTimeoutMillis, 0)))
    }
}
