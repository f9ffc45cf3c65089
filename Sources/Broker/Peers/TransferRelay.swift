import FlotillaCoordination
import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// Leaders on other brokers that were asked to hand over, until they answer.
final class TransferRelay {
    /// How long an answer may take; a leader gives a hand-over up before.
    static let timeout = Duration.seconds(5)

    private struct Sent {
        var leader: BrokerID
        var completion: (Refusal?) -> Void
    }

    private var sent: [UInt64: Sent] = [:]
    private var lastNumber: UInt64 = 0

    /// Notes a transfer that is being sent; returns its number.
    func open(
        to leader: BrokerID,
        then completion: @escaping (Refusal?) -> Void
    ) -> UInt64 {
        lastNumber += 1
        sent[lastNumber] = Sent(leader: leader, completion: completion)
        return lastNumber
    }

    /// Tells what became of a transfer; one that nobody waits for any longer changes nothing.
    func take(_ refusal: Refusal?, number: UInt64) {
        sent.removeValue(forKey: number)?.completion(refusal)
    }

    /// The broker is gone: whether it handed over nobody can say.
    func lost(_ broker: BrokerID) {
        for number in sent.filter({ $0.value.leader == broker }).keys.sorted() {
            take(
                Refusal(.notLeaderOrFollower, "broker \(broker), which led, stopped answering"),
                number: number
            )
        }
    }
}

extension Shard {
    /// Has a partition led by another of its replicas, wherever its leader is; nil tells that it does.
    func transferLeadership(
        _ transfer: LeaderTransfer,
        then completion: @escaping (Refusal?) -> Void
    ) {
        let isHere = transfer.leader == settings.broker
        ask(isHere ? settings.shard(of: transfer.partition) : 0, .transfer(transfer)) { reply in
            guard case .transfer(let refusal) = reply else {
                preconditionFailure("a transfer is answered as one")
            }
            completion(refusal)
        }
    }

    /// On the partition's shard where this broker leads it, else on shard 0.
    func perform(_ transfer: LeaderTransfer, then completion: @escaping (Refusal?) -> Void) {
        guard transfer.leader == settings.broker else { return send(transfer, then: completion) }
        guard let partition = partition(transfer.partition), partition.replica.isServing else {
            return completion(
                Refusal(.notLeaderOrFollower, "broker \(settings.broker) does not lead it now")
            )
        }
        let replica = partition.replica
        // A leader that hands over takes nothing until the other has its whole log: that must not be far.
        guard replica.membership.isVoter(transfer.target),
            replica.isCaughtUp(transfer.target, now: now)
        else {
            return completion(
                Refusal(
                    .preferredLeaderNotAvailable,
                    "broker \(transfer.target.broker) is not there or lacks records"
                )
            )
        }
        replica.transferLeadership(to: transfer.target) { result in
            switch result {
            case .success: completion(nil)
            case .failure(let error):
                completion(Refusal(.preferredLeaderNotAvailable, error.description))
            }
        }
    }

    private func send(_ transfer: LeaderTransfer, then completion: @escaping (Refusal?) -> Void) {
        precondition(index == 0, "answers of other brokers come to shard 0")
        guard isReachable(transfer.leader) else {
            return completion(
                Refusal(.leaderNotAvailable, "broker \(transfer.leader) does not answer")
            )
        }
        let number = peers.transfers.open(to: transfer.leader, then: completion)
        let news = PeerNews.transfer(number: number, transfer.partition, to: transfer.target)
        sendToPeer(news.message, transfer.leader)
        schedule(after: TransferRelay.timeout) { [unowned self] in
            self.peers.transfers.take(
                Refusal(.requestTimedOut, "broker \(transfer.leader) did not answer in time"),
                number: number
            )
        }
    }
}
