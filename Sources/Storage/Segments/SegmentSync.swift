package import FlotillaEnvironment
import FlotillaModel

/// Makes what was written to the active segment durable, and a checkpoint with it; one per log at a
/// time.
package struct SegmentSync: Sendable {
    let disk: any Disk
    let directory: String
    let name: SegmentName
    let files: SegmentFiles?
    /// The last entry that is durable afterwards.
    let mark: LogMark
    /// The `.state` that the synced content completes.
    let checkpoint: StateWrite?
    /// Checkpoints that a newer `.state` replaces.
    let staleCheckpoints: [SegmentName]

    /// Does the work; blocks.
    package func perform() -> SegmentSyncResult {
        do throws(StorageError) {
            let files = try openFiles()
            do {
                try files.sync()
            } catch {
                throw .syncFailed(error)
            }
            try checkpoint?.perform()
            if checkpoint != nil { removeStaleCheckpoints() }
            return SegmentSyncResult(sync: self, outcome: .success(files))
        } catch {
            return SegmentSyncResult(sync: self, outcome: .failure(error))
        }
    }

    private func openFiles() throws(StorageError) -> SegmentFiles {
        if let files { return files }
        do {
            return try SegmentFiles.open(name, in: directory, on: disk, .readWrite)
        } catch {
            throw .disk(error)
        }
    }

    /// One that stays is found again at the next start and takes nothing but its bytes.
    private func removeStaleCheckpoints() {
        for name in staleCheckpoints where name != checkpoint?.name {
            _ = try? disk.remove("\(directory)/\(name.fileName(.state))")
        }
    }
}

/// What became of a `SegmentSync`.
package struct SegmentSyncResult: Sendable {
    let sync: SegmentSync
    let outcome: Result<SegmentFiles, StorageError>
}

/// Deletes the files of segments that lie below the log's start.
///
/// `.frames` goes first and durably, segment by segment from the oldest: whatever instant the power
/// fails at, the segments with a `.frames` file are the log without a gap, and files without one
/// are remains.
package struct SegmentRemoval: Sendable {
    let disk: any Disk
    let directory: String
    let names: [SegmentName]
    /// Files that an earlier removal left.
    let remains: [String]

    /// Does the work; blocks.
    ///
    /// What fails is found at the next start, and removed with the next removal.
    package func perform() -> Result<Void, DiskError> {
        do throws(DiskError) {
            for name in names {
                try disk.remove("\(directory)/\(name.fileName(.frames))")
                try disk.syncDirectory(directory)
                for kind in [SegmentFileKind.log, .control, .state] {
                    try disk.remove("\(directory)/\(name.fileName(kind))")
                }
            }
            for fileName in remains {
                try disk.remove("\(directory)/\(fileName)")
            }
            return .success(())
        } catch {
            return .failure(error)
        }
    }
}

/// Deletes a replica's directory.
package struct LogRemoval: Sendable {
    let disk: any Disk
    let directory: String

    /// Does the work; blocks.
    package func perform() -> Result<Void, DiskError> {
        do throws(DiskError) {
            try disk.removeTree(directory)
            // A broker on an empty disk is asked to delete what went with the old one.
            guard try disk.exists(parent(of: directory)) else { return .success(()) }
            try disk.syncDirectory(parent(of: directory))
            return .success(())
        } catch {
            return .failure(error)
        }
    }
}
