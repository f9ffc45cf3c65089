import FlotillaModel
import FlotillaRaft

// How a transcript shows effects, messages and members: one line each.

extension ClusterHarness {
    /// `3`, or `3.2` for a later creation.
    private static func name(_ member: GroupMember) -> String {
        member.epoch == CreationEpoch(1) ? "\(member.broker)" : "\(member)"
    }

    private static func name(_ position: LogPosition) -> String {
        "(\(position.term),\(position.index))"
    }

    private static func name(_ range: Range<LogIndex>) -> String {
        let last = range.upperBound - 1
        return range.lowerBound == last ? "\(last)" : "\(range.lowerBound)-\(last)"
    }

    private static func name(_ membership: Membership) -> String {
        func list(_ members: [GroupMember]) -> String {
            members.map(name).joined(separator: ",")
        }
        var text = "voters=\(list(membership.voters))"
        if membership.isJoint {
            text += " outgoing=\(list(membership.outgoingVoters))"
        }
        return membership.learners.isEmpty ? text : text + " learners=\(list(membership.learners))"
    }

    /// - Returns: `nil` for effects that show elsewhere: sends when they arrive, acknowledgements
    ///   that come with their commit.
    func describe(_ effect: Effect, of number: Int, among effects: [Effect]) -> String? {
        switch effect {
        case .persistHardState(let state, _):
            "\(number) stores term=\(state.term) vote=\(state.votedFor.map(Self.name) ?? "none")"
        case .append(let range, let term, let content, _):
            "\(number) appends \(Self.name(range)) term=\(term) \(Self.name(content))"
        case .rejectProposal(let rejection): "\(number) rejects the proposal: \(rejection)"
        case .truncate(let index): "\(number) truncates from=\(index)"
        case .appendReceived(let range, _): "\(number) takes \(Self.name(range))"
        case .installSnapshot(let position, _, _):
            "\(number) installs files to=\(Self.name(position))"
        case .send: nil
        case .readEntries(let follower, let index, _):
            "\(number) reads for \(Self.name(follower)) from=\(index)"
        case .sendSnapshot(let target, _, _, let index):
            "\(number) owes \(Self.name(target)) files needed=\(index)"
        case .receiveSnapshot(let position, let leader):
            "\(number) awaits files from \(Self.name(leader)) to=\(Self.name(position))"
        case .commitAdvanced(let index): "\(number) commits \(index)"
        case .acknowledgedAdvanced(let index):
            effects.contains(.commitAdvanced(index)) ? nil : "\(number) acknowledges \(index)"
        case .roleChanged(.follower, let term, let leader?):
            "\(number) follows \(Self.name(leader)) term=\(term)"
        case .roleChanged(let role, let term, _): "\(number) becomes \(role) term=\(term)"
        case .leaderReady(let term): "\(number) is ready term=\(term)"
        default: describeRest(effect, of: number)
        }
    }

    private func describeRest(_ effect: Effect, of number: Int) -> String? {
        switch effect {
        case .membershipChanged(let membership, let index):
            "\(number) uses \(Self.name(membership)) from=\(index)"
        case .membershipChangeFinished(let membership):
            "\(number) settles \(Self.name(membership))"
        case .membershipChangeFailed(let rejection):
            "\(number) does not change the membership: \(rejection)"
        case .readReady(let requestID, let index): "\(number) answers read \(requestID) at=\(index)"
        case .readFailed(let requestID, let rejection):
            "\(number) fails read \(requestID): \(rejection)"
        case .transferFinished(let target, let succeeded):
            "\(number) ends the hand-over to \(Self.name(target)) succeeded=\(succeeded)"
        case .transferRejected(let rejection): "\(number) does not hand over: \(rejection)"
        case .quietChanged(let isQuiet): isQuiet ? "\(number) falls quiet" : "\(number) wakes"
        case .electableChanged(let isElectable): "\(number) is electable=\(isElectable)"
        default: nil
        }
    }

    private static func name(_ content: AppendContent) -> String {
        switch content {
        case .proposal: "data"
        case .termStart: "termStart"
        case .membership(let membership): name(membership)
        }
    }

    /// - Returns: `nil` for heartbeats while they are not shown.
    func describe(_ packet: Packet) -> String? {
        let link = "\(Self.name(packet.sender))→\(Self.name(packet.target))"
        switch packet.message {
        case .heartbeatRequest, .heartbeatResponse:
            return showsHeartbeats ? "\(link) \(Self.describe(packet.message))" : nil
        default:
            return "\(link) \(Self.describe(packet.message))"
        }
    }

    private static func describe(_ message: Message) -> String {
        switch message {
        case .preVoteRequest(let request):
            "PreVoteRequest term=\(request.term) last=\(name(request.lastEntry))"
        case .preVoteResponse(let response):
            "PreVoteResponse term=\(response.term) granted=\(response.isGranted)"
        case .voteRequest(let request):
            "VoteRequest term=\(request.term) last=\(name(request.lastEntry))"
                + (request.isTransfer ? " transfer" : "")
        case .voteResponse(let response):
            "VoteResponse term=\(response.term) granted=\(response.isGranted)"
        case .appendRequest(let request):
            "AppendRequest term=\(request.term) previous=\(name(request.previous))"
                + " entries=\(request.entries.isEmpty ? "none" : name(request.range))"
                + " commit=\(request.commitIndex)"
        case .appendResponse(let response):
            "AppendResponse term=\(response.term) \(describe(response.outcome))"
        case .heartbeatRequest(let request):
            "HeartbeatRequest term=\(request.term) round=\(request.round) commit=\(request.commitIndex)"
                + (request.goesQuiet ? " quiet" : "")
        case .heartbeatResponse(let response):
            "HeartbeatResponse term=\(response.term) round=\(response.round)"
                + " verified=\(response.verifiedIndex) commit=\(response.commitIndex)"
        case .snapshotOffer(let offer):
            "SnapshotOffer term=\(offer.term) position=\(name(offer.position))"
        case .timeoutNow(let order):
            "TimeoutNow term=\(order.term)"
        }
    }

    private static func describe(_ outcome: AppendResponse.Outcome) -> String {
        switch outcome {
        case .matched(let index): "matched=\(index)"
        case .rejected(let previous, let hint):
            "rejected=\(previous) hint=\(name(hint))"
        }
    }

    static func describe(_ member: TestMember) -> String {
        let raft = member.raft
        guard member.isUp else {
            return "\(name(member.id)) is down"
        }
        return "\(name(member.id)) \(raft.role) term=\(raft.term)"
            + " vote=\(raft.hardState.votedFor.map(name) ?? "none") last=\(name(raft.lastPosition))"
            + " flushed=\(raft.flushedIndex) commit=\(raft.commitIndex)"
    }

    static func describeLog(_ member: TestMember) -> String {
        let terms = member.log.entries.map { "\($0.term)" }.joined(separator: " ")
        return "\(name(member.id)) after \(name(member.log.base)): \(terms)"
    }
}
