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
/// | topics, by id | list of what record 3 holds, with places instead of partitions |
/// | deleted topics, by id | list of (topic 16 bytes, name text, places, list of unconfirmed brokers i32) |
/// | settings of all brokers | list of (setting text, value text) |
/// | settings of single brokers, by id | list of (broker i32, list of (setting text, value text)) |
/// | settings of consumer groups, by name (from version 3 on) | list of (group text, list of (setting text, value text)) |
/// | draining brokers, by id | list of broker i32 |
/// | metadata members, by broker | list of (member, incarnation 16 bytes, flag whether it is a founder) |
/// | removed replicas | list of (member, topic 16 bytes, partition i32, topic's name text) |
///
/// Version 1 has partitions instead of places, and ends after the settings of brokers.
extension Controller {
    private static let envelope = SnapshotEnvelope(
        magic: "FLCM",
        version: 3,
        oldestVersion: 1,
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
        var (version, body) = try Self.envelope.open(snapshot)
        let image = try MetadataImage(reading: &body, version: version)
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
            body.places(topic.partitions)
            body.configs(topic.configs)
        }
        body.count(deletedTopics.count)
        for (id, topic) in deletedTopics {
            body.topicID(id)
            body.text(topic.name)
            body.places(topic.partitions)
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
        body.count(groupConfigs.count)
        for (group, configs) in groupConfigs {
            body.text(group)
            body.configs(configs)
        }
        writeCluster(&body)
    }

    private func writeCluster(_ body: inout ByteWriter) {
        body.count(drainingBrokers.count)
        for broker in drainingBrokers {
            body.integer(broker.rawValue)
        }
        body.count(metadataMembers.count)
        for (broker, member) in metadataMembers {
            body.member(GroupMember(broker: broker, epoch: member.epoch))
            body.incarnation(member.incarnation)
            body.flag(member.isFounder)
        }
        body.count(removedReplicas.count)
        for (replica, name) in removedReplicas {
            body.member(replica.member)
            body.topicPartition(replica.partition)
            body.text(name)
        }
    }

    /// Rebuilds the state by the same rules that applied it, so a snapshot cannot hold what no log could have led to.
    fileprivate init(reading body: inout ByteReader, version: UInt16) throws(CoordinationError) {
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
        try readTopics(&body, below: creationEpoch, version: version)
        try readConfigs(&body, version: version)
        if version > 1 {
            try readCluster(&body, below: creationEpoch)
        }
        nextProducerID = ProducerID(producerID)
        nextCreationEpoch = creationEpoch
    }

    private mutating func readTopics(
        _ body: inout ByteReader,
        below creationEpoch: CreationEpoch,
        version: UInt16
    ) throws(CoordinationError) {
        for _ in 0..<(try body.count("topics", elementByteCount: 26)) {
            let id = try body.topicID("topic id")
            let name = try body.text("topic name")
            let partitions = version > 1 ? try body.places() : try body.partitions()
            // Epochs were given out in the order of the log, but topics lie in the order of their ids.
            nextCreationEpoch = CreationEpoch(1)
            try restore(
                TopicImage(
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
                partitions: version > 1 ? try body.places() : try body.partitions(),
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

    private mutating func readConfigs(
        _ body: inout ByteReader,
        version: UInt16
    ) throws(CoordinationError) {
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
        guard version >= 3 else { return }
        for _ in 0..<(try body.count("groups", elementByteCount: 6)) {
            let group = try body.text("group")
            try restore(.groupConfigsChanged(group: group, changes: changes(try body.configs())))
        }
    }

    private mutating func restore(_ record: MetadataRecord) throws(CoordinationError) {
        do {
            try apply(record)
        } catch {
            throw snapshotContradiction("\(record.name): \(error.reason)")
        }
    }

    private mutating func restore(_ topic: TopicImage) throws(CoordinationError) {
        do {
            try create(topic)
        } catch {
            throw snapshotContradiction("topic \(topic.name): \(error.reason)")
        }
    }

    private mutating func readCluster(_ body: inout ByteReader, below epoch: CreationEpoch)
        throws(CoordinationError)
    {
        for _ in 0..<(try body.count("draining brokers", elementByteCount: 4)) {
            try restore(
                .brokerStateChanged(broker: try body.brokerID("broker"), state: .draining)
            )
        }
        metadataMembers = SortedTable()
        for _ in 0..<(try body.count("metadata members", elementByteCount: 29)) {
            let member = try body.member("metadata member")
            guard metadataMembers[member.broker] == nil, member.epoch < epoch else {
                throw snapshotContradiction("metadata member \(member) is listed twice or is new")
            }
            metadataMembers[member.broker] = MetadataMember(
                epoch: member.epoch,
                incarnation: try body.incarnation(),
                isFounder: try body.flag("founder")
            )
        }
        for _ in 0..<(try body.count("removed replicas", elementByteCount: 34)) {
            let replica = RemovedReplica(
                member: try body.member("replica"),
                partition: try body.topicPartition()
            )
            guard removedReplicas[replica] == nil, brokers[replica.member.broker] != nil,
                place(of: replica.partition)?.members.contains(replica.member) != true
            else {
                throw snapshotContradiction("removed replica \(replica.group) is there or is not")
            }
            removedReplicas[replica] = try body.text("topic name")
        }
    }

    private func snapshotContradiction(_ reason: String) -> CoordinationError {
        .contradiction(index: appliedIndex, record: "the snapshot", reason: reason)
    }
}
