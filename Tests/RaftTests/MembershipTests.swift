import FlotillaModel
import FlotillaRaft
import Testing

@Suite("Membership and quorums")
struct MembershipTests {
    private let members = (0...6).map { GroupMember(broker: BrokerID($0), epoch: CreationEpoch(1)) }

    @Test(
        "A majority is more than half, and a minimum can only raise it",
        arguments: [
            (voters: 1, minimum: 0, size: 1), (2, 0, 2), (3, 0, 2), (4, 0, 3), (5, 0, 3),
            (3, 1, 2), (3, 2, 2), (3, 3, 3), (5, 4, 4), (3, 4, 4),
        ]
    )
    func quorumSize(voters: Int, minimum: Int, size: Int) {
        #expect(Quorum(atLeast: minimum).size(of: voters) == size)
    }

    @Test(
        "The index of a quorum is the one that enough voters have reached",
        arguments: [
            (reached: [5, 4, 3], minimum: 0, index: 4), ([5, 4, 3], 3, 3), ([7, 0, 0], 0, 0),
            ([7, 7, 0], 0, 7), ([1, 2, 3, 4], 0, 2), ([9], 0, 9), ([3, 3, 3], 4, 0),
        ]
    )
    func quorumIndex(reached: [UInt64], minimum: Int, index: UInt64) {
        let membership = Membership(voters: Array(members[..<reached.count]))
        let found = membership.highestIndex(reachedBy: Quorum(atLeast: minimum)) { member in
            LogIndex(reached[Int(member.broker.rawValue)])
        }
        #expect(found == LogIndex(index))
    }

    @Test("A joint membership needs a quorum of the old and of the new voters (§4.3)")
    func jointQuorum() {
        let joint = Membership(
            voters: [members[3], members[4], members[5]],
            outgoingVoters: [members[0], members[1], members[2]]
        )
        #expect(!joint.hasQuorum { $0 >= members[3] })
        #expect(!joint.hasQuorum { $0 <= members[2] })
        #expect(joint.hasQuorum { [1, 2, 4, 5].contains($0.broker.rawValue) })
        let index = joint.highestIndex { $0 >= members[3] ? LogIndex(9) : LogIndex(4) }
        #expect(index == LogIndex(4))
        #expect(joint.allMembers == Array(members[...5]))
    }

    @Test("An empty group never has a quorum")
    func emptyGroup() {
        #expect(!Membership.empty.hasQuorum { _ in true })
        #expect(Membership.empty.highestIndex { _ in LogIndex(9) } == .zero)
    }
}
