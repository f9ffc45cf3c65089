import FlotillaBroker
import FlotillaCoordination
import FlotillaModel
import FlotillaReplication
import NIOCore
import Testing

@testable import FlotillaServer

@Suite("A broker that may have been removed")
struct RemovalSuspicionTests {
    private let start = ContinuousClock.now

    /// The points of time, in milliseconds, at which a broker asks that looks every 100.
    private func questions(upTo end: Int, hearing: (Int) -> Bool) -> [Int] {
        var suspicion = RemovalSuspicion(now: start)
        return stride(from: 100, through: end, by: 100).filter { time in
            suspicion.shouldAsk(hears: hearing(time), now: start + .milliseconds(time))
        }
    }

    @Test("It asks a second after it last heard the leader, and then every five")
    func rhythm() {
        #expect(questions(upTo: 12_000) { _ in false } == [1_000, 6_000, 11_000])
        #expect(questions(upTo: 4_000) { $0 <= 2_000 } == [3_000])
    }

    @Test("While a leader is heard now and then it asks nobody")
    func heard() {
        #expect(questions(upTo: 20_000) { $0 % 900 == 0 }.isEmpty)
    }

    private func answer(
        _ reply: MetadataReply,
        _ verdict: PeerHelloAnswer.Verdict = .accepted
    ) throws -> PeerHelloAnswer {
        PeerHelloAnswer(
            verdict,
            broker: BrokerID(1),
            incarnation: BrokerIncarnation(high: 1, low: 1),
            clusterID: "c",
            body: try reply.encoded()
        )
    }

    @Test("Only a leader's word that names another member or none is a proof")
    func proof() throws {
        let own = GroupMember(broker: BrokerID(2), epoch: CreationEpoch(5))
        let other = GroupMember(broker: BrokerID(2), epoch: CreationEpoch(6))
        func proves(_ answer: PeerHelloAnswer) -> Bool {
            RemovalWord(answer).proves(removalOf: own)
        }
        #expect(proves(try answer(.member(nil))))
        #expect(proves(try answer(.member(other))))
        #expect(!proves(try answer(.member(own))))
        #expect(!proves(try answer(.refused(Refusal(.notController, "ask again")))))
        #expect(!proves(try answer(.done)))
        #expect(!proves(try answer(.member(nil), .notYet("it is still starting"))))
        // A broker of an older version does not know the question.
        var unknown = try answer(.member(nil), .refused("a petition that cannot be read"))
        unknown.body = ByteBuffer()
        #expect(!proves(unknown))
        var garbage = try answer(.member(nil))
        garbage.body = ByteBuffer(string: "garbage")
        #expect(!proves(garbage))
    }
}
