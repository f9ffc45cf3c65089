import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

// How a broker that lost its memory comes into the cluster again.

extension World {
    /// Has the cluster take in a broker as another member, and starts it then; tried until it comes to that.
    func admit(_ number: Int, after delay: Duration) {
        act("petition of broker \(number + 1)", after: delay) { [unowned self] in
            guard self.brokers[number].isOutside else { return }
            self.petition(number)
            self.admit(number, after: self.random.draw(.milliseconds(200), .seconds(2)))
        }
    }

    /// Asks any broker that answers; the answer may be lost, or come late.
    private func petition(_ number: Int) {
        let incarnation = brokers[number].incarnation
        let other = random.draw(0...(brokers.count - 1))
        guard other != number, isOpen(number, other) else { return }
        let command = MetadataCommand.registerBroker(brokers[number].registration)
        act("petition arrives", after: networkDelay()) { [unowned self] in
            self.brokers[other].run("petition") { asked in
                asked.shards[0].decide(command) { reply in
                    self.act("petition is answered", after: self.networkDelay()) {
                        guard self.isOpen(number, other),
                            self.brokers[number].incarnation == incarnation
                        else { return }
                        self.take(reply, number)
                    }
                }
            }
        }
    }

    private func take(_ reply: MetadataReply, _ number: Int) {
        guard brokers[number].isOutside else { return }
        switch reply {
        case .registered(let outcome):
            brokers[number].isTakenIn(as: outcome.metadataMember)
            restart(number)
        case .refused(let refusal)
        where refusal.code.isRetriable || refusal.code == .duplicateBrokerRegistration:
            tell("broker \(number + 1) is not taken in yet: \(refusal.message)")
        default: violate("broker \(number + 1) is not taken in: \(reply)")
        }
    }

    private func isOpen(_ one: Int, _ other: Int) -> Bool {
        brokers[other].isUp && !network.blocked.contains(.init(source: one, target: other))
            && !network.blocked.contains(.init(source: other, target: one))
    }
}
