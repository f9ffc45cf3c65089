import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

/// What a leader sees of its partition's voters, itself among them.
struct ReplicaSight {
    /// How many answer.
    var reachableCount: Int
    /// How many answer and are up to date.
    var inSyncCount: Int
}

/// Whether enough replicas are there for what producers ask for. SEMANTICS rule PROD-4.
extension Partition {
    /// Looks which replicas are there and up to date; at each tick where that matters, and when a broker comes or goes.
    ///
    /// As in Kafka a replica may be behind for `replica.lag.time.max.ms`: a short pause of one must not stop producers.
    func lookAtReplicas() {
        guard replica.isServing, shard.settings.isClustered else { return }
        let lag = Duration.milliseconds(shard.config.replicaLagTimeMillis)
        let voters = replica.membership.voters
        var seen = ReplicaSight(reachableCount: 0, inSyncCount: 0)
        for each in replica.progress where voters.contains(each.member) {
            guard each.isReachable, shard.isReachable(each.member.broker) else { continue }
            seen.reachableCount += 1
            // A leader that has just begun has not seen anybody catch up; it gives all of them the same time.
            let caughtUp = max(each.lastCaughtUp ?? servesSince, lastQuiet)
            let isRecent = shard.now - caughtUp <= lag
            if isRecent || each.matchIndex >= replica.log.lastIndex { seen.inSyncCount += 1 }
        }
        sight = seen
        // What is committed and still lacks replicas will not get them soon: producers shall know, and try again.
        if seen.inSyncCount < config.minimumInSyncReplicaCount { replica.refuseUnacknowledged() }
    }

    /// Why a batch that all in-sync replicas should have cannot be taken, in words; nil when it can.
    var shortage: String? {
        let minimum = config.minimumInSyncReplicaCount
        let voterCount = replica.membership.voters.count
        guard voterCount >= minimum else {
            return "min.insync.replicas is \(minimum), and the partition has \(voterCount) replicas"
        }
        guard let sight else { return nil }
        guard sight.inSyncCount >= minimum else {
            return
                "min.insync.replicas is \(minimum), and \(sight.inSyncCount) of \(voterCount) replicas are in sync"
        }
        guard sight.reachableCount >= Quorum.majority.size(of: voterCount) else {
            return
                "\(sight.reachableCount) of \(voterCount) replicas are reachable, which is no majority"
        }
        return nil
    }
}
