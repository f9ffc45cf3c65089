import FlotillaEnvironment
import FlotillaStorage
import Logging

/// Remembers across a restart that the disk failed to make something durable: the file `sync-failed`.
///
/// After such a failure the page cache may show bytes that the medium never got. The next start therefore verifies past
/// it before anything is counted as durable, and takes the mark away when it has come through. The file is empty; that
/// it is there is all it says. Where not even that can be written, the disk says so by itself at the next start.
enum SyncFailureMark {
    private static func path(in directory: String) -> String { "\(directory)/sync-failed" }

    /// Ends the process because nobody knows any longer what the disk holds.
    static func endProcess(_ error: any Error, in directory: String, logger: Logger) -> Never {
        logger.critical(
            "stopping: what the disk holds is unknown; the next start verifies it",
            metadata: .of([.error: "\(error)"])
        )
        let disk = PosixDisk()
        do {
            _ = try disk.open(path(in: directory), .create)
            try disk.syncDirectory(directory)
        } catch {
            logger.error("the failure could not be noted", metadata: .of([.error: "\(error)"]))
        }
        ExitCode.diskFailure.endProcess()
    }

    /// Whether the last run ended that way.
    static func isSet(in directory: String, disk: any Disk) throws(DiskError) -> Bool {
        try disk.exists(path(in: directory))
    }

    /// Takes the mark away after a start that verified everything.
    static func clear(in directory: String, disk: any Disk) throws(DiskError) {
        try disk.remove(path(in: directory))
        try disk.syncDirectory(directory)
    }
}
