/// What a journal did since it was opened.
package struct JournalStatistics: Hashable, Sendable {
    /// Rounds written, sealing ones included.
    package internal(set) var roundCount = 0
    /// Sealing rounds among them.
    package internal(set) var sealCount = 0
    /// Bytes written in rounds, padding included.
    package internal(set) var byteCount = 0
    /// Files that were made.
    package internal(set) var createdFileCount = 0
    /// Files that began another life.
    package internal(set) var recycledFileCount = 0
    /// Rounds that had to make a file ready because no spare was.
    package internal(set) var waitedForFileCount = 0
    /// Torn tails that were cut when the journal was opened: 0 or 1.
    package internal(set) var tornTailCount = 0
    /// Damaged places found when the journal was opened.
    package internal(set) var damageCount = 0

    mutating func note(round: JournalRoundHeader) {
        roundCount += 1
        sealCount += round.shape.recordCount == 0 ? 1 : 0
        byteCount += round.shape.roundByteCount
    }
}
