@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import Testing

@Suite("Brokers that come to a cluster later")
struct AdmissionTests {
    private func registration(_ id: Int32, life: UInt64) -> BrokerRegistration {
        BrokerRegistration(
            id: BrokerID(id),
            incarnation: BrokerIncarnation(high: UInt64(id), low: life),
            endpoints: [
                BrokerEndpoint(listener: "PLAINTEXT", host: "broker-\(id)", port: 9092),
                BrokerEndpoint(
                    listener: BrokerEndpoint.peerListener,
                    host: "peer-\(id)",
                    port: 9093
                ),
            ]
        )
    }

    private func admit(
        _ registration: BrokerRegistration,
        through place: Int,
        in cluster: TestCluster
    ) -> MetadataReply? {
        var replies: [MetadataReply] = []
        cluster.brokers[place].shards[0].decide(.registerBroker(registration)) {
            replies.append($0)
        }
        cluster.advance(by: .seconds(12))
        #expect(replies.count == 1)
        return replies.first
    }

    private func outcome(_ reply: MetadataReply?) -> RegistrationOutcome? {
        guard case .registered(let outcome)? = reply else {
            Issue.record("\(String(describing: reply))")
            return nil
        }
        return outcome
    }

    @Test("Whoever is asked, a newcomer gets one member of the metadata's group, and keeps it")
    func newcomer() throws {
        let cluster = try TestCluster()
        var outcomes: Set<RegistrationOutcome> = []
        for place in cluster.brokers.indices {
            let reply = admit(registration(4, life: 1), through: place, in: cluster)
            outcomes.insert(try #require(outcome(reply)))
        }
        #expect(outcomes.count == 1)
        let member = try #require(outcomes.first).metadataMember
        #expect(member.broker == BrokerID(4))
        #expect(member.epoch > CreationEpoch(1))
    }

    @Test("A broker whose disk was wiped comes back as a member that never was")
    func wiped() throws {
        let cluster = try TestCluster()
        cluster.kill(2)
        cluster.advance(by: .seconds(2))
        var epochs: [CreationEpoch] = [CreationEpoch(1)]
        for life in 2...4 {
            let reply = admit(registration(3, life: UInt64(life)), through: 0, in: cluster)
            epochs.append(try #require(outcome(reply)).metadataMember.epoch)
        }
        #expect(epochs == epochs.sorted())
        #expect(Set(epochs).count == epochs.count)
    }

    @Test("An id is not given twice while its broker answers")
    func occupied() throws {
        let cluster = try TestCluster()
        for place in 0..<2 {
            let reply = admit(registration(3, life: 2), through: place, in: cluster)
            guard case .refused(let refusal)? = reply else {
                Issue.record("\(String(describing: reply))")
                continue
            }
            #expect(refusal.code == .duplicateBrokerRegistration)
            #expect(refusal.message.contains("broker 3 is running elsewhere"))
        }
    }

    @Test("While nobody leads the metadata, a newcomer is told so in time")
    func leaderless() throws {
        let cluster = try TestCluster()
        cluster.kill(1)
        cluster.kill(2)
        cluster.advance(by: .seconds(2))
        guard
            case .refused(let refusal)? = admit(registration(4, life: 1), through: 0, in: cluster)
        else {
            Issue.record("nobody can have registered it")
            return
        }
        #expect([.requestTimedOut, .notController].contains(refusal.code))
    }

    @Test(
        "A founder that was drained and removed is not called any more, and learns that it is no member"
    )
    func removed() throws {
        let cluster = try TestCluster(4)
        let id = BrokerID(1)
        let drain = MetadataCommand.setBrokerState(id, .draining, allowsPartial: false)
        guard case .done = try cluster.command(drain, at: 1),
            case .member(let before?) = try cluster.command(
                .findMember(id, appliedIndex: .zero),
                at: 2
            )
        else { throw TestFailure("broker 1 could not be drained, or is no member") }
        #expect(before.broker == id)
        #expect(
            cluster.wait {
                let group = cluster.controller.map { cluster.brokers[$0].shards[0] }
                return group?.metadata?.replica.membership.isVoter(before) == false
            }
        )
        // By way of itself: it must get the answer though it is a member no more.
        guard case .done = try cluster.command(.unregisterBroker(id), at: 0) else {
            throw TestFailure("broker 1 could not be removed")
        }
        cluster.advance(by: .seconds(4))
        for place in 1...3 {
            for shard in cluster.brokers[place].shards {
                #expect(!shard.peerAddresses.contains { $0.broker == id })
            }
            guard
                case .member(nil) = try cluster.command(
                    .findMember(id, appliedIndex: .zero),
                    at: place
                )
            else {
                throw TestFailure("broker 1 is still a member at place \(place)")
            }
        }
    }

    @Test("A leader that the others cannot hear does not say who is no member")
    func staleWord() throws {
        let cluster = try TestCluster()
        let controller = try #require(cluster.controller)
        for place in 0..<3 where place != controller { cluster.kill(place) }
        guard
            case .refused = try cluster.command(
                .findMember(BrokerID(9), appliedIndex: .zero),
                at: controller
            )
        else {
            throw TestFailure("a leader without a quorum answered")
        }
    }

    @Test("A leader that knows less than the one who asks does not say who is no member")
    func setBackWord() throws {
        let cluster = try TestCluster()
        let later = cluster.image().appliedIndex + 1
        let command = MetadataCommand.findMember(BrokerID(9), appliedIndex: later)
        guard case .refused = try cluster.command(command, at: 0) else {
            throw TestFailure("the leader spoke of what it cannot know")
        }
    }
}
