import FlotillaEnvironment
import FlotillaModel

extension ClusterFormation {
    /// What follows from the durable state and the cards at hand.
    func decision() -> Decision {
        if let refusal = identityRefusal() { return .finish(.refuse(refusal)) }
        return switch state {
        case .empty: decisionWhenEmpty()
        case .agreed(let list): decisionWhenAgreed(list)
        case .joining(let clusterID): decisionWhenJoining(clusterID)
        case .founded, .member: decisionWhenGoingOn()
        }
    }

    /// The cards at hand, each with the address that it came from, without this broker's own.
    var others: [(address: NetworkAddress, card: FormationCard)] {
        seeds.compactMap { seed in
            guard let card = seed.card, !isOwn(seed) else { return nil }
            return (seed.address, card)
        }
    }

    // MARK: Who is who

    private func identityRefusal() -> FormationRefusal? {
        for (address, card) in others where card.broker == own.broker {
            if card.incarnation == own.incarnation {
                return .copiedDirectory(own.broker, at: address)
            }
            // A newcomer with a wrong id must not keep a member from its restart.
            if !isGoingOn || card.isGoingOn {
                return .idInUse(own.broker, at: address)
            }
        }
        return nil
    }

    // MARK: Nothing yet

    private func decisionWhenEmpty() -> Decision {
        guard !own.join.isEmpty else {
            return .become(.founded(.alone(own.broker, own.incarnation)))
        }
        // Who has met a cluster only joins, even when all of it is wiped later.
        for (_, card) in others {
            if let clusterID = card.state.clusterID {
                return .become(.joining(clusterID: clusterID))
            }
        }
        for (address, card) in others {
            if let list = card.state.founders, list.contains(own.broker, own.incarnation) {
                guard card.join == own.join, JoinList(list.addresses) == own.join else {
                    return .finish(
                        .refuse(.listsDiffer(own: own.join, other: card.join, at: address))
                    )
                }
                return .become(.agreed(list))
            }
        }
        for (address, card) in others where card.state == .empty {
            // One without a list is about to be a cluster of its own.
            if !card.join.isEmpty, card.join != own.join {
                return .finish(.refuse(.listsDiffer(own: own.join, other: card.join, at: address)))
            }
        }
        guard let founders = completeFounders(), founders.members[0].broker == own.broker else {
            return .wait
        }
        return .become(.agreed(founders))
    }

    /// The founders, when every seed answered, is empty, and is a broker of its own, and this
    /// broker is one of them.
    func completeFounders() -> FoundingList? {
        var members: [FoundingMember] = []
        for seed in seeds {
            guard let card = seed.card, card.state == .empty, card.join == own.join,
                !members.contains(where: { $0.broker == card.broker })
            else { return nil }
            members.append(
                FoundingMember(
                    broker: card.broker,
                    incarnation: card.incarnation,
                    address: seed.address
                )
            )
        }
        let list = FoundingList(members)
        return list.contains(own.broker, own.incarnation) ? list : nil
    }

    // MARK: Agreed

    /// What is known of a founder.
    enum Standing: Hashable {
        /// It agreed to the same list, or went on from there.
        case agreed
        /// Its directory is gone: another broker, or another life, is where it was.
        case replaced
        /// It has not agreed yet.
        case undecided
        /// It agreed to another list, without this broker in this life: that one may begin.
        case pledgedElsewhere
        /// It agreed to another list that waits for this broker: neither list can begin.
        case disagrees(at: NetworkAddress)
        /// It met a cluster before it agreed, and founds none any more.
        case joins(clusterID: String)
        /// It does not answer.
        case unknown
    }

    func standing(of founder: FoundingMember, in list: FoundingList) -> Standing {
        if own.isCard(of: founder) { return .agreed }
        if let (address, card) = others.first(where: { $0.card.isCard(of: founder) }) {
            switch card.state {
            case .empty: return .undecided
            case .joining(let clusterID): return .joins(clusterID: clusterID)
            case .agreed(let other), .founded(let other):
                guard other != list else { return .agreed }
                let isWaitedFor = other.contains(own.broker, own.incarnation)
                return isWaitedFor ? .disagrees(at: address) : .pledgedElsewhere
            case .member(let membership):
                return membership.founders == list
                    ? .agreed : .joins(clusterID: membership.clusterID)
            }
        }
        let there = others.first { $0.address == founder.address }
        // Another founder at this address means that names moved, not that a directory is gone.
        guard let there, !list.contains(there.card.broker, there.card.incarnation) else {
            return .unknown
        }
        return .replaced
    }

