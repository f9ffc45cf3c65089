import FlotillaBroker
package import FlotillaCoordination
package import FlotillaEnvironment
import FlotillaModel
package import FlotillaReplication
package import Logging

package import struct NIOCore.ByteBuffer

/// A new broker's way past the controller: it petitions brokers of the cluster until one of them brings the word that it
/// is registered, or that it will not be.
package struct Admission: Sendable {
    /// Petitions the broker at an address, with the body of the hello.
    package typealias Ask = @Sendable (NetworkAddress, ByteBuffer) async throws -> PeerHelloAnswer

    /// The time between two rounds through all brokers.
    static let pause = Duration.milliseconds(250)
    /// A killed broker's connections outlive it for a moment; for so long another life of the same broker is not believed.
    package static let patience = Duration.seconds(5)

    private let registration: BrokerRegistration
    private let patience: Duration
    private let progress: StartProgress
    private let logger: Logger
    private let ask: Ask

    /// What one broker said.
    private enum Word {
        case admitted(RegistrationOutcome)
        /// Another broker, or a later attempt, may be luckier.
        case later(String)
        /// The same broker is alive elsewhere, or was a moment ago.
        case occupied(String)
        case no(String)
    }

    /// Prepares the petition.
    ///
    /// - Parameters:
    ///   - registration: this broker as the cluster shall know it.
    ///   - patience: how long the id may be in use elsewhere until that is believed.
    ///   - progress: told what the broker waits for.
    ///   - logger: told the same, now and then.
    ///   - ask: dials a broker.
    package init(
        _ registration: BrokerRegistration,
        patience: Duration = Admission.patience,
        progress: StartProgress,
        logger: Logger,
        ask: @escaping Ask
    ) {
        self.registration = registration
        self.patience = patience
        self.progress = progress
        self.logger = logger
        self.ask = ask
    }

    /// Petitions until there is an answer.
    ///
    /// - Parameter through: brokers of the cluster, at least one; tried in their order.
    /// - Returns: what the controller gave this broker.
    /// - Throws: `StartError.notAdmitted` with the controller's sentence, and `CancellationError`.
    package func perform(through: [PeerAddress]) async throws -> RegistrationOutcome {
        precondition(!through.isEmpty, "an invitation names somebody")
        let body = try MetadataCommand.registerBroker(registration).encoded()
        let begin = ContinuousClock.now
        var report = WaitReport()
        while true {
            var reasons: [String] = []
            for peer in through {
                switch try await petition(peer, body) {
                case .admitted(let outcome):
                    return outcome
                case .occupied(let sentence) where ContinuousClock.now - begin < patience:
                    reasons.append(sentence)
                case .later(let sentence):
                    reasons.append(sentence)
                case .no(let sentence), .occupied(let sentence):
                    throw StartError.notAdmitted(sentence)
                }
            }
            progress.waits(for: reasons)
            if let sentence = report.due(reasons, at: .now) {
                logger.info(
                    "waiting for the cluster to take this broker",
                    metadata: .of([.reason: sentence])
                )
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    private func petition(_ peer: PeerAddress, _ body: ByteBuffer) async throws -> Word {
        do {
            let answer = try await ask(peer.address, body)
            switch answer.verdict {
            case .refused(let sentence): return .no("\(peer.address) refuses: \(sentence)")
            case .notYet(let sentence): return .later("\(peer.address) is not ready: \(sentence)")
            case .accepted: return Self.word(try MetadataReply(decoding: answer.body))
            }
        } catch {
            try Task.checkCancellation()
            return .later("\(error)")
        }
    }

    private static func word(_ reply: MetadataReply) -> Word {
        switch reply {
        case .registered(let outcome):
            return .admitted(outcome)
        case .refused(let refusal):
            switch refusal.code {
            case .notController, .requestTimedOut, .coordinatorLoadInProgress,
                .coordinatorNotAvailable:
                return .later(refusal.message)
            case .duplicateBrokerRegistration:
                return .occupied(refusal.message)
            default:
                return .no(refusal.message)
            }
        default:
            return .no("the cluster's answer to a registration is none")
        }
    }
}
