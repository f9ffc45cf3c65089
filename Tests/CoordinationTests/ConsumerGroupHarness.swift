import FlotillaEnvironment
import FlotillaModel
import struct NIOCore.ByteBuffer

@testable import FlotillaCoordination

/// A group of the consumer protocol with the metadata that it looks at, and what is in its log.
struct ConsumerGroupHarness {
    var group: ConsumerGroup
    var image: MetadataImage
    /// What the log says.
    var log = ConsumerGroupState()
    /// What is on its way into the log.
    var unwritten: [ConsumerGroupRecord] = []
    /// While set, members hear nothing before `write()`.
    var isLogHeld = false
    var now = Instant.start

    static let settings = ConsumerGroup.Settings(
        sessionTimeout: .seconds(45),
        maximumSize: .max,
        assignors: [.uniform, .range]
    )

    init(settings: ConsumerGroup.Settings = settings) {
        image = .withBrokers([1])
        group = ConsumerGroup(name: "readers", state: log, settings: settings, now: now)
    }

    /// Makes a topic.
    @discardableResult
    mutating func topic(_ name: String, _ partitionCount: Int) -> TopicID {
        let id = TopicID(high: 7, low: UInt64(image.topics.count) + 1)
        let member = GroupMember(broker: 1, epoch: image.nextCreationEpoch)
        change(
            .topicCreated(
                id: id,
                name: name,
                partitions: Array(
                    repeating: PartitionImage(replicas: [member]),
                    count: partitionCount
                ),
                configs: [:]
            )
        )
        return id
    }

    mutating func change(_ record: MetadataRecord) {
        image = image.applying(record)
        image.appliedIndex = image.appliedIndex.next
    }

    /// All partitions of a topic.
    func partitions(of id: TopicID) -> Set<TopicPartition> {
        Set(
            (0..<(image.topic(id)?.partitions.count ?? 0)).map {
                TopicPartition(topic: id, partition: Int32($0))
            }
        )
    }

    mutating func heartbeat(
        _ request: ConsumerHeartbeat
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        defer { settle() }
        return try group.heartbeat(request, image, now: now)
    }

    /// A member comes.
    mutating func join(
        _ id: String,
        instance: String? = nil,
        topics: [String] = ["a"],
        pattern: String? = nil,
        assignor: String? = nil
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        try heartbeat(
            ConsumerHeartbeat(
                memberID: id,
                epoch: 0,
                instanceID: instance,
                rebalanceTimeoutMillis: 10_000,
                topics: topics,
                pattern: pattern,
                assignor: assignor,
                owned: [],
                clientID: "client",
                clientHost: "/10.0.0.2"
            )
        )
    }

    /// A member is there.
    mutating func beat(
        _ id: String,
        _ epoch: Int32,
        instance: String? = nil,
        owned: Set<TopicPartition>? = nil
    ) throws(HeartbeatRefusal) -> ConsumerHeartbeatAnswer {
        try heartbeat(
            ConsumerHeartbeat(
                memberID: id,
                epoch: epoch,
                instanceID: instance,
                owned: owned,
                clientID: "client",
                clientHost: "/10.0.0.2"
            )
        )
    }

    /// A member of the classic protocol joins, and gets its share.
    mutating func joinClassic(
        _ id: String,
        topics: [String] = ["a"],
        owned: Set<TopicPartition> = []
    ) throws(HeartbeatRefusal) -> (generation: Int32, share: Set<TopicPartition>) {
        defer { settle() }
        var subscription = ConsumerSubscription()
        subscription.topics = topics.sorted()
        subscription.rebalanceTimeoutMillis = 20_000
        subscription.classic = ClassicSupport(
            sessionTimeoutMillis: 30_000,
            protocols: [GroupProtocol(name: "range", metadata: ByteBuffer(string: id))]
        )
        let request = ClassicJoin(
            memberID: id,
            isNew: false,
            subscription: subscription,
            owned: owned
        )
        let generation = try group.join(request, image, now: now)
        return (generation, try syncClassic(id, generation))
    }

    mutating func syncClassic(
        _ id: String,
        _ generation: Int32
    ) throws(HeartbeatRefusal) -> Set<TopicPartition> {
        let request = SyncRequest(
            memberID: id,
            instanceID: nil,
            generation: generation,
            protocolType: nil,
            protocolName: nil,
            assignments: []
        )
        return try group.share(for: request, now: now)
    }

    mutating func leaveClassic(_ id: String) {
        defer { settle() }
        _ = group.leave(id, instanceID: nil, image, now: now)
    }

    mutating func beatClassic(_ id: String, _ generation: Int32) -> ErrorCode {
        defer { settle() }
        return group.heartbeat(
            of: id,
            instanceID: nil,
            generation: generation,
            image,
            now: now
        )
    }

    mutating func wait(_ duration: Duration) {
        now = now + duration
        while let deadline = group.nextDeadline, deadline <= now {
            group.tick(image, now: now)
            settle()
        }
    }

    private mutating func settle() {
        let records = group.takeRecords()
        unwritten += records
        if !isLogHeld { tell(records) }
        group.checkInvariants()
    }

    /// Members hear what the log has.
    private mutating func tell(_ records: [ConsumerGroupRecord]) {
        for case .current(let id, let current?) in records {
            group.isTold(current, id, now: now)
        }
    }

    /// What is on its way comes into the log.
    mutating func write() {
        for record in unwritten { log.apply(record) }
        if isLogHeld { tell(unwritten) }
        unwritten.removeAll()
        precondition(log == group.state, "the log says what the group is")
    }

    /// Another coordinator takes over; what was on its way is lost.
    mutating func failOver() {
        unwritten.removeAll()
        group = ConsumerGroup(name: group.name, state: log, settings: group.settings, now: now)
        group.checkInvariants()
    }
}
