import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// Evens the cluster out, a little at a time; on the broker whose controller leads.
///
/// It looks at what is, and remembers nothing: a new leader goes on where the old one stopped. While a broker is missing it
/// waits, since moving everything away and back again would cost more than it gains; one that drains is not missed.
final class Balancer {
    /// The time between two looks.
    static let interval = Duration.seconds(10)

    private unowned let shard: Shard
    private var nextLook: Instant?

    init(shard: Shard) {
        self.shard = shard
    }

    /// Another broker's turn: when it is this one's again, things get time to settle first.
    func pause() { nextLook = nil }

    /// Looks, when it is time.
    func tick(_ image: MetadataImage) {
        let now = shard.now
        guard let next = nextLook else {
            nextLook = now + Self.interval
            return
        }
        guard next <= now else { return }
        nextLook = now + Self.interval
        let live = Set(shard.liveBrokers.keys)
        let isMissing = image.activeBrokers.contains { !live.contains($0) }
        guard !isMissing else { return }
        let plan = BalancePlan.plan(
            image: image,
            leaders: shard.leadership.leaders,
            liveBrokers: live
        )
        perform(plan, image)
    }

    private func perform(_ plan: [Move], _ image: MetadataImage) {
        var requests: [ReassignmentRequest] = []
        for move in plan {
            switch move {
            case .replica(let partition, _, _, _, let brokers, _):
                guard let topic = image.topic(partition.topic) else { continue }
                requests.append(
                    ReassignmentRequest(
                        topic: topic.name,
                        partition: partition.partition,
                        brokers: brokers
                    )
                )
            case .leader(let partition, _, let leader, let target):
                // The setting is about returning to preferred leaders; a broker that drains gives its leaders away.
                guard shard.config.isLeaderRebalanceEnabled || image.state(of: leader) == .draining
                else { continue }
                transfer(
                    LeaderTransfer(partition: partition, leader: leader, target: target),
                    move
                )
            }
            shard.environment.log(.balancing(move.description))
        }
        guard !requests.isEmpty else { return }
        shard.ask(
            0,
            .metadata(.alterReassignments(requests, allowsReplicationFactorChange: false))
        ) { [unowned self] reply in
            if case .metadata(.refused(let refusal)) = reply { self.note(refusal, "movements") }
        }
    }

    private func transfer(_ transfer: LeaderTransfer, _ move: Move) {
        shard.transferLeadership(transfer) { [unowned self] refusal in
            if let refusal { self.note(refusal, move.description) }
        }
    }

    private func note(_ refusal: Refusal, _ what: String) {
        shard.environment.log(.retrying(what: what, description: refusal.message))
    }
}
