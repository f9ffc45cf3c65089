import FlotillaEnvironment
import FlotillaKafkaWire
import NIOCore
import Testing

/// The generated code against the schemas, read by the slow interpreter of `SchemaCodec`.
@Suite("Generated messages")
struct SchemaTests {
    @Test(
        "Every message in every version holds what was written, and writes it back",
        arguments: Schema.all
    )
    func roundTrip(schema: Schema) throws {
        for (name, section) in schema.sections {
            for version in schema.versions {
                for seed in UInt64(0)..<12 {
                    try roundTrip(schema, name, section, version, seed)
                }
            }
        }
    }

    private func roundTrip(
        _ schema: Schema,
        _ name: String,
        _ section: Schema.Section,
        _ version: Int16,
        _ seed: UInt64
    ) throws {
        let place = "\(schema.name) \(name) v\(version), seed \(seed)"
        var codec = SchemaCodec(schema: schema, section: section, version: version)
        codec.random = SeededRandom(seed: seed)
        let value = codec.message(seed == 0 ? .defaults : .random)
        guard seed > 0 || canHoldDefaults(section, version) else { return }
        let bytes = ByteBuffer(bytes: codec.encoded(value))

        let decoded = try decode(schema, name, version: version, body: bytes)
        let message = try #require(decoded, "\(place)")
        #expect(Value(reflecting: message).difference(from: value) == nil, "\(place)")
        #expect(try message.encoded(version: version) == bytes, "\(place)")

        // Without its last byte it is not a message, unless it is empty.
        guard let shorter = bytes.getSlice(at: 0, length: bytes.readableBytes - 1) else { return }
        #expect(throws: WireError.self, "\(place)") {
            try decode(schema, name, version: version, body: shorter)
        }
    }

    /// Whether all defaults can be written: null is a default in versions that do not allow it.
    private func canHoldDefaults(_ section: Schema.Section, _ version: Int16) -> Bool {
        section.fields.allSatisfy {
            $0.defaultValue != "null" || !$0.versions.contains(version)
                || $0.isNullable(in: version)
        }
    }

    @Test(
        "Messages and their structs start from the defaults of the schema",
        arguments: [
            ("Produce", "request", ProduceRequest()),
            ("Produce", "response", ProduceResponse.PartitionProduceResponse()),
            ("Produce", "response", ProduceResponse.LeaderIdAndEpoch()),
            ("Fetch", "request", FetchRequest()),
            ("Fetch", "request", FetchRequest.FetchPartition()),
            ("Fetch", "response", FetchResponse.PartitionData()),
            ("ListOffsets", "response", ListOffsetsResponse.ListOffsetsPartitionResponse()),
            ("Metadata", "request", MetadataRequest()),
            ("Metadata", "response", MetadataResponse.MetadataResponseTopic()),
            ("JoinGroup", "request", JoinGroupRequest()),
            ("InitProducerId", "request", InitProducerIdRequest()),
            ("CreateTopics", "request", CreateTopicsRequest()),
            (
                "DescribeConfigs", "response",
                DescribeConfigsResponse.DescribeConfigsResourceResult()
            ),
            ("DescribeTopicPartitions", "request", DescribeTopicPartitionsRequest()),
            ("StreamsGroupHeartbeat", "request", StreamsGroupHeartbeatRequest()),
            ("TransactionLogValue", "fields", TransactionLogValue()),
        ] as [(String, String, any WireStruct)]
    )
    func defaults(name: String, section: String, made: any WireStruct) throws {
        let schema = try #require(Schema.of(name))
        let messageSection = try #require(schema.sections[section])
        let last = schema.versions.upperBound
        var codec = SchemaCodec(schema: schema, section: messageSection, version: last)
        let structName = String(describing: type(of: made))
        let expected: Value
        if let field = find(structName, in: messageSection.fields) {
            // An element alone: the default of a field with that type that is not an array.
            var single = field
            single.isArray = false
            single.defaultValue = nil
            expected = codec.defaultValue(single)
        } else {
            expected = codec.message(.defaults)
        }
        #expect(Value(reflecting: made).difference(from: expected) == nil)
    }

    private func find(_ structName: String, in fields: [Schema.Field]) -> Schema.Field? {
        for field in fields {
            if field.type == structName { return field }
            if let found = find(structName, in: field.children) { return found }
        }
        return nil
    }

    @Test("The keys know what the schemas say", arguments: Schema.apis)
    func keys(schema: Schema) throws {
        let key = try #require(schema.apiKey)
        let api = try #require(APIKey(rawValue: key))
        #expect(api.name == schema.name)
        #expect(api.versions == schema.range("versions"))
        #expect(api.stableVersions == schema.range("stable"))
        #expect(api.kafka4Versions == schema.range("kafka4"))
        for version in schema.versions {
            #expect(api.isFlexible(version) == schema.isFlexible(version))
            #expect(
                api.requestHeaderVersion(version)
                    == headerVersion(schema, "request-header", version)
            )
            #expect(
                api.responseHeaderVersion(version)
                    == headerVersion(schema, "response-header", version)
            )
        }
    }

    private func headerVersion(_ schema: Schema, _ headline: String, _ version: Int16) -> Int16? {
        for part in schema.headlines[headline, default: ""].split(separator: " ") {
            let words = part.split(separator: "@")
            let bounds = words[1].split(separator: "-").compactMap { Int16($0) }
            if (bounds[0]...bounds[bounds.count - 1]).contains(version) { return Int16(words[0]) }
        }
        return nil
    }

    @Test("Every schema has its type, and every key its schema")
    func complete() {
        #expect(Schema.apis.count == APIKey.allCases.count)
        #expect(Schema.all.count == APIKey.allCases.count + embeddedMessages.count)
        #expect(Schema.all.count >= 114)
    }

    @Test("A version outside the schema is refused, reading and writing", arguments: Schema.apis)
    func versions(schema: Schema) throws {
        let key = try #require(schema.apiKey)
        let api = try #require(APIKey(rawValue: key))
        let zeros = ByteBuffer(repeating: 0, count: 4096)
        for version in [-1, schema.versions.lowerBound - 1, schema.versions.upperBound + 1, .max] {
            #expect(throws: WireError.self) {
                try MessageCatalog.request(api, version: version, body: zeros)
            }
            #expect(throws: WireError.self) {
                try MessageCatalog.response(api, version: version, body: zeros)
            }
        }
        #expect(throws: WireError.unsupportedVersion(message: "FetchRequest", version: 19)) {
            try FetchRequest().encoded(version: 19)
        }
    }

    @Test(
        "Written in another version, a message is refused or stays readable",
        arguments: Schema.all
    )
    func otherVersions(schema: Schema) throws {
        for (name, section) in schema.sections {
            for version in schema.versions {
                var codec = SchemaCodec(schema: schema, section: section, version: version)
                codec.random = SeededRandom(seed: UInt64(version) + 100)
                let bytes = ByteBuffer(bytes: codec.encoded(codec.message(.random)))
                guard let message = try decode(schema, name, version: version, body: bytes) else {
                    continue
                }
                for other in schema.versions {
                    guard let rewritten = try? message.encoded(version: other) else { continue }
                    let again = try decode(schema, name, version: other, body: rewritten)
                    #expect(try again?.encoded(version: other) == rewritten)
                }
            }
        }
    }
}
