@testable import FlotillaCoordination
import FlotillaModel
import Testing

@Suite("Settings")
struct ConfigTests {
    @Test(
        "A topic on a fresh cluster has Kafka's values, but for compression.type and segment.bytes (CLIENTS §4, DESIGN §7)",
        arguments: [
            ("cleanup.policy", "delete"), ("compression.type", "auto"),
            ("compression.gzip.level", "-1"),
            ("compression.lz4.level", "9"), ("compression.zstd.level", "3"),
            ("delete.retention.ms", "86400000"),
            ("file.delete.delay.ms", "60000"), ("flush.messages", "9223372036854775807"),
            ("flush.ms", "9223372036854775807"), ("follower.replication.throttled.replicas", ""),
            ("leader.replication.throttled.replicas", ""), ("index.interval.bytes", "4096"),
            ("local.retention.bytes", "-2"), ("local.retention.ms", "-2"),
            ("max.compaction.lag.ms", "9223372036854775807"), ("max.message.bytes", "1048588"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.after.max.ms", "3600000"), ("min.cleanable.dirty.ratio", "0.5"),
            ("min.compaction.lag.ms", "0"), ("min.insync.replicas", "1"), ("preallocate", "false"),
            ("remote.storage.enable", "false"), ("remote.log.copy.disable", "false"),
            ("remote.log.delete.on.disable", "false"), ("retention.bytes", "-1"),
            ("retention.ms", "604800000"),
            ("segment.bytes", "134217728"), ("segment.index.bytes", "10485760"),
            ("segment.jitter.ms", "0"),
            ("segment.ms", "604800000"), ("unclean.leader.election.enable", "false"),
        ]
    )
    func topicDefaults(name: String, value: String) throws {
        let described = try ConfigLayers().describeTopic(overrides: [:], names: [name])
        let config = try #require(described.first)
        #expect(config.value == value)
        #expect(config.isDefault && config.source == .defaultConfig && !config.isReadOnly)
    }

    @Test("The table of topics holds 33 settings and no other")
    func topicTableCount() throws {
        #expect(try ConfigLayers().describeTopic(overrides: [:]).count == 33)
    }

    @Test(
        "A broker's values are Kafka's, but for those that DESIGN §7 names",
        arguments: [
            ("num.partitions", "4"), ("default.replication.factor", "3"),
            ("auto.create.topics.enable", "true"),
            ("log.segment.bytes", "134217728"), ("compression.type", "auto"),
            ("offsets.topic.num.partitions", "16"),
            ("group.initial.rebalance.delay.ms", "500"), ("group.min.session.timeout.ms", "1000"),
            ("message.max.bytes", "1048588"), ("fetch.max.bytes", "57671680"),
            ("log.retention.hours", "168"),
            ("producer.id.expiration.ms", "86400000"), ("max.request.partition.size.limit", "2000"),
            ("socket.request.max.bytes", "104857600"), ("transaction.max.timeout.ms", "900000"),
        ]
    )
    func brokerDefaults(name: String, value: String) throws {
        #expect(try ConfigLayers().value(name) == value)
    }

    @Test("Each built-in value is one that could be set, in its one spelling")
    func defaultsAreValid() throws {
        for definition in TopicConfigTable.table.definitions + BrokerConfigTable.table.definitions {
            if let value = definition.defaultValue, definition.name != "group.consumer.assignors" {
                #expect(try definition.canonical(value) == value, "\(definition.name)")
            }
            #expect(definition.documentation.hasSuffix("."), "\(definition.name)")
        }
    }

    @Test("A topic's default and its broker's default agree, for each setting that has both")
    func originsAgree() throws {
        let layers = try ConfigLayers()
        for definition in TopicConfigTable.table.definitions {
            for origin in definition.origins {
                #expect(BrokerConfigTable.table.definition(origin.name) != nil, "\(origin.name)")
            }
            let value = layers.describeTopic(overrides: [:], names: [definition.name]).first?.value
            #expect(value == definition.defaultValue, "\(definition.name)")
        }
    }

    @Test(
        "A value in any spelling is kept in one",
        arguments: [
            ("retention.ms", " 0100 ", "100"), ("retention.ms", "+5", "5"),
            ("retention.ms", "-1", "-1"),
            ("preallocate", "TRUE", "true"),
            ("cleanup.policy", " compact , delete,", "compact,delete"),
            ("cleanup.policy", "delete,delete", "delete"), ("cleanup.policy", "", ""),
            ("min.cleanable.dirty.ratio", "1", "1.0"), ("compression.type", "zstd", "zstd"),
            ("compression.gzip.level", "-1", "-1"), ("segment.bytes", "1048576", "1048576"),
        ]
    )
    func spellings(name: String, text: String, value: String) throws {
        let definition = try #require(TopicConfigTable.table.definition(name))
        #expect(try definition.canonical(text) == value)
    }

    @Test(
        "A bad value is refused, and the message names setting, value and what is expected (CT-5)",
        arguments: [
            ("retention.ms", "-2"), ("retention.ms", "7d"), ("retention.ms", ""),
            ("retention.ms", "9223372036854775808"),
            ("segment.bytes", "1048575"), ("segment.bytes", "2147483648"),
            ("max.message.bytes", "-1"),
            ("compression.type", "brotli"), ("compression.type", "LZ4"),
            ("compression.gzip.level", "0"),
            ("compression.gzip.level", "10"), ("compression.lz4.level", "18"),
            ("compression.zstd.level", "23"),
            ("cleanup.policy", "delete,keep"), ("message.timestamp.type", "createtime"),
            ("preallocate", "yes"),
            ("min.insync.replicas", "0"), ("min.cleanable.dirty.ratio", "1.1"),
            ("min.cleanable.dirty.ratio", "nan"),
            ("remote.storage.enable", "true"), ("segment.ms", "0"),
            ("unclean.leader.election.enable", "1"),
        ]
    )
    func badValues(name: String, text: String) throws {
        let definition = try #require(TopicConfigTable.table.definition(name))
        let error = #expect(throws: CoordinationError.self) { try definition.canonical(text) }
        #expect(error == .invalidConfig(name: name, value: text, expected: definition.expectation))
        #expect(error?.errorCode == .invalidConfig)
        #expect(error?.description.contains(name) == true)
    }

    @Test("A value that is too long is refused, and the message does not repeat it")
    func longValue() throws {
        let definition = try #require(
            TopicConfigTable.table.definition("leader.replication.throttled.replicas")
        )
        let longest = String(repeating: "x", count: ConfigDefinition.maximumValueByteCount)
        #expect(try definition.canonical(longest) == longest)
        let error = #expect(throws: CoordinationError.self) {
            try definition.canonical(longest + "x")
        }
        #expect((error?.description.utf8.count ?? 0) < 300)
    }

    @Test(
        "An unknown name is answered with the nearest one",
        arguments: [
            ("retention.m", "retention.ms"), ("retension.ms", "retention.ms"),
            ("cleanup-policy", "cleanup.policy"),
            ("segment.byte", "segment.bytes"), ("compresion.type", "compression.type"),
            ("min.insync.replica", "min.insync.replicas"),
            ("max.mesage.bytes", "max.message.bytes"),
        ]
    )
    func nearest(wrong: String, right: String) {
        #expect(throws: CoordinationError.unknownConfig(name: wrong, nearest: right)) {
            try TopicConfigTable.table.validated([ConfigEntry(wrong, "1")])
        }
    }

    @Test(
        "A name that is like none is answered without a guess",
        arguments: ["colour", "x", String(repeating: "r", count: 5000)]
    )
    func noNearest(name: String) {
        #expect(throws: CoordinationError.unknownConfig(name: name, nearest: nil)) {
            try TopicConfigTable.table.validated([ConfigEntry(name, "1")])
        }
    }

    @Test(
        "The distance counts letters put in, taken out, replaced or swapped",
        arguments: [
            ("", "", 0), ("a", "", 1), ("abc", "abd", 1), ("abc", "acb", 1),
            ("kitten", "sitting", 3), ("ab", "ba", 1),
        ]
    )
    func distance(left: String, right: String, distance: Int) {
        #expect(EditDistance.between(left, right) == distance)
        #expect(EditDistance.between(right, left) == distance)
    }

    @Test("Names that Kafka 4.0 removed are taken and forgotten (CLIENTS §4)")
    func removedNames() throws {
        let values = try TopicConfigTable.table.validated([
            ConfigEntry("message.format.version", "2.8"),
            ConfigEntry("message.downconversion.enable", "what"),
            ConfigEntry("message.timestamp.difference.max.ms", "-7"),
            ConfigEntry("retention.ms", "1"),
        ])
        #expect(values == ["retention.ms": "1"])
    }

    @Test("The most specific layer counts, and the synonyms list them all (CFG-1)")
    func layers() throws {
        var image = MetadataImage.withBrokers([1])
        var layers = try ConfigLayers(fixed: [
            ConfigEntry("log.retention.hours", "2"), ConfigEntry("log.retention.ms", "300"),
        ])
        #expect(TopicConfig(overrides: [:], layers: layers).retentionMillis == 300)
        image = image.applying(
            .brokerConfigsChanged(broker: nil, changes: [ConfigChange("log.retention.ms", "400")])
        )
        image = image.applying(
            .brokerConfigsChanged(broker: 1, changes: [ConfigChange("log.retention.ms", "500")])
        )
        layers = layers.with(image, for: 1)
        #expect(TopicConfig(overrides: [:], layers: layers).retentionMillis == 500)
        #expect(
            TopicConfig(overrides: [:], layers: layers.with(image, for: 2)).retentionMillis == 400
        )
        #expect(
            TopicConfig(overrides: ["retention.ms": "-1"], layers: layers).retentionMillis == nil
        )
        let described = try #require(
            layers.describeTopic(overrides: ["retention.ms": "600"], names: ["retention.ms"]).first
        )
        #expect(described.value == "600")
        #expect(
            described.synonyms == [
                ConfigSynonym(name: "retention.ms", value: "600", source: .dynamicTopic),
                ConfigSynonym(name: "log.retention.ms", value: "500", source: .dynamicBroker),
                ConfigSynonym(
                    name: "log.retention.ms",
                    value: "400",
                    source: .dynamicDefaultBroker
                ),
                ConfigSynonym(name: "log.retention.ms", value: "300", source: .staticBroker),
                ConfigSynonym(name: "log.retention.hours", value: "2", source: .staticBroker),
                ConfigSynonym(name: "log.retention.hours", value: "168", source: .defaultConfig),
            ]
        )
    }

    @Test(
        "Hours and minutes become milliseconds; -1 stays, and what is too large is forever",
        arguments: [
            ("log.retention.hours", "3", 10_800_000), ("log.retention.minutes", "5", 300_000),
            ("log.retention.minutes", "-1", nil),
            ("log.retention.ms", "9223372036854775807", Int64.max),
        ] as [(String, String, Int64?)]
    )
    func units(name: String, value: String, millis: Int64?) throws {
        let layers = try ConfigLayers(fixed: [ConfigEntry(name, value)])
        #expect(TopicConfig(overrides: [:], layers: layers).retentionMillis == millis)
    }

    @Test("What a topic sets is in force, field by field")
    func effective() throws {
        let config = TopicConfig(
            overrides: [
                "cleanup.policy": "compact,delete", "compression.type": "zstd",
                "compression.zstd.level": "-5",
                "max.message.bytes": "17", "message.timestamp.type": "LogAppendTime",
                "min.insync.replicas": "2",
                "retention.bytes": "1000", "segment.bytes": "1048576", "segment.ms": "9",
                "segment.jitter.ms": "3",
                "message.timestamp.before.max.ms": "11", "message.timestamp.after.max.ms": "12",
                "min.cleanable.dirty.ratio": "0.25", "min.compaction.lag.ms": "1",
                "max.compaction.lag.ms": "2",
                "delete.retention.ms": "4", "compression.gzip.level": "1",
                "compression.lz4.level": "2",
            ],
            layers: try ConfigLayers()
        )
        #expect(config.cleanupPolicy == [.compact, .delete])
        #expect(config.compression == .zstd)
        #expect((config.gzipLevel, config.lz4Level, config.zstdLevel) == (1, 2, -5))
        #expect(config.maximumMessageByteCount == 17)
        #expect(config.timestampType == .logAppendTime)
        #expect(config.minimumInSyncReplicaCount == 2)
        #expect(config.retentionByteCount == 1000)
        #expect(config.segmentByteCount == 1_048_576)
        #expect((config.segmentMillis, config.segmentJitterMillis) == (9, 3))
        #expect(
            (config.timestampBeforeMaximumMillis, config.timestampAfterMaximumMillis) == (11, 12)
        )
        #expect(config.minimumCleanableDirtyRatio == 0.25)
        #expect((config.minimumCompactionLagMillis, config.maximumCompactionLagMillis) == (1, 2))
        #expect(config.deleteRetentionMillis == 4)
    }

    @Test("Names that do not exist are left out of a description without an error (CFG-1)")
    func describedNames() throws {
        let layers = try ConfigLayers()
        #expect(
            layers.describeTopic(
                overrides: [:],
                names: ["segment.ms", "nonsense", "cleanup.policy"]
            ).map(\.name)
                == ["cleanup.policy", "segment.ms"]
        )
        #expect(
            layers.describeBroker(names: ["node.id", "retention.ms"]).map(\.name) == ["node.id"]
        )
        #expect(layers.describeClusterDefault().isEmpty)
    }

    @Test("A broker's description says which settings only a restart changes")
    func readOnly() throws {
        let layers = try ConfigLayers(fixed: [
            ConfigEntry("node.id", "7"), ConfigEntry("advertised.listeners", "auto"),
        ])
        let described = layers.describeBroker(names: [
            "node.id", "log.retention.ms", "num.partitions",
        ])
        #expect(described.map(\.name) == ["log.retention.ms", "node.id", "num.partitions"])
        #expect(described.map(\.isReadOnly) == [false, true, false])
        #expect(described.map(\.source) == [.defaultConfig, .staticBroker, .defaultConfig])
    }

    @Test("A wrong setting of the server is refused with its name")
    func wrongFixed() {
        #expect(
            throws: CoordinationError.unknownConfig(
                name: "num.partition",
                nearest: "num.partitions"
            )
        ) {
            try ConfigLayers(fixed: [ConfigEntry("num.partition", "1")])
        }
    }

    @Test("What requests look at is in force as soon as the metadata says so")
    func brokerConfig() throws {
        let image = MetadataImage.withBrokers([1]).applying(
            .brokerConfigsChanged(
                broker: nil,
                changes: [
                    ConfigChange("num.partitions", "9"),
                    ConfigChange("auto.create.topics.enable", "false"),
                ]
            )
        )
        let config = BrokerConfig(layers: try ConfigLayers().with(image, for: 1))
        #expect(config.partitionCount == 9)
        #expect(!config.isAutoCreateEnabled)
        #expect(config.isTopicDeletionEnabled)
        #expect(config.topicDefaults == TopicDefaults(partitionCount: 9, replicationFactor: 3))
    }
}