    private func decisionWhenAgreed(_ list: FoundingList) -> Decision {
        for (_, card) in others {
            guard case .member(let membership) = card.state else { continue }
            // It has not begun anything: it can still join, and then founds nothing any more.
            guard membership.founders == list else {
                return .become(.joining(clusterID: membership.clusterID))
            }
            return .become(.founded(list))
        }
        // Who has begun has seen that all may begin.
        if others.contains(where: { $0.card.state == .founded(list) }) {
            return .become(.founded(list))
        }
        let standings = list.members.map { ($0, standing(of: $0, in: list)) }
        for (founder, standing) in standings {
            switch standing {
            case .disagrees(let address):
                return .finish(.refuse(.foundersDisagree(founder.broker, at: address)))
            case .joins(let clusterID):
                return .become(.joining(clusterID: clusterID))
            case .agreed, .replaced, .undecided, .pledgedElsewhere, .unknown:
                continue
            }
        }
        let agreedCount = standings.count { $0.1 == .agreed }
        let replacedCount = standings.count { $0.1 == .replaced }
        guard agreedCount + replacedCount == list.members.count else { return .wait }
        guard agreedCount >= list.majority else {
            return .finish(
                .refuse(.foundersLost(remaining: agreedCount, of: list.members.count))
            )
        }
        return .become(.founded(list))
    }

    // MARK: Joining

    private func decisionWhenJoining(_ clusterID: String) -> Decision {
        var invitation: ClusterInvitation?
        for (address, card) in others {
            guard case .member(let membership) = card.state else { continue }
            guard membership.clusterID == clusterID else {
                let refusal = FormationRefusal.otherCluster(
                    own: clusterID,
                    other: membership.clusterID,
                    at: address
                )
                return .finish(.refuse(refusal))
            }
            let through = PeerAddress(broker: card.broker, address: address)
            if invitation?.through.append(through) == nil {
                invitation = ClusterInvitation(
                    clusterID: clusterID,
                    founders: membership.founders,
                    through: [through]
                )
            }
        }
        return invitation.map { .finish(.join($0)) } ?? .wait
    }

    // MARK: Going on

    /// Asks each seed once whether it is of another cluster; nobody need answer.
    private func decisionWhenGoingOn() -> Decision {
        guard seeds.allSatisfy({ $0.hasResult }) else { return .wait }
        if let refusal = foreignClusterRefusal() { return .finish(.refuse(refusal)) }
        switch state {
        case .founded(let list): return .finish(.found(list))
        case .member(let membership): return .finish(.resume(membership))
        case .empty, .agreed, .joining:
            preconditionFailure("only a founder or member goes on")
        }
    }

    /// One seed of the own cluster is enough to go on: a name may have passed to another cluster.
    private func foreignClusterRefusal() -> FormationRefusal? {
        var refusal: FormationRefusal?
        for (address, card) in others {
            guard case .member(let theirs) = card.state else { continue }
            switch state {
            case .member(let membership):
                if theirs.clusterID == membership.clusterID { return nil }
                refusal =
                    refusal
                    ?? .otherCluster(
                        own: membership.clusterID,
                        other: theirs.clusterID,
                        at: address
                    )
            case .founded(let list):
                if theirs.founders == list { return nil }
                refusal = refusal ?? .otherFounders(other: theirs.clusterID, at: address)
            case .empty, .agreed, .joining:
                return nil
            }
        }
        return refusal
    }
}

extension FormationCard {
    /// Whether the broker has begun in a cluster.
    fileprivate var isGoingOn: Bool {
        switch state {
        case .founded, .member: true
        case .empty, .agreed, .joining: false
        }
    }
}
