import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaServer
import NIOCore
import Synchronization
import Testing

@Suite("The way of a new broker into a cluster")
struct AdmissionTests {
    private static let registration = BrokerRegistration(
        id: BrokerID(4),
        incarnation: BrokerIncarnation(high: 4, low: 9),
        endpoints: [BrokerEndpoint(listener: "PEER", host: "b4", port: 9192)],
        rack: "r1"
    )
    private static let outcome = RegistrationOutcome(
        clusterID: "fleet",
        metadataMember: GroupMember(broker: BrokerID(4), epoch: CreationEpoch(77))
    )
    private static let seeds = (1...2).map { number in
        PeerAddress(
            broker: BrokerID(Int32(number)),
            address: NetworkAddress(host: "b\(number)", port: 9192)
        )
    }

    /// What the brokers of a cluster say, in turn.
    private final class Script: Sendable {
        struct Silence: Error {}

        let words: Mutex<[PeerHelloAnswer?]>
        let asked = Mutex<[String]>([])

        init(_ words: [PeerHelloAnswer?]) {
            self.words = Mutex(words)
        }

        func answer(_ address: NetworkAddress, _ body: ByteBuffer) throws -> PeerHelloAnswer {
            #expect(try MetadataCommand(decoding: body) == .registerBroker(registration))
            asked.withLock { $0.append(address.host) }
            let word = words.withLock { $0.count > 1 ? $0.removeFirst() : $0[0] }
            guard let word else { throw Silence() }
            return word
        }
    }

    private static func says(_ verdict: PeerHelloAnswer.Verdict) -> PeerHelloAnswer {
        ListeningBroker.answer(verdict)
    }

    private static func says(_ reply: MetadataReply) throws -> PeerHelloAnswer {
        var answer = ListeningBroker.answer(.accepted)
        answer.body = try reply.encoded()
        return answer
    }

    private func admission(
        _ script: Script,
        patience: Duration = .seconds(60),
        _ progress: StartProgress = StartProgress()
    ) -> Admission {
        Admission(
            Self.registration,
            patience: patience,
            progress: progress,
            logger: .silent,
            ask: { try script.answer($0, $1) }
        )
    }

    @Test("Brokers are asked in turn until one of them brings the controller's word")
    func patient() async throws {
        let script = Script([
            nil, Self.says(.notYet("it is still starting")),
            try Self.says(.refused(Refusal(.notController, "ask again"))),
            try Self.says(
                .refused(Refusal(.duplicateBrokerRegistration, "broker 4 is running elsewhere"))
            ),
            try Self.says(.registered(Self.outcome)),
        ])
        let outcome = try await admission(script).perform(through: Self.seeds)
        #expect(outcome == Self.outcome)
        #expect(script.asked.withLock { $0 } == ["b1", "b2", "b1", "b2", "b1"])
    }

    @Test("The controller's refusal is the end, and its sentence is told")
    func refused() async throws {
        let script = Script([try Self.says(.refused(Refusal(.invalidRegistration, "a bad id")))])
        let failure = await #expect(throws: (any Error).self) {
            try await admission(script).perform(through: Self.seeds)
        }
        #expect(failure.map { "\($0)" } == "the cluster does not take this broker: a bad id")
        #expect(script.asked.withLock { $0 } == ["b1"])
    }

    @Test("A broker of another cluster says so, and that is the end")
    func foreign() async throws {
        let script = Script([Self.says(.refused("this is a broker of cluster x, not of y"))])
        let failure = await #expect(throws: (any Error).self) {
            try await admission(script).perform(through: Self.seeds)
        }
        let sentence = failure.map { "\($0)" } ?? ""
        #expect(sentence.hasSuffix("b1:9192 refuses: this is a broker of cluster x, not of y"))
    }

    @Test("An id that stays in use elsewhere is refused when patience is over")
    func occupied() async throws {
        let script = Script([
            try Self.says(
                .refused(Refusal(.duplicateBrokerRegistration, "broker 4 is running elsewhere"))
            )
        ])
        let failure = await #expect(throws: (any Error).self) {
            try await admission(script, patience: .milliseconds(300)).perform(through: Self.seeds)
        }
        #expect(failure.map { "\($0)" }?.hasSuffix("broker 4 is running elsewhere") == true)
        #expect(script.asked.withLock { $0.count } > 2)
    }

    @Test("Who waits says for whom, and ends when it is told to")
    func cancelled() async throws {
        let script = Script([Self.says(.notYet("it is still starting"))])
        let progress = StartProgress()
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                await #expect(throws: CancellationError.self) {
                    try await admission(script, progress).perform(through: Self.seeds)
                }
            }
            while script.asked.withLock({ $0.count }) < 3 { await Task.yield() }
            let missing = await progress.checks.readiness()
            #expect(missing.first == "b1:9192 is not ready: it is still starting")
            #expect(missing.count == 2)
            tasks.cancelAll()
        }
    }
}
