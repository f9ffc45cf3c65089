/// Every setting of a broker that clients and tools know by name.
///
/// The server hands in what its file, environment and flags say under these names; settings that Kafka does not have stay with the
/// server. Those marked live may be changed while the brokers run: they give topics their defaults, or are read at each request.
/// - Source: Kafka's broker configuration reference, releases 3.9 to 4.2; DESIGN for the defaults that differ.
package enum BrokerConfigTable {
    /// The table.
    package static let table = ConfigTable(
        identity + topics + connections + logSizes + logTimes + scrub + cleaner + replicas + groups
            + shareGroups
            + transactions + security
    )

    static let number: ConfigDefinition.Constraint = .range(0...Int64(Int32.max))
    static let positive: ConfigDefinition.Constraint = .range(1...Int64(Int32.max))
    static let millis: ConfigDefinition.Constraint = .range(0...Int64.max)
    static let forever = String(Int64.max)

    private static let identity: [ConfigDefinition] = [
        ConfigDefinition(
            "node.id",
            .int,
            "-1",
            .range(-1...Int64(Int32.max)),
            documentation: "This broker's id."
        ),
        ConfigDefinition(
            "broker.id",
            .int,
            "-1",
            .range(-1...Int64(Int32.max)),
            documentation: "This broker's id, by its old name."
        ),
        ConfigDefinition(
            "broker.rack",
            .string,
            nil,
            documentation: "The rack or zone that this broker stands in."
        ),
        ConfigDefinition(
            "listeners",
            .string,
            "PLAINTEXT://:9092",
            documentation: "Where this broker listens for clients."
        ),
        ConfigDefinition(
            "advertised.listeners",
            .string,
            nil,
            documentation:
                "The address that clients are told; auto tells each client the one that it reached."
        ),
        ConfigDefinition(
            "listener.security.protocol.map",
            .string,
            "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL",
            documentation: "Which security protocol each listener speaks."
        ),
        ConfigDefinition(
            "log.dir",
            .string,
            nil,
            documentation: "Where this broker keeps its data."
        ),
        ConfigDefinition(
            "log.dirs",
            .string,
            nil,
            documentation: "Where this broker keeps its data."
        ),
    ]

    private static let topics: [ConfigDefinition] = [
        ConfigDefinition(
            "num.partitions",
            .int,
            "4",
            positive,
            updateMode: .live,
            documentation:
                "The partitions of a topic that asks for no number. Kafka's default is 1."
        ),
        ConfigDefinition(
            "default.replication.factor",
            .int,
            "3",
            .range(-1...Int64(Int16.max)),
            updateMode: .live,
            documentation:
                "The replicas of a topic that asks for no number; the number of brokers where these are fewer. "
                + "0 and -1 mean 3. Kafka's default is 1."
        ),
        ConfigDefinition(
            "auto.create.topics.enable",
            .boolean,
            "true",
            updateMode: .live,
            documentation: "Whether a topic that a client asks for is created."
        ),
        ConfigDefinition(
            "delete.topic.enable",
            .boolean,
            "true",
            updateMode: .live,
            documentation: "Whether topics may be deleted."
        ),
        ConfigDefinition(
            "compression.type",
            .string,
            "auto",
            .words(CompressionType.allCases.map(\.rawValue)),
            updateMode: .live,
            documentation:
                "How topics store batches that do not say so themselves. Kafka's default is producer."
        ),
        ConfigDefinition(
            "compression.gzip.level",
            .int,
            "-1",
            .level(1...9),
            updateMode: .live,
            documentation: "The level of gzip."
        ),
        ConfigDefinition(
            "compression.lz4.level",
            .int,
            "9",
            .level(1...17),
            updateMode: .live,
            documentation: "The level of lz4."
        ),
        ConfigDefinition(
            "compression.zstd.level",
            .int,
            "3",
            .range(-131_072...22),
            updateMode: .live,
            documentation: "The level of zstd."
        ),
        ConfigDefinition(
            "message.max.bytes",
            .int,
            "1048588",
            number,
            updateMode: .live,
            documentation: "The largest batch that topics accept."
        ),
        ConfigDefinition(
            "max.request.partition.size.limit",
            .int,
            "2000",
            positive,
            updateMode: .live,
            documentation: "The most partitions in one answer to DescribeTopicPartitions."
        ),
    ]

    private static let connections: [ConfigDefinition] = [
        ConfigDefinition(
            "socket.request.max.bytes",
            .int,
            "104857600",
            positive,
            documentation: "The largest request."
        ),
        ConfigDefinition(
            "fetch.max.bytes",
            .int,
            "57671680",
            .range(1024...Int64(Int32.max)),
            updateMode: .live,
            documentation: "The most bytes in one answer to Fetch."
        ),
        ConfigDefinition(
            "max.incremental.fetch.session.cache.slots",
            .int,
            "1000",
            number,
            documentation: "How many fetch sessions are remembered."
        ),
        ConfigDefinition(
            "connections.max.idle.ms",
            .long,
            "600000",
            .range(-1...Int64.max),
            documentation: "How long a silent connection is kept."
        ),
        ConfigDefinition(
            "max.connections",
            .int,
            "2147483647",
            number,
            documentation: "The most connections at a time."
        ),
        ConfigDefinition(
            "max.connections.per.ip",
            .int,
            "2147483647",
            number,
            documentation: "The most connections from one address."
        ),
        ConfigDefinition(
            "connection.failed.authentication.delay.ms",
            .int,
            "100",
            number,
            documentation: "How long the answer to a failed login waits."
        ),
        ConfigDefinition(
            "quota.window.num",
            .int,
            "11",
            positive,
            documentation: "How many windows a quota looks at."
        ),
        ConfigDefinition(
            "quota.window.size.seconds",
            .int,
            "1",
            positive,
            documentation: "How long a quota's window is."
        ),
        ConfigDefinition(
            "telemetry.max.bytes",
            .int,
            "1048576",
            positive,
            effect: .accepted("It changes nothing here: clients' metrics are not collected."),
            documentation: "The largest report of a client's metrics."
        ),
    ]

    private static let replicas: [ConfigDefinition] = [
        ConfigDefinition(
            "min.insync.replicas",
            .int,
            "1",
            positive,
            updateMode: .live,
            documentation:
                "How many replicas must have a batch on disk before acks=all is answered; never less than a majority."
        ),
        ConfigDefinition(
            "unclean.leader.election.enable",
            .boolean,
            "false",
            updateMode: .live,
            effect: .accepted(
                "It changes nothing here: a leader always has what was acknowledged."
            ),
            documentation: "Whether a replica that lacks acknowledged records may lead."
        ),
        ConfigDefinition(
            "auto.leader.rebalance.enable",
            .boolean,
            "true",
            updateMode: .live,
            documentation:
                "Whether leadership goes back to a partition's preferred replica by itself."
        ),
        ConfigDefinition(
            "replica.lag.time.max.ms",
            .long,
            "30000",
            millis,
            documentation:
                "How long a replica may be behind before it is no longer shown as in sync."
        ),
        ConfigDefinition(
            "replica.selector.class",
            .class,
            nil,
            documentation: "Which replica a consumer may read from beside the leader."
        ),
    ]

    private static let groups: [ConfigDefinition] = [
        ConfigDefinition(
            "offsets.topic.num.partitions",
            .int,
            "16",
            positive,
            documentation:
                "The partitions of the topic that holds consumer groups. Kafka's default is 50."
        ),
        ConfigDefinition(
            "offsets.topic.replication.factor",
            .short,
            "3",
            .range(1...Int64(Int16.max)),
            documentation: "The replicas of the topic that holds consumer groups."
        ),
        ConfigDefinition(
            "offsets.retention.minutes",
            .int,
            "10080",
            positive,
            documentation: "How long the offsets of a group without members are kept."
        ),
        ConfigDefinition(
            "offset.metadata.max.bytes",
            .int,
            "4096",
            number,
            documentation: "The longest note beside a committed offset."
        ),
        ConfigDefinition(
            "group.initial.rebalance.delay.ms",
            .int,
            "500",
            number,
            documentation:
                "How long a new group waits for further members. Kafka's default is 3000."
        ),
        ConfigDefinition(
            "group.min.session.timeout.ms",
            .int,
            "1000",
            number,
            documentation:
                "The shortest session timeout a member may ask for. Kafka's default is 6000."
        ),
        ConfigDefinition(
            "group.max.session.timeout.ms",
            .int,
            "1800000",
            number,
            documentation: "The longest session timeout a member may ask for."
        ),
        ConfigDefinition(
            "group.max.size",
            .int,
            "2147483647",
            positive,
            documentation: "The most members of a group."
        ),
        ConfigDefinition(
            "group.coordinator.rebalance.protocols",
            .list,
            "classic,consumer",
            documentation: "The group protocols that are served."
        ),
        ConfigDefinition(
            "group.consumer.session.timeout.ms",
            .int,
            "45000",
            positive,
            documentation: "A member's session timeout."
        ),
        ConfigDefinition(
            "group.consumer.min.session.timeout.ms",
            .int,
            "45000",
            positive,
            documentation: "The shortest session timeout that a group may set for itself."
        ),
        ConfigDefinition(
            "group.consumer.max.session.timeout.ms",
            .int,
            "60000",
            positive,
            documentation: "The longest session timeout that a group may set for itself."
        ),
        ConfigDefinition(
            "group.consumer.heartbeat.interval.ms",
            .int,
            "5000",
            positive,
            documentation: "The time between two heartbeats."
        ),
        ConfigDefinition(
            "group.consumer.min.heartbeat.interval.ms",
            .int,
            "5000",
            positive,
            documentation: "The shortest such time that a group may set for itself."
        ),
        ConfigDefinition(
            "group.consumer.max.heartbeat.interval.ms",
            .int,
            "15000",
            positive,
            documentation: "The longest such time that a group may set for itself."
        ),
        ConfigDefinition(
            "group.consumer.assignors",
            .list,
            "uniform,range",
            documentation: "The server's assignors; the first is the default."
        ),
        ConfigDefinition(
            "group.consumer.max.size",
            .int,
            "2147483647",
            positive,
            documentation: "The most members of a group."
        ),
        ConfigDefinition(
            "group.consumer.migration.policy",
            .string,
            "bidirectional",
            .words(["bidirectional", "upgrade", "downgrade", "disabled"]),
            documentation: "Whether a group may move between the classic and the new protocol."
        ),
    ]

    private static let shareGroups: [ConfigDefinition] = [
        ConfigDefinition(
            "group.share.session.timeout.ms",
            .int,
            "45000",
            positive,
            documentation: "A share member's session timeout."
        ),
        ConfigDefinition(
            "group.share.heartbeat.interval.ms",
            .int,
            "5000",
            positive,
            documentation: "The time between two heartbeats."
        ),
        ConfigDefinition(
            "group.share.record.lock.duration.ms",
            .int,
            "30000",
            positive,
            documentation: "How long a record stays with the member that took it."
        ),
        ConfigDefinition(
            "group.share.min.record.lock.duration.ms",
            .int,
            "15000",
            positive,
            documentation: "The shortest such time."
        ),
        ConfigDefinition(
            "group.share.max.record.lock.duration.ms",
            .int,
            "60000",
            positive,
            documentation: "The longest such time."
        ),
        ConfigDefinition(
            "group.share.delivery.count.limit",
            .int,
            "5",
            .range(2...10),
            documentation: "How often a record is delivered before it is given up."
        ),
        ConfigDefinition(
            "group.share.max.size",
            .int,
            "200",
            positive,
            documentation: "The most members of a share group."
        ),
        ConfigDefinition(
            "group.share.partition.max.record.locks",
            .int,
            "2000",
            positive,
            documentation: "The most records of a partition that a share group holds at a time."
        ),
    ]

    private static let transactions: [ConfigDefinition] = [
        ConfigDefinition(
            "transaction.state.log.num.partitions",
            .int,
            "50",
            positive,
            documentation: "The partitions of the topic that holds transactions."
        ),
        ConfigDefinition(
            "transaction.state.log.replication.factor",
            .short,
            "3",
            .range(1...Int64(Int16.max)),
            documentation: "The replicas of the topic that holds transactions."
        ),
        ConfigDefinition(
            "transaction.state.log.min.isr",
            .int,
            "2",
            positive,
            effect: .accepted("It changes nothing here: a majority always has them on disk."),
            documentation: "How many replicas must have a transaction's state."
        ),
        ConfigDefinition(
            "transaction.max.timeout.ms",
            .int,
            "900000",
            positive,
            documentation: "The longest timeout of a transaction."
        ),
        ConfigDefinition(
            "transactional.id.expiration.ms",
            .int,
            "604800000",
            positive,
            documentation: "How long an idle transactional id is remembered."
        ),
        ConfigDefinition(
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            .int,
            "10000",
            positive,
            documentation: "The time between two looks for transactions that took too long."
        ),
        ConfigDefinition(
            "transaction.partition.verification.enable",
            .boolean,
            "true",
            effect: .accepted("It changes nothing here: late batches are always refused."),
            documentation: "Whether a batch's transaction is verified before it is appended."
        ),
        ConfigDefinition(
            "producer.id.expiration.ms",
            .int,
            "86400000",
            positive,
            documentation:
                "How long a partition remembers an idle producer. It must be the same on all brokers."
        ),
    ]

    private static let security: [ConfigDefinition] = [
        ConfigDefinition(
            "sasl.enabled.mechanisms",
            .list,
            "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            documentation: "The login mechanisms that are served."
        ),
        ConfigDefinition(
            "connections.max.reauth.ms",
            .long,
            "0",
            millis,
            documentation: "How long a login lasts; 0 is without end."
        ),
        ConfigDefinition(
            "authorizer.class.name",
            .class,
            "",
            documentation: "Who decides what a user may do."
        ),
        ConfigDefinition("super.users", .string, "", documentation: "Users who may do everything."),
        ConfigDefinition(
            "allow.everyone.if.no.acl.found",
            .boolean,
            "false",
            documentation: "Whether everyone may use what no rule names."
        ),
    ]
}
