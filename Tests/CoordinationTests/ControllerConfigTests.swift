@testable import FlotillaCoordination
import FlotillaModel
import Testing

@Suite("Changing settings")
struct ControllerConfigTests {
    typealias Step = ConfigAlteration.Step

    private func leader(configs: [ConfigChange] = []) throws -> LeadingController {
        let leader = try LeadingController(brokerCount: 2)
        _ = try leader.create(TopicRequest(name: "a", configs: configs))
        try leader.commitAll()
        return leader
    }

    private func alter(
        _ leader: LeadingController,
        _ resource: ConfigResource = .topic("a"),
        _ steps: Step...,
        validateOnly: Bool = false
    ) throws -> [ErrorCode?] {
        let alteration = ConfigAlteration(resource: resource, steps: steps)
        let decision = try leader.controller.incrementalAlterConfigs(
            [alteration],
            validateOnly: validateOnly
        )
        return leader.note(decision).map(\.refusal)
    }

    @Test("Setting and deleting, and deleting goes back to the default (CFG-3)")
    func setAndDelete() throws {
        let leader = try leader(configs: [
            ConfigChange("retention.ms", "5"), ConfigChange("segment.ms", "7"),
        ])
        #expect(
            try alter(
                leader,
                .topic("a"),
                Step(.set, "retention.bytes", "9"),
                Step(.delete, "retention.ms", nil),
                Step(.set, "segment.ms", " 8 ")
            ) == [nil]
        )
        try leader.commitAll()
        #expect(
            leader.image.topic(named: "a")?.configs == ["retention.bytes": "9", "segment.ms": "8"]
        )
        let layers = try ConfigLayers()
        let config = try #require(
            leader.image.topic(named: "a").map {
                TopicConfig(overrides: $0.configs, layers: layers)
            }
        )
        #expect(config.retentionMillis == 604_800_000)
    }

    @Test(
        "Appending and subtracting change lists, from the value that is set or the default (CFG-3)",
        arguments: [
            (nil, .append, "compact", "delete,compact"), (nil, .append, "delete", nil),
            ("compact", .append, "delete,compact", "compact,delete"),
            ("compact,delete", .subtract, "delete", "compact"),
            ("compact", .subtract, "delete", "compact"), (nil, .subtract, "delete", ""),
        ] as [(String?, ConfigOperation, String, String?)]
    )
    func lists(before: String?, operation: ConfigOperation, value: String, after: String?) throws {
        let leader = try leader(configs: before.map { [ConfigChange("cleanup.policy", $0)] } ?? [])
        #expect(try alter(leader, .topic("a"), Step(operation, "cleanup.policy", value)) == [nil])
        try leader.commitAll()
        #expect(leader.image.topic(named: "a")?.configs["cleanup.policy"] == after ?? "delete")
    }

    @Test(
        "What cannot be is refused: an unknown name, a bad or null value, a list's operation on no list (CFG-3)",
        arguments: [
            Step(.set, "no.such", "1"), Step(.delete, "no.such", nil),
            Step(.set, "retention.ms", "x"),
            Step(.set, "retention.ms", nil), Step(.append, "cleanup.policy", nil),
            Step(.append, "retention.ms", "1"),
            Step(.subtract, "compression.type", "lz4"), Step(.append, "cleanup.policy", "keep"),
            Step(.set, "num.partitions", "3"),
        ]
    )
    func refused(step: Step) throws {
        let leader = try leader()
        #expect(
            try alter(leader, .topic("a"), Step(.set, "segment.ms", "5"), step) == [.invalidConfig]
        )
        #expect(leader.waiting.isEmpty, "all changes of a resource or none")
    }

    @Test("A name or a resource that comes twice is INVALID_REQUEST (CFG-3)")
    func twice() throws {
        let leader = try leader()
        #expect(
            try alter(
                leader,
                .topic("a"),
                Step(.set, "segment.ms", "5"),
                Step(.delete, "segment.ms", nil)
            ) == [.invalidRequest]
        )
        let step = Step(.set, "segment.ms", "5")
        let decision = try leader.controller.incrementalAlterConfigs([
            ConfigAlteration(resource: .topic("a"), steps: [step]),
            ConfigAlteration(resource: .topic("b"), steps: [step]),
            ConfigAlteration(resource: .topic("a"), steps: [step]),
            ConfigAlteration(resource: .allBrokers, steps: []),
        ])
        #expect(decision.outcomes.map(\.resource) == [.topic("a"), .topic("b"), .allBrokers])
        #expect(
            decision.outcomes.map(\.refusal) == [.invalidRequest, .unknownTopicOrPartition, nil]
        )
        #expect(decision.records.isEmpty)
    }

    @Test(
        "Validating changes nothing (CFG-3), and a change to what is set already proposes nothing"
    )
    func nothing() throws {
        let leader = try leader(configs: [ConfigChange("segment.ms", "5")])
        #expect(
            try alter(leader, .topic("a"), Step(.set, "segment.ms", "6"), validateOnly: true) == [
                nil
            ]
        )
        #expect(
            try alter(leader, .topic("a"), Step(.set, "segment.ms", "x"), validateOnly: true) == [
                .invalidConfig
            ]
        )
        #expect(try alter(leader, .topic("a"), Step(.set, "segment.ms", "5")) == [nil])
        #expect(try alter(leader, .topic("a"), Step(.delete, "retention.ms", nil)) == [nil])
        #expect(
            try alter(leader, .topic("a"), Step(.set, "message.format.version", "2.8")) == [nil]
        )
        #expect(leader.waiting.isEmpty)
    }

    @Test("Settings that contradict each other are refused together, also with what was set before")
    func together() throws {
        let leader = try leader(configs: [ConfigChange("max.compaction.lag.ms", "10")])
        #expect(
            try alter(leader, .topic("a"), Step(.set, "min.compaction.lag.ms", "11")) == [
                .invalidConfig
            ]
        )
        #expect(try alter(leader, .topic("a"), Step(.set, "min.compaction.lag.ms", "10")) == [nil])
    }

    @Test("The old call replaces all settings: those not named return to their defaults (CFG-4)")
    func replacement() throws {
        let leader = try leader(configs: [
            ConfigChange("retention.ms", "5"), ConfigChange("segment.ms", "7"),
        ])
        let replacement = ConfigReplacement(
            resource: .topic("a"),
            configs: [ConfigChange("segment.ms", "7"), ConfigChange("cleanup.policy", "compact")]
        )
        let decision = try leader.controller.alterConfigs([replacement])
        let topic = try #require(leader.image.topic(named: "a"))
        #expect(
            decision.records == [
                .topicConfigsChanged(
                    topic: topic.id,
                    changes: [
                        ConfigChange("cleanup.policy", "compact"),
                        ConfigChange("retention.ms", nil),
                    ]
                )
            ]
        )
        _ = leader.note(decision)
        try leader.commitAll()
        #expect(
            leader.image.topic(named: "a")?.configs == [
                "cleanup.policy": "compact", "segment.ms": "7",
            ]
        )
        let bad = try leader.controller.alterConfigs([
            ConfigReplacement(resource: .topic("a"), configs: [ConfigChange("segment.ms", nil)])
        ])
        #expect(bad.outcomes.map(\.refusal) == [.invalidConfig])
    }

    @Test("A broker's live settings change for one or for all, and a topic's defaults with them")
    func brokers() throws {
        let leader = try leader()
        #expect(try alter(leader, .allBrokers, Step(.set, "message.max.bytes", "100")) == [nil])
        #expect(try alter(leader, .broker(2), Step(.set, "message.max.bytes", "200")) == [nil])
        try leader.commitAll()
        let layers = try ConfigLayers(fixed: [ConfigEntry("message.max.bytes", "50")])
        let sizes = [1, 2].map { broker in
            TopicConfig(overrides: [:], layers: layers.with(leader.image, for: BrokerID(broker)))
                .maximumMessageByteCount
        }
        #expect(sizes == [100, 200])
        #expect(
            layers.with(leader.image, for: 1).describeClusterDefault().map(\.name) == [
                "message.max.bytes"
            ]
        )
        #expect(try alter(leader, .broker(2), Step(.delete, "message.max.bytes", nil)) == [nil])
        try leader.commitAll()
        #expect(leader.image.configs(of: 2).isEmpty)
    }

    @Test(
        "A setting that only a restart changes, and a broker that is not there, are refused (CFG-2)"
    )
    func brokerRefusals() throws {
        let leader = try leader()
        #expect(try alter(leader, .allBrokers, Step(.set, "node.id", "5")) == [.invalidConfig])
        #expect(try alter(leader, .broker(1), Step(.set, "listeners", "x")) == [.invalidConfig])
        #expect(
            try alter(leader, .broker(3), Step(.set, "num.partitions", "5")) == [.invalidRequest]
        )
        #expect(try alter(leader, .broker(1), Step(.set, "retention.ms", "5")) == [.invalidConfig])
        #expect(leader.waiting.isEmpty)
    }
}
