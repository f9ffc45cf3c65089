import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage

/// Brings every replica of a data directory back from segments and journal, before the shards start.
struct ReplicaRecovery {
    let dataDirectory: String
    let disk: any Disk
    let journal: JournalRecovery
    let verification: LogRecovery.Verification

    /// A replica that could not be opened, and why; it is left as it is, and its partition has no leader.
    struct Failure {
        var group: GroupID
        var error: StorageError
    }

    /// Opens the replicas, several at a time.
    ///
    /// - Throws: when the directories cannot be listed, or what a crash left of received files cannot be put in order.
    func perform(threadCount: Int) async throws -> (
        replicas: [GroupID: RecoveredReplica], failures: [Failure]
    ) {
        try ReplicaStaging.settleAll(in: dataDirectory, on: disk)
        let known = Dictionary(uniqueKeysWithValues: journal.groups.map { ($0.group, $0.state) })
        let groups = Set(known.keys).union(try groupsWithDirectories()).sorted()
        var replicas: [GroupID: RecoveredReplica] = [:]
        var failures: [Failure] = []
        await withTaskGroup(of: (GroupID, Result<RecoveredReplica, StorageError>).self) { tasks in
            var remaining = groups.makeIterator()
            func addNext() {
                guard let group = remaining.next() else { return }
                let state = known[group]
                tasks.addTask { (group, recover(group, state)) }
            }
            for _ in 0..<max(1, threadCount) { addNext() }
            while let (group, result) = await tasks.next() {
                addNext()
                switch result {
                case .success(let replica): replicas[group] = replica
                case .failure(let error): failures.append(Failure(group: group, error: error))
                }
            }
        }
        return (replicas, failures.sorted { $0.group < $1.group })
    }

    private func groupsWithDirectories() throws(DiskError) -> [GroupID] {
        let directory = "\(dataDirectory)/partitions"
        guard try disk.exists(directory) else { return [] }
        return try disk.list(directory).compactMap { GroupID(directoryName: $0) }
    }

    private func recover(_ group: GroupID, _ state: RecoveredGroup?) -> Result<
        RecoveredReplica, StorageError
    > {
        // A replica that the journal does not know owes it nothing, unless damage may have swallowed it.
        let unknown = journal.areUnknownGroupsSuspect ? nil : JournalSuffix()
        let recovery = LogRecovery(
            group: group,
            directory: dataDirectory,
            disk: disk,
            journal: state.map { JournalSuffix($0) } ?? unknown,
            verification: verification
        )
        do throws(StorageError) {
            let log = try recovery.perform()
            return .success(RecoveredReplica(log: log, state: state, journal: journal))
        } catch {
            return .failure(error)
        }
    }
}
