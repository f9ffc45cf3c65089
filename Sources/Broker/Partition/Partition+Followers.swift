import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Who is read from: leaders by everybody, followers by consumers near them.
///
/// A consumer that names its rack is sent to an in-sync replica there. That one serves what it knows to be committed, and
/// hears of commits from its leader at once; so a consumer at a follower lags by a message, not by a heartbeat. Where
/// the follower cannot go on, every error sends the consumer back to the leader.
///
/// - Source: KIP-392; SEMANTICS rules FETCH-15 and FETCH-16.
extension Partition {
    /// Whether records can be read here.
    ///
    /// A leader reads on from what is known to be committed, even before its term has begun. A follower serves as long as
    /// it hears a leader: one that is cut off would keep consumers waiting for records that never come. One whose log is
    /// in doubt, or that cannot apply, serves nobody.
    func servesReads(hasRack: Bool) -> Bool {
        if replica.isServing { return true }
        guard !replica.hasFailed, replica.obstacle == nil, !replica.isInstalling else {
            return false
        }
        if replica.isLeader { return true }
        guard hasRack, replica.isElectable, let leader = replica.leader else { return false }
        return shard.isReachable(leader.broker)
    }

    /// Why nothing can be read from an offset on; nil where something can, now or soon.
    ///
    /// Beyond a follower's end the leader may well have the record, so clients shall ask there, and not start over.
    func rangeError(_ offset: Offset) -> ErrorCode? {
        guard offset >= logStartOffset else { return .offsetOutOfRange }
        guard offset <= replica.log.logEndOffset else {
            return replica.isLeader ? .offsetOutOfRange : .offsetNotAvailable
        }
        return nil
    }

    /// The replica that a consumer in a rack should read from on, if that is not this one.
    ///
    /// It has the offset and was lately up to date; of several the one with the most of the log. None while this broker
    /// stands in the same rack.
    func preferredReplica(in rack: String, from offset: Offset) -> BrokerID? {
        guard replica.isServing, shard.settings.isClustered,
            self.rack(of: shard.settings.broker) != rack
        else { return nil }
        let candidates = replica.progress.filter { each in
            each.member != replica.member && each.isVoter && !each.awaitsFiles && each.isReachable
                && self.rack(of: each.member.broker) == rack
                && shard.isReachable(each.member.broker) && isUpToDate(each)
                && each.endOffset.map { $0 >= offset } ?? false
        }
        return candidates.max { left, right in
            // The smaller broker of two that are equal, so that all fetches go the same way.
            (left.matchIndex, right.member) < (right.matchIndex, left.member)
        }?.member.broker
    }

    private func rack(of broker: BrokerID) -> String? {
        shard.image.brokers[broker]?.rack
    }

    /// Whether a member was seen with all of the log within `replica.lag.time.max.ms`.
    private func isUpToDate(_ member: MemberProgress) -> Bool {
        guard member.matchIndex < replica.log.lastIndex else { return true }
        guard let time = member.lastCaughtUp else { return false }
        return shard.now - time <= .milliseconds(shard.config.replicaLagTimeMillis)
    }

    /// A broker does not answer any more: whoever waits here for what it would send shall ask elsewhere.
    func lost(_ broker: BrokerID) {
        guard !replica.isServing, replica.leader?.broker == broker else { return }
        wakeWatchers()
    }
}
