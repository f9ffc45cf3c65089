@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

private func members(_ brokers: BrokerID..., epoch: CreationEpoch = 1) -> [GroupMember] {
    brokers.map { GroupMember(broker: $0, epoch: epoch) }
}

@Suite("The guide of a group")
struct GroupGuideTests {
    private func step(
        _ fact: GroupFact,
        _ wish: [GroupMember],
        learners: [GroupMember] = [],
        caughtUp: [GroupMember] = []
    ) -> GroupStep {
        GroupGuide.step(from: fact, to: GroupWish(voters: wish, learners: learners)) {
            caughtUp.contains($0)
        }
    }

    @Test("A group that is what it should be is left alone")
    func rest() {
        #expect(step(GroupFact(voters: members(1, 2, 3)), members(3, 1, 2)) == .nothing)
    }

    @Test("Whoever comes is a learner first, then a voter in the change that lets the others go")
    func stages() {
        var fact = GroupFact(voters: members(1, 2, 3))
        #expect(
            step(fact, members(1, 2, 4)) == .change(voters: members(1, 2, 3), learners: members(4))
        )
        fact.learners = members(4)
        #expect(step(fact, members(1, 2, 4)) == .awaitLearners(members(4)))
        #expect(
            step(fact, members(1, 2, 4), caughtUp: members(4))
                == .change(voters: members(1, 2, 4), learners: [])
        )
        fact = GroupFact(voters: members(1, 2, 4), outgoingVoters: members(1, 2, 3))
        #expect(step(fact, members(1, 2, 4), caughtUp: members(4)) == .awaitChange)
        #expect(step(GroupFact(voters: members(1, 2, 4)), members(1, 2, 4)) == .nothing)
    }

    @Test("While a change is not committed nothing is begun (bug 14)")
    func uncommitted() {
        let fact = GroupFact(voters: members(1, 2, 3), isCommitted: false)
        #expect(step(fact, members(1, 2)) == .awaitChange)
    }

    @Test("A cancelled movement is undone at every stage")
    func cancelled() {
        let wish = members(1, 2, 3)
        #expect(
            step(GroupFact(voters: wish, learners: members(4)), wish)
                == .change(voters: wish, learners: []),
            "a learner leaves"
        )
        #expect(
            step(GroupFact(voters: members(1, 2, 4), outgoingVoters: wish), wish) == .awaitChange,
            "a joint membership is finished first"
        )
        let done = GroupFact(voters: members(1, 2, 4))
        #expect(
            step(done, wish) == .change(voters: members(1, 2, 4), learners: members(3)),
            "who had left comes back as a learner"
        )
        let back = GroupFact(voters: members(1, 2, 4), learners: members(3))
        #expect(
            step(back, wish, caughtUp: members(3)) == .change(voters: wish, learners: [])
        )
    }

    @Test("Fewer replicas take one change, more take the learners' time")
    func resized() {
        let fact = GroupFact(voters: members(1, 2, 3))
        #expect(step(fact, members(2)) == .change(voters: members(2), learners: []))
        #expect(
            step(GroupFact(voters: members(1)), members(1, 2, 3))
                == .change(voters: members(1), learners: members(2, 3))
        )
        let half = GroupFact(voters: members(1), learners: members(2, 3))
        #expect(
            step(half, members(1, 2, 3), caughtUp: members(2)) == .awaitLearners(members(3)),
            "a group of two would be worse than one"
        )
    }

    @Test(
        "A lost member's successor takes its vote at once, though another learner is far behind (bug 13)"
    )
    func successor() {
        let fresh = members(3, epoch: 9)
        let fact = GroupFact(voters: members(1, 2, 3), learners: (fresh + members(4)).sorted())
        let wish = members(1, 4) + fresh
        #expect(
            step(fact, wish, caughtUp: fresh)
                == .change(voters: members(1, 2) + fresh, learners: members(4))
        )
        #expect(step(fact, wish) == .awaitLearners(fresh + members(4)))
    }

    @Test("In the metadata group a voter may become a learner and a learner a voter in one change")
    func metadata() {
        let fact = GroupFact(voters: members(1, 2, 3), learners: members(4, 5))
        #expect(
            step(fact, members(2, 3, 4), learners: members(1, 5), caughtUp: members(4))
                == .change(voters: members(2, 3, 4), learners: members(1, 5))
        )
        let after = GroupFact(voters: members(2, 3, 4), learners: members(1, 5))
        #expect(step(after, members(2, 3, 4), learners: members(1, 5)) == .nothing)
        #expect(
            step(after, members(2, 3, 4), learners: members(5))
                == .change(voters: members(2, 3, 4), learners: members(5))
        )
    }

    @Test(
        "A partition's leader reports the end once the group is what was wished for, by its revision"
    )
    func report() {
        let rest = PartitionImage(replicas: members(1, 2, 3))
        let moving = rest.moved(to: [1, 2, 4], epoch: 1)
        let done = GroupFact(voters: members(1, 2, 4))
        #expect(
            PartitionGuide.step(of: moving, from: done) { _ in true }
                == .reportFinished(revision: 1)
        )
        #expect(PartitionGuide.step(of: moving.settled(), from: done) { _ in true } == .nothing)
        #expect(
            PartitionGuide.step(of: moving, from: GroupFact(voters: members(1, 2, 3))) { _ in true }
                == .group(.change(voters: members(1, 2, 3), learners: members(4)))
        )
    }

    @Test(
        "From any membership to any wish: it arrives, through joint changes of caught up members alone",
        arguments: 0..<300 as Range<UInt64>
    )
    func arrives(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let pick = { (random: inout SeededRandom) -> [GroupMember] in
            (1...6).filter { _ in Bool.random(using: &random) }.map { (number: Int32) in
                GroupMember(
                    broker: BrokerID(number),
                    epoch: CreationEpoch(UInt64.random(in: 1...2, using: &random))
                )
            }
        }
        let wished = pick(&random)
        let wish = GroupWish(voters: wished.isEmpty ? members(1) : wished)
        let voters = pick(&random)
        var fact = GroupFact(voters: voters.isEmpty ? members(2) : voters)
        fact.learners = pick(&random).filter { !fact.voters.contains($0) }
        var caughtUp: Set<GroupMember> = []
        for _ in 0..<30 {
            let step = GroupGuide.step(from: fact, to: wish, isCaughtUp: caughtUp.contains)
            switch step {
            case .nothing:
                #expect(fact.voters.sorted() == wish.voters.sorted() && fact.learners.isEmpty)
                return
            case .awaitChange:
                fact.outgoingVoters = []
                fact.isCommitted = true
            case .awaitLearners(let laggards):
                #expect(
                    laggards.allSatisfy { fact.learners.contains($0) && !caughtUp.contains($0) }
                )
                caughtUp.insert(laggards[0])
            case .change(let voters, let learners):
                let fresh = voters.filter { !fact.voters.contains($0) }
                #expect(fresh.allSatisfy { fact.learners.contains($0) && caughtUp.contains($0) })
                #expect(!voters.isEmpty && Set(voters).isDisjoint(with: learners))
                #expect(voters == voters.sorted() && learners == learners.sorted())
                if voters != fact.voters.sorted() { fact.outgoingVoters = fact.voters }
                (fact.voters, fact.learners, fact.isCommitted) = (voters, learners, false)
            }
        }
        Issue.record("it did not arrive")
    }
}
