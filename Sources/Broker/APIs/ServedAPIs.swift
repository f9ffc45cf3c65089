package import FlotillaKafkaWire

/// The APIs and versions that this broker serves: a promise for every version inside a range.
///
/// Ranges are those of Apache Kafka 4.x, so that clients which infer a release from them infer one that exists. One is
/// announced for old librdkafka only, which otherwise stops compressing in silence (CLIENTS, section 3.1): Produce from
/// version 0, of which 0 to 2 are refused.
package enum ServedAPIs {
    /// An API and the versions that are announced.
    package struct Entry: Sendable {
        package var api: APIKey
        package var versions: ClosedRange<Int16>
    }

    /// Ascending by key, as some old clients need it.
    package static let all: [Entry] = [
        Entry(api: .produce, versions: 0...13),
        Entry(api: .fetch, versions: 4...18),
        Entry(api: .listOffsets, versions: 1...11),
        Entry(api: .metadata, versions: 0...13),
        Entry(api: .offsetCommit, versions: 2...10),
        Entry(api: .offsetFetch, versions: 1...10),
        Entry(api: .findCoordinator, versions: 0...6),
        Entry(api: .joinGroup, versions: 0...9),
        Entry(api: .heartbeat, versions: 0...4),
        Entry(api: .leaveGroup, versions: 0...5),
        Entry(api: .syncGroup, versions: 0...5),
        Entry(api: .describeGroups, versions: 0...6),
        Entry(api: .listGroups, versions: 0...5),
        Entry(api: .apiVersions, versions: 0...4),
        Entry(api: .createTopics, versions: 2...7),
        Entry(api: .deleteTopics, versions: 1...6),
        Entry(api: .deleteRecords, versions: 0...2),
        Entry(api: .initProducerId, versions: 0...5),
        Entry(api: .offsetForLeaderEpoch, versions: 2...4),
        Entry(api: .describeConfigs, versions: 1...4),
        Entry(api: .alterConfigs, versions: 0...2),
        Entry(api: .describeLogDirs, versions: 1...4),
        Entry(api: .createPartitions, versions: 0...3),
        Entry(api: .deleteGroups, versions: 0...2),
        Entry(api: .electLeaders, versions: 0...2),
        Entry(api: .incrementalAlterConfigs, versions: 0...1),
        Entry(api: .alterPartitionReassignments, versions: 0...1),
        Entry(api: .listPartitionReassignments, versions: 0...0),
        Entry(api: .offsetDelete, versions: 0...0),
        Entry(api: .describeQuorum, versions: 0...2),
        Entry(api: .updateFeatures, versions: 0...2),
        Entry(api: .describeCluster, versions: 0...2),
        Entry(api: .describeProducers, versions: 0...0),
        Entry(api: .unregisterBroker, versions: 0...0),
        Entry(api: .consumerGroupHeartbeat, versions: 0...1),
        Entry(api: .consumerGroupDescribe, versions: 0...1),
        Entry(api: .describeTopicPartitions, versions: 0...0),
    ]

    private static let ranges: [APIKey: ClosedRange<Int16>] = Dictionary(
        uniqueKeysWithValues: all.map { ($0.api, $0.versions) }
    )

    /// The versions announced of an API, nil for one that is not served.
    package static func range(of api: APIKey) -> ClosedRange<Int16>? {
        ranges[api]
    }
}
