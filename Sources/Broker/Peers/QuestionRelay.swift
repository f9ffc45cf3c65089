import FlotillaCoordination
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Questions to other brokers, until they answer.
final class QuestionRelay {
    /// The most questions that wait at a time.
    static let waitingLimit = 1_000

    private struct Sent {
        var broker: BrokerID
        var completion: (PeerAnswer) -> Void
    }

    private var sent: [UInt64: Sent] = [:]
    private var lastNumber: UInt64 = 0

    /// Notes a question that is being sent.
    ///
    /// - Returns: its number; nil where too many wait already.
    func open(to broker: BrokerID, then completion: @escaping (PeerAnswer) -> Void) -> UInt64? {
        guard sent.count < Self.waitingLimit else { return nil }
        lastNumber += 1
        sent[lastNumber] = Sent(broker: broker, completion: completion)
        return lastNumber
    }

    /// Gives an answer; one that nobody waits for any longer changes nothing.
    func take(_ answer: PeerAnswer, number: UInt64) {
        sent.removeValue(forKey: number)?.completion(answer)
    }

    /// The broker is gone, and answers no more.
    func lost(_ broker: BrokerID) {
        for number in sent.filter({ $0.value.broker == broker }).keys.sorted() {
            take(.refused(.silence(of: broker)), number: number)
        }
    }
}

extension Refusal {
    fileprivate static func silence(of broker: BrokerID) -> Refusal {
        Refusal(.brokerNotAvailable, "broker \(broker) does not answer")
    }
}

extension Shard {
    /// Has another broker answer a question.
    func ask(
        _ broker: BrokerID,
        _ question: PeerQuestion,
        then completion: @escaping (PeerAnswer) -> Void
    ) {
        ask(0, .peer(broker, question)) { reply in
            guard case .peer(let answer) = reply else {
                preconditionFailure("a question to a broker is answered as one")
            }
            completion(answer)
        }
    }

    /// On shard 0: sends a question, and waits for the answer.
    func send(
        _ question: PeerQuestion,
        to broker: BrokerID,
        then completion: @escaping (PeerAnswer) -> Void
    ) {
        precondition(index == 0, "answers of other brokers come to shard 0")
        guard isReachable(broker) else { return completion(.refused(.silence(of: broker))) }
        guard let number = peers.questions.open(to: broker, then: completion) else {
            return completion(
                .refused(Refusal(.brokerNotAvailable, "too many questions wait for other brokers"))
            )
        }
        guard sendToPeer(PeerNews.question(number: number, question.bytes).message, broker) else {
            return peers.questions.take(.refused(.silence(of: broker)), number: number)
        }
        schedule(after: question.patience) { [unowned self] in
            self.peers.questions.take(.refused(.silence(of: broker)), number: number)
        }
    }

    /// On shard 0: another broker asks.
    func answer(_ question: ByteBuffer, number: UInt64, from broker: BrokerID) {
        let finish = { [unowned self] (answer: PeerAnswer) in
            _ = self.sendToPeer(PeerNews.answer(number: number, answer.bytes).message, broker)
        }
        do throws(CoordinationError) {
            answer(try PeerQuestion(question), then: finish)
        } catch {
            finish(.refused(Refusal(.unsupportedVersion, "broker \(settings.broker): \(error)")))
        }
    }

    /// On shard 0: another broker has answered.
    func take(_ answer: ByteBuffer, number: UInt64) {
        do throws(CoordinationError) {
            peers.questions.take(try PeerAnswer(answer), number: number)
        } catch {
            peers.questions.take(
                .refused(Refusal(.unsupportedVersion, "the other broker's answer: \(error)")),
                number: number
            )
        }
    }

    /// Answers a question of another broker by what this one knows.
    private func answer(_ question: PeerQuestion, then completion: @escaping (PeerAnswer) -> Void) {
        switch question {
        case .history(let place):
            ownHistory(of: place, then: completion)
        case .lag(let place):
            ownLag(of: place, then: completion)
        case .positions(let calls):
            ownPositions(calls) { completion(.positions($0)) }
        }
    }
}
