@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Cluster formation")
struct ClusterFormationTests {
    private let all = FoundingList.of([1, 1, 1])

    // MARK: Founding

    @Test("A broker without a list founds a cluster of itself at once, as member 1.0")
    func alone() {
        var formation = ClusterFormation(.example(1, join: .none))
        let list = FoundingList.alone(1, BrokerIncarnation(high: 1, low: 1))
        #expect(formation.step(.started) == [.persist(.founded(list))])
        #expect(formation.step(.persisted) == [.finish(.found(list))])
        #expect(list.groupMembers.map(\.description) == ["1.0"])
    }

    @Test("A broker that is named alone founds a cluster when it has reached itself")
    func namedAlone() {
        let own = FormationCard.example(1, join: .seeds(1))
        var formation = ClusterFormation(own)
        #expect(formation.step(.started) == [.ask(.seed(1), after: .zero)])
        #expect(
            formation.hear((1, own)) == [.agreed(.of([1])), .founded(.of([1]))]
        )
        #expect(formation.outcome == .found(.of([1])))
        #expect(formation.ownNamedAddress == .seed(1))
    }

    @Test("Nobody founds before all seeds have answered; then the one with the lowest id begins")
    func lowestBegins() {
        for own in 1...3 as ClosedRange<Int32> {
            var formation = ClusterFormation.started(.example(own))
            #expect(formation.hear((1, .example(1)), (2, .example(2))).isEmpty)
            #expect(formation.hear((3, .example(3))) == (own == 1 ? [.agreed(all)] : []))
            #expect(formation.outcome == nil)
        }
    }

    @Test("An agreement becomes a cluster when the others have agreed, in whatever order")
    func begins() {
        let agreed = FormationState.agreed(all)
        for order in [[2, 3], [3, 2]] as [[Int32]] {
            var formation = ClusterFormation.started(.example(1, state: agreed))
            #expect(formation.hear((order[0], .example(order[0], state: agreed))).isEmpty)
            #expect(
                formation.hear((order[1], .example(order[1], state: agreed))) == [.founded(all)]
            )
            #expect(formation.outcome == .found(all))
            #expect(formation.ownNamedAddress == .seed(1))
        }
        #expect(all.groupMembers.map(\.description) == ["1.1", "2.1", "3.1"])
        #expect(all.clusterFounders.map(\.member) == all.groupMembers)
        #expect(all.clusterFounders[2].incarnation == BrokerIncarnation(high: 3, low: 1))
    }

    @Test("A seed adopts the list in which it finds itself, from a founder or a broker that began")
    func adopts() {
        for state in [FormationState.agreed(all), .founded(all)] {
            var formation = ClusterFormation.started(.example(3))
            let written = formation.hear((1, .example(1, state: state)))
            #expect(written.first == .agreed(all))
            #expect((formation.outcome == .found(all)) == (state == .founded(all)))
        }
    }

    @Test("Nothing is told, and nothing follows, before it is durable")
    func durableFirst() {
        var formation = ClusterFormation.started(.example(3))
        let effects = formation.step(.answered(.seed(1), .example(1, state: .agreed(all))))
        #expect(
            effects == [.persist(.agreed(all)), .ask(.seed(1), after: ClusterFormation.pollDelay)]
        )
        #expect(formation.state == .empty)
        let later = formation.step(.answered(.seed(2), .example(2, state: .founded(all))))
        #expect(later == [.ask(.seed(2), after: ClusterFormation.pollDelay)])
        #expect(formation.step(.persisted) == [.persist(.founded(all))])
        #expect(formation.state == .agreed(all))
        #expect(formation.step(.persisted) == [.finish(.found(all))])
    }

    @Test("A seed that crashed after it agreed goes on with the same list, whoever answers first")
    func restartAfterAgreeing() {
        var formation = ClusterFormation.started(.example(1, run: 8, state: .agreed(all)))
        #expect(formation.hear((2, .example(2)), (3, .example(3))).isEmpty)
        #expect(
            formation.waiting == [
                "broker 2 at b2.example:9192 has not agreed yet",
                "broker 3 at b3.example:9192 has not agreed yet",
            ]
        )
        #expect(formation.hear((2, .example(2, state: .agreed(all)))).isEmpty)
        #expect(formation.hear((3, .example(3, state: .founded(all)))) == [.founded(all)])
    }

    // MARK: Wiped while founding

    @Test("A founder that was wiped before the start is counted as gone; the others begin")
    func wipedFounder() {
        var formation = ClusterFormation.started(.example(1, state: .agreed(all)))
        #expect(formation.hear((3, .example(3, life: 2))).isEmpty)
        #expect(formation.hear((2, .example(2, state: .agreed(all)))) == [.founded(all)])
        #expect(formation.outcome == .found(all))
    }

    @Test("A wiped founder never takes part as its old self: it waits, and then joins")
    func wipedFounderJoins() {
        var formation = ClusterFormation.started(.example(3, life: 2))
        for state in [FormationState.agreed(all), .founded(all)] {
            #expect(
                formation.hear(
                    (1, .example(1, state: state)),
                    (2, .example(2, state: state)),
                    (3, .example(3, life: 2))
                ).isEmpty
            )
        }
        let written = formation.hear((1, .example(1, state: .member(of: "x", all))))
        #expect(written == [.joining(clusterID: "x")])
        let through = [PeerAddress(broker: 1, address: .seed(1))]
        #expect(
            formation.outcome
                == .join(ClusterInvitation(clusterID: "x", founders: all, through: through))
        )
    }

    @Test("A founder that only fails to answer is not counted as gone")
    func silentFounder() {
        var formation = ClusterFormation.started(.example(1, state: .agreed(all)))
        _ = formation.step(.silent(.seed(3), reason: "refused"))
        #expect(formation.hear((2, .example(2, state: .agreed(all)))).isEmpty)
        #expect(formation.waiting == ["broker 3 at b3.example:9192 does not answer (refused)"])
    }

    @Test("Founders that changed places are not counted as gone")
    func movedNames() {
        var formation = ClusterFormation.started(.example(1, state: .agreed(all)))
        // Broker 2 is reached under the name of 3, and nobody under its own.
        #expect(formation.hear((3, .example(2, state: .agreed(all)))).isEmpty)
        #expect(formation.outcome == nil)
    }

    @Test("When most founders are wiped the rest does not go on, and says so")
    func mostAreWiped() {
        var formation = ClusterFormation.started(.example(1, state: .agreed(all)))
        _ = formation.hear((2, .example(2, life: 2)), (3, .example(3, life: 2)))
        #expect(formation.refusal == .foundersLost(remaining: 1, of: 3))
    }

    @Test("Brokers that agreed to two lists with both of them begin neither, and say so")
    func conflictingLists() {
        let other = FoundingList.of([2, 1, 1])
        for (number, list, theirs) in [(2 as Int32, all, other), (3, other, all)] {
            let peer = 5 - number
            var formation = ClusterFormation.started(.example(number, state: .agreed(list)))
            _ = formation.hear(
                (1, .example(1, life: 2, state: .agreed(other))),
                (peer, .example(peer, state: .agreed(theirs)))
            )
            #expect(formation.refusal == .foundersDisagree(BrokerID(peer), at: .seed(peer)))
        }
    }

    @Test("A founder whose list the others left for one with its old life waits for their cluster")
    func othersBegin() {
        var formation = ClusterFormation.started(
            .example(1, life: 2, state: .agreed(.of([2, 1, 1])))
        )
        #expect(formation.hear((2, .example(2, state: .agreed(all)))).isEmpty)
        #expect(
            formation.waiting.first
                == "broker 2 at b2.example:9192 is founding a cluster with others"
        )
        #expect(
            formation.hear((2, .example(2, state: .member(of: "x", all)))) == [
                .joining(clusterID: "x")
            ]
        )
    }

    @Test("A founder that finds another already joining a cluster joins that one too")
    func otherJoins() {
        var formation = ClusterFormation.started(.example(1, state: .agreed(all)))
        #expect(
            formation.hear((2, .example(2, life: 2, state: .joining(clusterID: "y")))).isEmpty
        )
        #expect(
            formation.hear((2, .example(2, state: .joining(clusterID: "x")))) == [
                .joining(clusterID: "x")
            ]
        )
    }

    // MARK: Lists

    @Test("Lists that differ are refused, and both are shown")
    func listsDiffer() {
        var formation = ClusterFormation.started(.example(1))
        _ = formation.hear((2, .example(2, join: .seeds(1, 2))))
        #expect(
            formation.refusal.map { "\($0)" }
                == "cluster.join differs: here b1.example:9192,b2.example:9192,b3.example:9192, "
                + "at b2.example:9192 b1.example:9192,b2.example:9192; give all brokers the same list"
        )
    }

    @Test("A founding list of other seeds than the own ones is refused, although it names this one")
    func foreignFounding() {
        var formation = ClusterFormation.started(.example(1, join: .seeds(1, 2, 3, 4)))
        _ = formation.hear((2, .example(2, state: .agreed(all))))
        #expect(
            formation.refusal
                == .listsDiffer(own: .seeds(1, 2, 3, 4), other: .seeds(1, 2, 3), at: .seed(2))
        )
    }

    @Test("A broker without a list does not stop one that names it: it is about to be a cluster")
    func namesALoneBroker() {
        var formation = ClusterFormation.started(.example(2, join: .seeds(1)))
        let lone = FoundingList.alone(1, BrokerIncarnation(high: 1, low: 1))
        #expect(
            formation.hear(
                (1, .example(1, join: .none)),
                (1, .example(1, join: .none, state: .founded(lone)))
            ).isEmpty
        )
        #expect(formation.waiting == ["the broker at b1.example:9192 has no cluster id yet"])
        _ = formation.hear((1, .example(1, join: .none, state: .member(of: "x", lone))))
        guard case .join(let invitation)? = formation.outcome else {
            Issue.record("\(String(describing: formation.outcome))")
            return
        }
        #expect(invitation.founders == lone)
    }

    // MARK: Joining

    @Test("A broker that is not named waits for the cluster, and joins it")
    func lateBroker() {
        var formation = ClusterFormation.started(.example(4))
        #expect(
            formation.hear((1, .example(1)), (2, .example(2)), (3, .example(3))).isEmpty
        )
        #expect(
            formation.waiting == [
                "this broker is none of those named, and they have not formed a cluster yet"
            ]
        )
        #expect(formation.hear((1, .example(1, state: .founded(all)))).isEmpty)
        let written = formation.hear((2, .example(2, state: .member(of: "x", all))))
        #expect(written == [.joining(clusterID: "x")])
        #expect(formation.ownNamedAddress == nil)
        guard case .join(let invitation)? = formation.outcome else {
            Issue.record("\(String(describing: formation.outcome))")
            return
        }
        #expect(invitation.through == [PeerAddress(broker: 2, address: .seed(2))])
    }

    @Test("A seed that has met a cluster only joins, even if that cluster is wiped later")
    func onlyJoins() {
        var formation = ClusterFormation.started(.example(1))
        #expect(
            formation.hear((2, .example(2, state: .joining(clusterID: "x")))) == [
                .joining(clusterID: "x")
            ]
        )
        #expect(
            formation.hear(
                (1, .example(1)),
                (2, .example(2, life: 2)),
                (3, .example(3))
            ).isEmpty
        )
        #expect(formation.waiting == ["no broker of cluster x answers"])
        var restarted = ClusterFormation.started(.example(1, state: .joining(clusterID: "x")))
        _ = restarted.hear((3, .example(3, state: .member(of: "y", all))))
        #expect(restarted.refusal == .otherCluster(own: "x", other: "y", at: .seed(3)))
    }

    @Test("Seeds of different clusters are refused")
    func severalClusters() {
        var formation = ClusterFormation.started(.example(4))
        let effects = formation.step(
            .answered(.seed(1), .example(1, state: .member(of: "x", all)))
        )
        #expect(effects.first == .persist(.joining(clusterID: "x")))
        _ = formation.step(.answered(.seed(2), .example(2, state: .member(of: "y", all))))
        _ = formation.step(.persisted)
        #expect(formation.refusal == .otherCluster(own: "x", other: "y", at: .seed(2)))
    }

    @Test("A founder that agreed goes on with the cluster of its list, and joins any other")
    func agreedMeetsCluster() {
        var formation = ClusterFormation.started(.example(3, state: .agreed(all)))
        #expect(
            formation.hear((1, .example(1, state: .member(of: "x", all)))) == [.founded(all)]
        )
        var other = ClusterFormation.started(.example(1, life: 2, state: .agreed(.of([2, 1, 1]))))
        #expect(
            other.hear((2, .example(2, state: .member(of: "x", all)))) == [
                .joining(clusterID: "x")
            ]
        )
        var begun = ClusterFormation.started(.example(3, state: .founded(all)))
        _ = begun.hear(
            (1, .example(1, state: .member(of: "y", .of([5, 5, 5])))),
            (2, .example(2, state: .member(of: "y", .of([5, 5, 5])))),
            (3, .example(3, state: .founded(all)))
        )
        #expect(begun.refusal == .otherFounders(other: "y", at: .seed(1)))
    }

    // MARK: Going on

    @Test("A member goes on when everybody was asked once, and nobody need answer")
    func memberAlone() {
        let membership = ClusterMembership(clusterID: "x", epoch: 1, founders: all)
        var formation = ClusterFormation.started(.example(1, state: .member(membership)))
        #expect(formation.step(.silent(.seed(1), reason: "a")).isEmpty)
        #expect(formation.step(.silent(.seed(2), reason: "b")).isEmpty)
        #expect(formation.step(.silent(.seed(3), reason: "c")) == [.finish(.resume(membership))])
    }

    @Test("A founder that had begun goes on without the others")
    func founderAlone() {
        var formation = ClusterFormation.started(.example(2, state: .founded(all)))
        for number in [1, 2] as [Int32] {
            _ = formation.step(.silent(.seed(number), reason: "down"))
        }
        #expect(
            formation.step(.answered(.seed(3), .example(3, state: .agreed(all))))
                == [.finish(.found(all))]
        )
    }

    @Test("A member whose seeds are all of another cluster is refused; one of its own is enough")
    func wrongCluster() {
        var wrong = ClusterFormation.started(.example(1, state: .member(of: "x", all)))
        _ = wrong.hear(
            (1, .example(1, state: .member(of: "x", all))),
            (2, .example(2, state: .member(of: "y", .of([5, 5, 5])))),
            (3, .example(3))
        )
        #expect(wrong.refusal == .otherCluster(own: "x", other: "y", at: .seed(2)))
        var right = ClusterFormation.started(.example(1, state: .member(of: "x", all)))
        _ = right.hear(
            (1, .example(1, state: .member(of: "x", all))),
            (2, .example(2, state: .member(of: "y", .of([5, 5, 5])))),
            (3, .example(3, state: .member(of: "x", all)))
        )
        #expect(right.refusal == nil)
    }

    @Test("A directory of a cluster of several brokers does not start without a peer listener")
    func noPeerListener() {
        var card = FormationCard.example(1, join: .none, state: .member(of: "x", all))
        card.peerAddress = nil
        var formation = ClusterFormation(card)
        #expect(formation.step(.started) == [.finish(.refuse(.noPeerListener))])
    }

    // MARK: Identity

    @Test("The same id in two brokers is refused by both, unless one of them was there before")
    func sameID() {
        for state in [FormationState.empty, .agreed(all), .joining(clusterID: "x")] {
            var formation = ClusterFormation.started(.example(3, state: state))
            _ = formation.hear((2, .example(3, life: 9)))
            #expect(formation.refusal == .idInUse(3, at: .seed(2)))
        }
        var member = ClusterFormation.started(.example(3, state: .member(of: "x", all)))
        _ = member.hear(
            (1, .example(1)),
            (2, .example(3, life: 9)),
            (3, .example(3, state: .member(of: "x", all)))
        )
        #expect(member.refusal == nil)
        var returning = ClusterFormation.started(.example(3, state: .member(of: "x", all)))
        _ = returning.hear((2, .example(3, life: 9, state: .member(of: "x", all))))
        #expect(returning.refusal == .idInUse(3, at: .seed(2)))
    }

    @Test("Two other brokers with one id keep the cluster from forming, and are named")
    func sameIDElsewhere() {
        var formation = ClusterFormation.started(.example(1))
        #expect(
            formation.hear((1, .example(1)), (2, .example(2)), (3, .example(2, life: 9))).isEmpty
        )
        #expect(
            formation.waiting == [
                "the brokers at b2.example:9192 and b3.example:9192 both have the id 2"
            ]
        )
    }

    @Test("A copy of the directory in another process is found by its run")
    func copiedDirectory() {
        var formation = ClusterFormation.started(.example(1, run: 1))
        _ = formation.hear((2, .example(1, run: 2)))
        #expect(formation.refusal == .copiedDirectory(1, at: .seed(2)))
    }

    @Test("One broker under two names keeps the cluster from forming, and is named")
    func twoNames() {
        var formation = ClusterFormation.started(.example(1))
        #expect(
            formation.hear((1, .example(1)), (2, .example(2)), (3, .example(2))).isEmpty
        )
        #expect(
            formation.waiting == ["b2.example:9192 and b3.example:9192 are the same broker"]
        )
    }

    // MARK: Asking

    @Test("Whoever is silent is asked again, ever more rarely up to a bound")
    func delays() {
        var formation = ClusterFormation(.example(1))
        #expect(
            formation.step(.started)
                == [1, 2, 3].map { ClusterFormation.Effect.ask(.seed($0), after: .zero) }
        )
        #expect(formation.waiting.count == 3)
        var delays: [Duration] = []
        for _ in 0..<6 {
            for case .ask(_, let delay) in formation.step(.silent(.seed(2), reason: "down")) {
                delays.append(delay)
            }
        }
        #expect(delays.map(\.wholeMilliseconds) == [200, 400, 800, 1600, 1600, 1600])
        #expect(
            formation.step(.answered(.seed(2), .example(2)))
                == [.ask(.seed(2), after: .milliseconds(100))]
        )
        #expect(
            formation.waiting == [
                "b1.example:9192 has not answered yet", "b3.example:9192 has not answered yet",
            ]
        )
    }
}
