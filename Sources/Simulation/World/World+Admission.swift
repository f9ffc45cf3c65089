import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

// How a broker that lost its memory comes into the cluster again.

extension World {
    /// A petition waits no longer for a leader of the metadata, and for its network.
    private static let petitionPatience = Duration.seconds(15)

    /// A broker has lost its memory, and is to be taken in as another member.
    ///
    /// It loses nothing again before the last petition of the former incarnation is decided or given up (`nextLoss`): late, it would
    /// take the place of the next one.
    func isLost(_ number: Int) {
        nextLoss = now + Self.petitionPatience
        forgetful.insert(number)
        admit(number, after: random.draw(.milliseconds(20), .seconds(3)))
    }

    /// A broker finds at its start that its vote about the metadata is lost: it begins anew, as without a journal.
    func hasLostVote(_ number: Int) {
        guard now >= nextLoss else {
            return act("restart", after: nextLoss - now) { [unowned self] in self.restart(number) }
        }
        tell("broker \(number + 1) has lost its vote about the metadata, and begins anew")
        brokers[number].loseJournal()
        isLost(number)
    }

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
