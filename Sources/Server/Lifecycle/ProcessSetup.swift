import CFlotilla
import Glibc

/// What this process asks of the system before it serves.
package enum ProcessSetup {
    /// Blocks up to this size stay with malloc instead of being mapped and unmapped one by one.
    private static let mapThreshold: Int32 = 32 << 20
    /// Free memory at the heap's end is given back only beyond this.
    private static let trimThreshold: Int32 = 256 << 20

    /// Raises limits and tunes memory; called once, before any thread starts.
    ///
    /// - Returns: how many files and sockets may be open.
    package static func prepare() -> Int {
        // A peer that went away is an error of the write, not the end of the process.
        _ = signal(SIGPIPE, SIG_IGN)
        _ = flotilla_keep_freed_memory(mapThreshold, trimThreshold)
        let limit = flotilla_raise_descriptor_limit()
        // Who may not raise it still has what it was.
        return limit > 0 ? Int(clamping: limit) : 1024
    }

    /// Connections that fit beside the files: an eighth of the descriptors, at least 128, is kept
    /// for segments.
    package static func connectionLimit(asked: Int, descriptorLimit: Int) -> Int {
        min(asked, max(16, descriptorLimit - max(128, descriptorLimit / 8)))
    }

    /// Threads for blocking work: twice the cores, at least 4.
    package static func workerCount(coreCount: Int) -> Int {
        max(4, 2 * coreCount)
    }
}

/// With what code the process ends; supervisors and scripts read it.
package enum ExitCode: Int32, Sendable {
    /// A clean stop.
    case success = 0
    /// It could not start or go on.
    case failure = 1
    /// A wrong flag or setting.
    case usage = 2
    /// The disk failed to keep what it had accepted (`EX_IOERR`). Not to be restarted by itself:
    /// the next start reads past the page cache before it votes.
    case diskFailure = 74

    /// The cluster has removed this broker (`EX_NOUSER`). Not to be restarted by itself: the next start ends in the same way.
    case removed = 67

    /// Ends the process at once: no buffers are flushed, no destructors run, nothing more is
    /// acknowledged.
    package func endProcess() -> Never {
        _exit(rawValue)
    }
}
