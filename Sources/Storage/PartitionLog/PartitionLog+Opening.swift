package import FlotillaModel

extension PartitionLog {
    /// The directory of a replica in a data directory.
    package static func directory(of group: GroupID, in dataDirectory: String) -> String {
        "\(dataDirectory)/partitions/\(group)"
    }

    /// Opens a log at the start, recovery and all.
    ///
    /// Blocks; a shard that serves runs `LogRecovery` on a worker instead.
    ///
    /// - Parameters:
    ///   - group: the replica.
    ///   - directory: the data directory.
    ///   - resources: what the shard's logs share.
    ///   - configuration: the topic's values.
    ///   - journal: what the journal has; nil when no journal knows the replica.
    /// - Returns: the log, with the journal's entries behind its segments.
    /// - Throws: what `LogRecovery.perform()` throws.
    package static func open(
        group: GroupID,
        directory: String,
        resources: LogResources,
        configuration: LogConfiguration,
        journal: JournalSuffix?
    ) throws(StorageError) -> PartitionLog {
        let recovery = LogRecovery(
            group: group,
            directory: directory,
            disk: resources.disk,
            journal: journal
        )
        return PartitionLog(
            try recovery.perform(),
            resources: resources,
            configuration: configuration
        )
    }

    /// A log for a replica that has just been made; its directory appears with the first write.
    package static func create(
        group: GroupID,
        directory: String,
        resources: LogResources,
        configuration: LogConfiguration
    ) -> PartitionLog {
        let recovered = RecoveredLog(
            empty: group,
            directory: Self.directory(of: group, in: directory)
        )
        return PartitionLog(recovered, resources: resources, configuration: configuration)
    }
}
