import FlotillaKafkaWire
import FlotillaModel

/// Where a member of a classic group stands: what it was told, and what follows from each answer.
///
/// Pure: `GroupConsumer` asks the coordinator, and does what is said here.
struct ClassicMember: Sendable {
    /// How far the member has come.
    enum Phase: Hashable, Sendable {
        /// In no generation that counts.
        case outside
        /// Asked to join, or to be told its share; the coordinator keeps it as long as that lasts.
        case joining
        /// Has a share, and says by heartbeats that it lives.
        case stable
    }

    /// What an answer means.
    enum Verdict: Hashable, Sendable {
        case fine
        /// The group divides anew, and this member takes part.
        case rejoins
        /// The group does not know the member's share as its own any more.
        case isLost
        /// Somebody else coordinates, or nobody yet.
        case coordinatorMoved
        /// It will be the same next time.
        case fails(ClientError)
    }

    /// What follows from being let in.
    enum Joined: Hashable, Sendable {
        /// Ask again.
        case again
        /// Somebody else assigns.
        case follows
        /// This member assigns, unless the group keeps what it has.
        case leads([Assignor.Member], keepsShares: Bool)
    }

    let group: String
    private(set) var phase = Phase.outside
    private(set) var memberID = ""
    private(set) var generation: Int32 = -1
    private(set) var assignor: Assignor?
    private(set) var isLeader = false
    /// Whether it must join before anything else.
    private(set) var isRejoinDue = true
    /// Whether what it still reads is not its own any more.
    private(set) var hasLostShare = false

    init(group: String) {
        self.group = group
    }

    /// Whether its commits may be refused only because it is between two generations.
    var isRebalancing: Bool {
        phase != .stable || isRejoinDue
    }

    // MARK: Joining

    /// Begins to join.
    mutating func beginJoining() {
        precondition(!hasLostShare, "what is lost is given up before the member joins")
        phase = .joining
        isRejoinDue = false
        isLeader = false
    }

    /// Could not join now.
    mutating func stopJoining() {
        phase = .outside
        isRejoinDue = true
    }

    /// The answer to JoinGroup.
    ///
    /// - Throws: what ends the membership, and what may pass.
    mutating func take(_ response: JoinGroupResponse) throws(ClientError) -> Joined {
        if response.errorCode == ErrorCode.memberIdRequired.rawValue {
            memberID = response.memberId
            stopJoining()
            return .again
        }
        guard try isAccepted(response.errorCode) else { return .again }
        guard let assignor = response.protocolName.flatMap(Assignor.init(rawValue:)) else {
            throw .malformedResponse("group \(group) divides by \(response.protocolName ?? "?")")
        }
        memberID = response.memberId
        generation = response.generationId
        self.assignor = assignor
        isLeader = response.leader == memberID
        guard isLeader else { return .follows }
        var members: [Assignor.Member] = []
        for member in response.members {
            let told: MemberSubscription
            do throws(WireError) {
                told = try MemberSubscription(member.metadata)
            } catch {
                throw .malformedResponse("subscription of \(member.memberId): \(error)")
            }
            members.append(
                Assignor.Member(
                    id: member.memberId,
                    instanceID: member.groupInstanceId,
                    topics: Set(told.topics),
                    owned: told.owned,
                    generation: told.generation
                )
            )
        }
        return .leads(members, keepsShares: response.skipAssignment)
    }

    /// The answer to SyncGroup; nil where the member must join again.
    mutating func take(_ response: SyncGroupResponse) throws(ClientError) -> [NamedPartition]? {
        guard try isAccepted(response.errorCode) else { return nil }
        do throws(WireError) {
            let share = try MemberAssignment.partitions(response.assignment)
            phase = .stable
            return share
        } catch {
            stopJoining()
            throw .malformedResponse("assignment in group \(group): \(error)")
        }
    }

    /// Whether a step of joining went well; else it begins again.
    private mutating func isAccepted(_ code: Int16) throws(ClientError) -> Bool {
        switch judge(code) {
        case .fine: return true
        case .rejoins, .isLost:
            stopJoining()
            return false
        case .coordinatorMoved:
            stopJoining()
            throw refusal(code)
        case .fails(let error):
            stopJoining()
            throw error
        }
    }

    // MARK: Answers

    /// What an error code of any group API means for the member.
    mutating func judge(_ code: Int16) -> Verdict {
        switch ErrorCode(rawValue: code) ?? .unknownServerError {
        case .noError: return .fine
        case .rebalanceInProgress:
            isRejoinDue = true
            return .rejoins
        case .unknownMemberId:
            memberID = ""
            lose()
            return .isLost
        case .illegalGeneration:
            lose()
            return .isLost
        case .fencedInstanceId:
            // What it had is another's, which goes by its static name.
            lose()
            return .fails(refusal(code))
        case let known where known.isRetriable: return .coordinatorMoved
        default: return .fails(refusal(code))
        }
    }

    private func refusal(_ code: Int16) -> ClientError {
        .refused(
            ErrorCode(rawValue: code) ?? .unknownServerError,
            subject: "group \(group)",
            message: nil
        )
    }

    /// Has the member join again, with what it has.
    mutating func rejoin() {
        isRejoinDue = true
    }

    /// Leaves: what it has is not its own any more, and it begins again as somebody new.
    mutating func leave() {
        memberID = ""
        lose()
    }

    private mutating func lose() {
        generation = -1
        phase = .outside
        isRejoinDue = true
        hasLostShare = true
    }

    /// What was lost is not read any more.
    mutating func forgetLoss() {
        hasLostShare = false
    }
}
