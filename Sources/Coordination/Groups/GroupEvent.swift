package import FlotillaModel

/// Something that happens to a group.
package enum GroupEvent: Hashable, Sendable {
    /// A broker leads the group's partition from now on; those who were members then follow.
    case coordinated(by: BrokerID, term: Term)
    /// What happened before was dropped for want of room; those who are members now follow.
    case resumed
    /// Somebody is a member already.
    case present(GroupEventMember)
    /// So many more are.
    case morePresent(Int)
    /// A member is new.
    case joined(GroupEventMember)
    /// A member is gone.
    case gone(String, Departure)
    /// A static member has come back under another id.
    case replaced(String, by: GroupEventMember)
    /// A static member will be back.
    case away(String)
    /// It is.
    case returned(String)
    /// A client was told that it is no member, or not the one that it says it is.
    case fenced(String, ErrorCode)
    /// The partitions have to be shared out anew; the epoch where the protocol has one.
    case rebalanceBegan(RebalanceCause, epoch: Int32?)
    /// Everybody has a share.
    case rebalanceEnded(Rebalance)
    /// Nobody is left, in a generation or epoch.
    case emptied(generation: Int32)
    /// What was decided did not come into the log, and is void.
    case unwritten(ErrorCode)
    /// Commits were forgotten.
    case commitsForgotten(count: Int, Forgetting)
    /// The group was deleted.
    case deleted

    /// Why a member is gone.
    package enum Departure: Hashable, Sendable {
        /// It said so.
        case left
        /// Somebody named it by its static name alone, as tools do.
        case removed
        /// It was not heard for as long as its session lasts.
        case silent
        /// It did not join again in time.
        case absent
        /// It did not fetch its share in time.
        case unsynced
        /// It did not give partitions back in time.
        case keeping
        /// The group was full when it joined again.
        case crowded
    }

    /// Why partitions are shared out anew.
    package enum RebalanceCause: Hashable, Sendable {
        /// Members came.
        case came([String])
        /// Members went.
        case went([String])
        /// A member wants other topics, or another strategy.
        case changed(String)
        /// The member that assigns asked for it.
        case asked(String)
        /// Topics were made, deleted or enlarged.
        case topics([String])
        /// Replicas of the topics moved between racks, where members stand in some.
        case racks
        /// The last shares could not be written down.
        case unwritten
        /// The last member of the consumer protocol has gone, and the others go on with the classic one.
        case downgraded
    }

    /// Why commits are forgotten.
    package enum Forgetting: Hashable, Sendable {
        /// Somebody deleted them.
        case asked
        /// They were kept as long as the settings say.
        case expired
        /// Their topics were deleted.
        case topicsDeleted
    }
}

/// A member, as the history of its group names it.
package struct GroupEventMember: Hashable, Sendable {
    /// The member's id.
    package var id: String
    /// The name that a static member keeps over restarts.
    package var instanceID: String?
    /// What the client calls itself.
    package var clientID: String
    /// Where the client is.
    package var clientHost: String

    /// States a member, with names no longer than they need be to know it again.
    package init(id: String, instanceID: String?, clientID: String, clientHost: String) {
        self.id = GroupEvent.clipped(id)
        self.instanceID = instanceID.map { GroupEvent.clipped($0) }
        self.clientID = GroupEvent.clipped(clientID)
        self.clientHost = GroupEvent.clipped(clientHost)
    }
}

/// A rebalance that has ended.
package struct Rebalance: Hashable, Sendable {
    /// The generation, or the epoch.
    package var generation: Int32
    /// How long it took; nil where its begin was not seen.
    package var duration: Duration?
    /// How many members there are.
    package var memberCount: Int
    /// How many partitions they share; nil where nobody else than they can tell.
    package var partitionCount: Int?
    /// How they were shared out.
    package var strategy: String

    /// States a rebalance; a history adds how long it took.
    package init(generation: Int32, memberCount: Int, partitionCount: Int?, strategy: String) {
        self.generation = generation
        self.memberCount = memberCount
        self.partitionCount = partitionCount
        self.strategy = GroupEvent.clipped(strategy)
    }
}

extension GroupEvent {
    /// The most characters of a name that are kept.
    private static let nameLength = 128
    /// The most names in a list that are kept.
    static let listLength = 8

    /// A name, cut where it is very long.
    package static func clipped(_ name: String) -> String {
        guard name.utf8.count > nameLength else { return name }
        return name.prefix(nameLength) + "…"
    }

    /// About how many bytes it takes in memory.
    var approximateByteCount: Int {
        names.reduce(96) { $0 + 16 + $1.utf8.count }
    }

    private var names: [String] {
        switch self {
        case .present(let member), .joined(let member): member.names
        case .replaced(let id, let member): member.names + [id]
        case .gone(let id, _), .away(let id), .returned(let id), .fenced(let id, _): [id]
        case .rebalanceBegan(let cause, _): cause.names
        case .rebalanceEnded(let rebalance): [rebalance.strategy]
        case .coordinated, .resumed, .morePresent, .emptied, .unwritten, .commitsForgotten,
            .deleted:
            []
        }
    }
}

extension GroupEventMember {
    fileprivate var names: [String] { [id, instanceID ?? "", clientID, clientHost] }
}

extension GroupEvent.RebalanceCause {
    fileprivate var names: [String] {
        switch self {
        case .came(let names), .went(let names), .topics(let names): names
        case .changed(let name), .asked(let name): [name]
        case .racks, .unwritten, .downgraded: []
        }
    }

    /// The cause in a word, for metrics.
    package var word: String {
        switch self {
        case .came: "member_joined"
        case .went: "member_left"
        case .changed: "subscription_changed"
        case .asked: "leader_asked"
        case .topics: "topics_changed"
        case .racks: "racks_changed"
        case .unwritten: "write_failed"
        case .downgraded: "downgraded"
        }
    }

    /// The same with no more names than anybody reads.
    package var shortened: GroupEvent.RebalanceCause {
        func short(_ names: [String]) -> [String] {
            let first = names.prefix(GroupEvent.listLength).map { GroupEvent.clipped($0) }
            let rest = names.count - first.count
            return rest > 0 ? first + ["\(rest) more"] : first
        }
        return switch self {
        case .came(let names): .came(short(names))
        case .went(let names): .went(short(names))
        case .topics(let names): .topics(short(names))
        case .changed(let name): .changed(GroupEvent.clipped(name))
        case .asked(let name): .asked(GroupEvent.clipped(name))
        case .racks: .racks
        case .unwritten: .unwritten
        case .downgraded: .downgraded
        }
    }
}
