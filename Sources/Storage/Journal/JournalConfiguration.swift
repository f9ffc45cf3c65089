/// Sizes and limits of a journal, in bytes.
package struct JournalConfiguration: Hashable, Sendable {
    /// The sizes that `fileByteCount` may have.
    package static let fileByteCounts = 1 << 20...1 << 30

    /// The size of a journal file (`journal.file.bytes`); a file grows beyond it only for a round
    /// that needs more.
    package var fileByteCount = 64 << 20

    /// How much of the journal may wait for its segments (`journal.live.bytes`); at least four
    /// files.
    ///
    /// The journal itself never refuses: at the limit (`Journal.isAtCap`) the shards refuse entries
    /// before they are queued, so votes, start offsets and entries that are copied forward still
    /// pass.
    package var liveByteLimit = 512 << 20

    /// How much may wait before the groups of the oldest file are asked for a checkpoint.
    package var demandByteCount = 128 << 20

    /// A group that has no more than this waiting is copied forward instead of being asked for a
    /// checkpoint.
    package var copyForwardByteCount = 64 << 10

    /// A round takes submissions until it is this large; a single larger submission still is one
    /// round.
    package var roundByteCount = 8 << 20

    /// How much `Journal.prepareSpare()` writes in one step, so that a round never waits for more.
    package var stepByteCount = 4 << 20

    /// The defaults.
    package init() {}

    /// The defaults for files of another size: a checkpoint is due after two files.
    package init(fileByteCount: Int, liveByteLimit: Int) {
        precondition(
            Self.fileByteCounts.contains(fileByteCount),
            "a journal file has 1 MiB to 1 GiB"
        )
        precondition(
            liveByteLimit >= 4 * fileByteCount,
            "the journal's limit is at least four of its files"
        )
        self.fileByteCount = fileByteCount
        self.liveByteLimit = liveByteLimit
        demandByteCount = 2 * fileByteCount
    }
}
