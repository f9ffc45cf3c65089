import FlotillaModel

/// The group as bytes, within the snapshot of a `GroupTable`:
///
/// | field | form |
/// |---|---|
/// | epoch, target epoch | i32 |
/// | topics, by id | list of (id 16 bytes, name long text, partitions i32) |
/// | members, by id | list of the following |
/// | id; instance id, rack | long text; optional long text |
/// | client id, client host | long text |
/// | topics | list of long text |
/// | expression, assignor | optional long text |
/// | rebalance timeout | i32 |
/// | classic protocol | flag, then if set session timeout i32 and a list of (strategy long text, metadata) |
/// | target | list of (topic id, partition i32), ascending |
/// | epoch, previous epoch, phase | i32, i32, i8 |
/// | assigned, given back | as the target |
extension ConsumerGroupState {
    func write(to body: inout ByteWriter) {
        body.integer(epoch)
        body.integer(targetEpoch)
        body.count(topics.count)
        for (id, topic) in topics.sorted(by: { $0.key < $1.key }) {
            body.topicID(id)
            body.longText(topic.name)
            body.integer(topic.partitionCount)
        }
        body.count(members.count)
        for (id, member) in members.sorted(by: { $0.key < $1.key }) {
            body.longText(id)
            Self.write(member, to: &body)
        }
    }

    private static func write(_ member: ConsumerMember, to body: inout ByteWriter) {
        let subscription = member.subscription
        body.optionalLongText(subscription.instanceID)
        body.optionalLongText(subscription.rack)
        body.longText(subscription.clientID)
        body.longText(subscription.clientHost)
        body.count(subscription.topics.count)
        for topic in subscription.topics { body.longText(topic) }
        body.optionalLongText(subscription.pattern)
        body.optionalLongText(subscription.assignor)
        body.integer(subscription.rebalanceTimeoutMillis)
        body.flag(subscription.classic != nil)
        if let classic = subscription.classic {
            body.integer(classic.sessionTimeoutMillis)
            body.count(classic.protocols.count)
            for candidate in classic.protocols {
                body.longText(candidate.name)
                body.bytes(candidate.metadata)
            }
        }
        write(member.target, to: &body)
        body.integer(member.current.epoch)
        body.integer(member.current.previousEpoch)
        body.integer(member.current.phase.rawValue)
        write(member.current.assigned, to: &body)
        write(member.current.revoking, to: &body)
    }

    private static func write(_ partitions: Set<TopicPartition>, to body: inout ByteWriter) {
        body.count(partitions.count)
        for partition in partitions.sorted() {
            body.topicID(partition.topic)
            body.integer(partition.partition)
        }
    }

    init(_ body: inout ByteReader) throws(CoordinationError) {
        self.init()
        epoch = try body.integer("epoch")
        targetEpoch = try body.integer("target epoch")
        for _ in 0..<(try body.count("topics", elementByteCount: 24)) {
            let id = try body.topicID("topic id")
            topics[id] = SubscribedTopic(
                name: try body.longText("topic"),
                partitionCount: try body.integer("partitions")
            )
        }
        for _ in 0..<(try body.count("members", elementByteCount: 50)) {
            let id = try body.longText("member id")
            members[id] = try Self.member(&body)
        }
    }

    private static func member(_ body: inout ByteReader) throws(CoordinationError)
        -> ConsumerMember
    {
        var member = ConsumerMember()
        member.subscription.instanceID = try body.optionalLongText("instance id")
        member.subscription.rack = try body.optionalLongText("rack")
        member.subscription.clientID = try body.longText("client id")
        member.subscription.clientHost = try body.longText("client host")
        member.subscription.topics = try body.list("topics", elementByteCount: 4) {
            topic throws(CoordinationError) in try topic.longText("topic")
        }
        member.subscription.pattern = try body.optionalLongText("expression")
        member.subscription.assignor = try body.optionalLongText("assignor")
        member.subscription.rebalanceTimeoutMillis = try body.integer("rebalance timeout")
        if try body.flag("classic protocol") {
            member.subscription.classic = ClassicSupport(
                sessionTimeoutMillis: try body.integer("session timeout"),
                protocols: try body.list("strategies", elementByteCount: 8) {
                    entry throws(CoordinationError) in
                    GroupProtocol(
                        name: try entry.longText("strategy"),
                        metadata: try entry.bytes("metadata")
                    )
                }
            )
        }
        member.target = try partitions(&body)
        let epoch = try body.integer("member epoch", as: Int32.self)
        let previousEpoch = try body.integer("previous epoch", as: Int32.self)
        let number = try body.integer("phase", as: Int8.self)
        guard let phase = CurrentAssignment.Phase(rawValue: number) else {
            throw .valueOutOfBounds(field: "phase", value: Int64(number))
        }
        member.current = CurrentAssignment(
            epoch: epoch,
            previousEpoch: previousEpoch,
            phase: phase,
            assigned: try partitions(&body),
            revoking: try partitions(&body)
        )
        return member
    }

    private static func partitions(_ body: inout ByteReader) throws(CoordinationError)
        -> Set<TopicPartition>
    {
        Set(
            try body.list("partitions", elementByteCount: 20) {
                entry throws(CoordinationError) in
                TopicPartition(
                    topic: try entry.topicID("topic id"),
                    partition: try entry.integer("partition")
                )
            }
        )
    }
}
