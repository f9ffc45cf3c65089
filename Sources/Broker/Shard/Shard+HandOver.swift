import FlotillaModel
import FlotillaRaft
import FlotillaReplication

/// Before a stop: other brokers take the lead, so that clients find a leader that is there.
extension Shard {
    /// The most hand-overs under way at a time.
    private static let handOverLimit = 64

    /// Hands over what this shard leads and others can lead, and goes on when that is done or takes too long.
    package func handOver(atMost delay: Duration, then completion: @escaping () -> Void) {
        var waiting = (metadata.map { [$0.replica] } ?? []) + allPartitions.map(\.replica)
        waiting.removeAll { !$0.isLeader || $0.membership.voters.count < 2 }
        guard !waiting.isEmpty else { return completion() }
        let run = HandOver(waiting, then: completion)
        schedule(after: delay) { run.end() }
        for _ in 0..<Self.handOverLimit { run.next() }
        environment.requestTurnEnd()
    }
}

/// Hand-overs, a bounded number at a time.
private final class HandOver {
    private var waiting: ArraySlice<Replica>
    private var missing: Int
    private var completion: (() -> Void)?

    init(_ replicas: [Replica], then completion: @escaping () -> Void) {
        waiting = replicas[...]
        missing = replicas.count
        self.completion = completion
    }

    /// Begins with the next replica, if there is one.
    func next() {
        guard completion != nil, let replica = waiting.popFirst() else { return }
        // One that fails leads on until the process ends; the others then elect a leader by themselves.
        replica.transferLeadership(to: nil) { [self] _ in
            missing -= 1
            if missing == 0 { end() }
            next()
        }
    }

    func end() {
        completion?()
        completion = nil
    }
}
