package import FlotillaKafkaWire

/// Counters of one shard since its start, and what it holds now.
package struct ShardStatistics: Sendable {
    /// Bytes of batches that were appended.
    package var bytesIn = 0
    /// Bytes of records that were fetched.
    package var bytesOut = 0
    /// Records that were appended.
    package var recordsIn = 0
    /// Partitions that live on the shard.
    package var partitionCount = 0
    /// Partitions that live on the shard and have no leader.
    package var leaderlessCount = 0
    /// Bytes of requests that wait for answers.
    package var unansweredByteCount = 0
    /// Messages of other brokers that could not be read.
    package var peerFramesRefused = 0
    /// Shipments of segments that reached a replica on another broker.
    package var shipmentCount = 0
    /// Bytes of segments sent to other brokers.
    package var shippedByteCount = 0
    /// Bytes of segments received from other brokers.
    package var receivedByteCount = 0
    /// Replicas on other brokers that are being sent files or old entries.
    package var catchingUpCount = 0
    /// Damaged ranges of replicas that were healed.
    package var repairs = 0
    /// Bytes of segments that were read to find damage.
    package var scrubbedBytes = 0
    /// Damaged ranges of replicas, as far as they are known.
    package var damagedRangeCount = 0
    /// Replicas with ranges that no replica of their partition has.
    package var lostReplicaCount = 0
    /// Commits of groups that came into the log, each partition for itself.
    package var commitCount = 0
    /// Rebalances of groups, by what brought them about.
    package var rebalanceCounts: [String: Int] = [:]
    /// Members of groups that are coordinated here.
    package var groupMemberCount = 0
    /// Groups that are coordinated here, by type and state.
    package var groupCounts: [GroupKind: Int] = [:]
    private var counts: [Int] = Array(repeating: 0, count: 128)

    /// What groups are counted by.
    package struct GroupKind: Hashable, Sendable {
        package var type: GroupType
        /// In Kafka's words.
        package var state: String
    }

    /// Nothing counted yet.
    package init() {}

    /// Counts a request.
    mutating func count(_ api: APIKey) {
        counts[Int(api.rawValue)] += 1
    }

    /// The requests received, by API.
    package var requestCounts: [(api: APIKey, count: Int)] {
        ServedAPIs.all.map { ($0.api, counts[Int($0.api.rawValue)]) }
    }

    /// Adds another shard's.
    package mutating func add(_ other: ShardStatistics) {
        bytesIn += other.bytesIn
        bytesOut += other.bytesOut
        recordsIn += other.recordsIn
        partitionCount += other.partitionCount
        leaderlessCount += other.leaderlessCount
        unansweredByteCount += other.unansweredByteCount
        shipmentCount += other.shipmentCount
        shippedByteCount += other.shippedByteCount
        receivedByteCount += other.receivedByteCount
        catchingUpCount += other.catchingUpCount
        repairs += other.repairs
        scrubbedBytes += other.scrubbedBytes
        damagedRangeCount += other.damagedRangeCount
        lostReplicaCount += other.lostReplicaCount
        commitCount += other.commitCount
        rebalanceCounts.merge(other.rebalanceCounts) { $0 + $1 }
        groupMemberCount += other.groupMemberCount
        groupCounts.merge(other.groupCounts) { $0 + $1 }
        for place in counts.indices { counts[place] += other.counts[place] }
    }
}
