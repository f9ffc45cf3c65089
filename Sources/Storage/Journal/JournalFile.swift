import FlotillaEnvironment

import struct NIOCore.ByteBuffer

/// One file of the journal and its place in the file's present life.
///
/// Files are named by slot and stay under their name; which comes after which is told by the
/// generation in their header and in every round.
final class JournalFile {
    static let nameSuffix = ".journal"

    let file: any DiskFile
    let slot: Int
    /// The file's present use; 0 when it has none yet.
    var generation: UInt64
    var byteCount: Int
    /// Where the next round goes.
    var writePosition = JournalLayout.firstRoundPosition
    /// Up to where blocks were written once, so that a sync there need not tell the file system
    /// about new extents.
    var zeroedByteCount: Int

    init(file: any DiskFile, slot: Int, generation: UInt64, byteCount: Int, zeroedByteCount: Int) {
        self.file = file
        self.slot = slot
        self.generation = generation
        self.byteCount = byteCount
        self.zeroedByteCount = zeroedByteCount
    }

    /// `00000012.journal`.
    static func name(slot: Int) -> String {
        let digits = String(slot)
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + nameSuffix
    }

    /// The slot that a directory entry stands for; nil for anything that is not a journal file.
    static func slot(ofName name: String) -> Int? {
        guard name.hasSuffix(nameSuffix), let slot = Int(name.dropLast(nameSuffix.count)), slot >= 0
        else {
            return nil
        }
        return Self.name(slot: slot) == name ? slot : nil
    }
}
