package import FlotillaEnvironment
import FlotillaModel
package import struct NIOCore.ByteBuffer

/// The committed state as bytes: equal states give equal bytes. The frame is `SnapshotEnvelope`'s with the magic `FLCM`; the body:
///
/// | field | form |
/// |---|---|
/// | applied index | u64 |
/// | cluster id, format, feature level | optional text, u16, i16 |
/// | next producer id, next creation epoch | i64, u64 |
/// | brokers, by id | list of what record 2 holds |
/// | topics, by id | list of what record 3 holds |
/// | deleted topics, by id | list of (topic 16 bytes, name text, partitions, list of unconfirmed brokers i32) |
/// | settings of all brokers | list of (setting text, value text) |
/// | settings of single brokers, by id | list of (broker i32, list of (setting text, value text)) |
extension Controller {
    private static let envelope = SnapshotEnvelope(
        magic: "FLCM",
        version: 1,
        name: "metadata snapshot"
    )

    /// The committed state; what is not committed is not in it.
    package func snapshot() -> ByteBuffer {
        var body = ByteWriter()
        image.write(&body)
        return Self.envelope.seal(body)
    }

    /// The state that `snapshot()` wrote.
    ///
    /// - Throws: for bytes that are damaged, of another format or of a newer version; it never traps.
    package init(snapshot: ByteBuffer, random: SeededRandom) throws(CoordinationError) {
        var body = try Self.envelope.open(snapshot)
        let image = try MetadataImage(reading: &body)
        try body.finish("metadata snapshot")
        self.init(image: image, random: random)
    }
}

extension MetadataImage {
    fileprivate func write(_ body: inout ByteWriter) {
        body.integer(appliedIndex.rawValue)
        body.optionalText(clusterID)
        body.integer(format)
        body.integer(featureLevel)
        body.integer(nextProducerID.rawValue)
        body.integer(nextCreationEpoch.rawValue)
        body.count(brokers.count)
        for (_, registration) in brokers {
            body.registration(registration)
        }
        body.count(topicsByID.count)
        for (id, topic) in topicsByID {
            body.topicID(id)
            body.text(topic.name)
            body.partitions(topic.partitions)
            body.configs(topic.configs)
        }
        body.count(deletedTopics.count)
        for (id, topic) in deletedTopics {
            body.topicID(id)
            body.text(topic.name)
            body.partitions(topic.partitions)
            body.count(topic.unconfirmedBrokers.count)
            for broker in topic.unconfirmedBrokers {
                body.integer(broker.rawValue)
            }
        }
        body.configs(clusterConfigs)
        body.count(brokerConfigs.count)
        for (broker, configs) in brokerConfigs {
            body.integer(broker.rawValue)
            body.configs(configs)
        }
    }

    /// Rebuilds the state by the same rules that applied it, so a snapshot cannot hold what no log could have led to.
    fileprivate init(reading body: inout ByteReader) throws(CoordinationError) {
        self.init()
        appliedIndex = LogIndex(try body.integer("applied index"))
        let clusterID = try body.optionalText("cluster id")
        let format = try body.integer("format", as: UInt16.self)
        let featureLevel = try body.integer("feature level", as: Int16.self)
        let producerID = try body.integer("next producer id", as: Int64.self)
        guard producerID >= 0 else {
            throw .valueOutOfBounds(field: "next producer id", value: producerID)
        }
        let creationEpoch = CreationEpoch(try body.integer("next creation epoch"))
        if let clusterID {
            try restore(.clusterInitialised(clusterID: clusterID, format: format))
        }
        if featureLevel != 0 {
            try restore(.featureLevelSet(featureLevel))
        }
        for _ in 0..<(try body.count("brokers", elementByteCount: 25)) {
            try restore(.brokerRegistered(try body.registration()))
        }
        try readTopics(&body, below: creationEpoch)
        try readConfigs(&body)
        nextProducerID = ProducerID(producerID)
        nextCreationEpoch = creationEpoch
    }

    private mutating func readTopics(
        _ body: inout ByteReader,
        below creationEpoch: CreationEpoch
    ) throws(CoordinationError) {
        for _ in 0..<(try body.count("topics", elementByteCount: 26)) {
            let id = try body.topicID("topic id")
            let name = try body.text("topic name")
            let partitions = try body.partitions()
            // Epochs were given out in the order of the log, but topics lie in the order of their ids.
            nextCreationEpoch = CreationEpoch(1)
            try restore(
                .topicCreated(
                    id: id,
                    name: name,
                    partitions: partitions,
                    configs: try body.configs()
                )
            )
            guard nextCreationEpoch <= creationEpoch else {
                throw .valueOutOfBounds(
                    field: "creation epoch",
                    value: Int64(clamping: nextCreationEpoch.rawValue)
                )
            }
        }
        for _ in 0..<(try body.count("deleted topics", elementByteCount: 26)) {
            let id = try body.topicID("topic id")
            var topic = DeletedTopic(
                id: id,
                name: try body.text("topic name"),
                partitions: try body.partitions(),
                unconfirmedBrokers: []
            )
            for _ in 0..<(try body.count("brokers", elementByteCount: 4)) {
                topic.unconfirmedBrokers.append(try body.brokerID("broker"))
            }
            guard topicsByID[id] == nil, deletedTopics[id] == nil, !topic.unconfirmedBrokers.isEmpty
            else {
                throw snapshotContradiction("deleted topic \(id) is listed twice or is confirmed")
            }
            deletedTopics[id] = topic
        }
    }

    private mutating func readConfigs(_ body: inout ByteReader) throws(CoordinationError) {
        let changes = { (configs: ConfigValues) in
            configs.entries.map { ConfigChange($0.name, $0.value) }
        }
        let all = try body.configs()
        if !all.isEmpty {
            try restore(.brokerConfigsChanged(broker: nil, changes: changes(all)))
        }
        for _ in 0..<(try body.count("brokers", elementByteCount: 8)) {
            let broker = try body.brokerID("broker")
            try restore(.brokerConfigsChanged(broker: broker, changes: changes(try body.configs())))
        }
    }

    private mutating func restore(_ record: MetadataRecord) throws(CoordinationError) {
        do {
            try apply(record)
        } catch {
            throw snapshotContradiction("\(record.name): \(error.reason)")
        }
    }

    private func snapshotContradiction(_ reason: String) -> CoordinationError {
        .contradiction(index: appliedIndex, record: "the snapshot", reason: reason)
    }
}
