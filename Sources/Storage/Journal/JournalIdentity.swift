import FlotillaEnvironment
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// The identity of a directory: 16 random bytes, made once.
package struct DirectoryID: Hashable, Sendable, CustomStringConvertible {
    /// The first eight bytes.
    package var high: UInt64
    /// The last eight bytes.
    package var low: UInt64

    /// Builds an id from random bits.
    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// 32 hexadecimal digits.
    package var description: String {
        func digits(_ half: UInt64) -> String {
            let text = String(half, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return digits(high) + digits(low)
    }
}

/// Where a journal and the data that depends on it lie.
package struct JournalDirectories: Hashable, Sendable {
    /// The journal's directory; it may be on a device of its own.
    package var journal: String
    /// The directory of the partitions.
    package var data: String

    /// Names the two directories.
    package init(journal: String, data: String) {
        self.journal = journal
        self.data = data
    }
}

/// Which journal and which data directory belong together: the content of `journal.id` in both of
/// them.
///
/// 64 bytes, little endian:
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotIdn\n` |
/// | 8-9 | version |
/// | 10-15 | zero |
/// | 16-31 | the journal's id |
/// | 32-47 | the data directory's id |
/// | 48-59 | zero |
/// | 60-63 | CRC32C over bytes 0-59 |
package struct JournalIdentity: Hashable, Sendable {
    static let byteCount = 64
    static let magic: UInt64 = 0x0A6E_6449_746F_6C46
    static let fileName = "journal.id"

    /// The journal's id.
    package var journal: DirectoryID
    /// The data directory's id.
    package var data: DirectoryID

    /// What marks every round as this journal's.
    var key: UInt64 {
        journal.high ^ (journal.low << 32 | journal.low >> 32)
    }

    func encoded() -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(Self.magic, endianness: .little)
        buffer.writeInteger(JournalLayout.version, endianness: .little)
        buffer.writeRepeatingByte(0, count: 6)
        buffer.writeIdentity(self)
        buffer.writeRepeatingByte(0, count: 12)
        buffer.writeInteger(CRC32C.checksum(buffer), endianness: .little)
        return buffer
    }

    /// Reads a file's content; nil when it is damaged, `.unsupportedVersion` when another version
    /// wrote it.
    init?(content: ByteBuffer, file: String) throws(StorageError) {
        guard
            content.readableBytes == Self.byteCount, content.journalWord(at: 0) == Self.magic,
            content.journalChecksumHolds(at: 0, count: Self.byteCount)
        else {
            return nil
        }
        try JournalFormat.checkVersion(content.journalHalf(at: 8), of: file)
        self = content.journalIdentity(at: 16)
    }

    init(journal: DirectoryID, data: DirectoryID) {
        self.journal = journal
        self.data = data
    }
}

/// Reads, compares and writes the two `journal.id`.
struct JournalIdentityFiles {
    /// What one directory says.
    private enum Finding {
        case absent
        case damaged
        case found(JournalIdentity)
    }

    let directories: JournalDirectories
    let disk: any Disk

    /// The pair's identity, made and written when both directories are new.
    ///
    /// The journal's copy is written first, and journal files come only after both: a crash between
    /// leaves a journal without files, which is as good as none.
    ///
    /// `hasJournalFiles`: whether the journal's directory holds files of a journal.
    ///
    /// - Throws: `.journalMissing`, `.journalForeign`, `.identityDamaged`, `.unsupportedVersion`, `.disk`.
    func resolve(
        hasJournalFiles: Bool,
        newIdentity: () -> DirectoryID
    ) throws(StorageError) -> JournalIdentity {
        let data = try find(in: directories.data)
        let journal = try find(in: directories.journal)
        switch (journal, data) {
        case (.found(let journal), .found(let data)):
            guard journal == data else {
                throw .journalForeign(
                    directory: directories.journal,
                    expected: "\(data.journal) (data \(data.data))",
                    found: "\(journal.journal) (data \(journal.data))"
                )
            }
            return journal
        case (.absent, .found(let data)):
            throw .journalMissing(directory: directories.journal, expected: "\(data.journal)")
        case (.found(let journal), .absent):
            guard !hasJournalFiles else {
                throw .journalForeign(
                    directory: directories.journal,
                    expected: "a new data directory",
                    found: "data \(journal.data)"
                )
            }
            try write(journal, in: directories.data)
            return journal
        case (.damaged, .found(let identity)):
            try write(identity, in: directories.journal)
            return identity
        case (.found(let identity), .damaged):
            try write(identity, in: directories.data)
            return identity
        case (.damaged, _), (_, .damaged):
            throw .identityDamaged(file: path(in: directories.journal))
        case (.absent, .absent):
            guard !hasJournalFiles else {
                throw .journalForeign(
                    directory: directories.journal,
                    expected: "a new data directory",
                    found: "a journal without a name"
                )
            }
            return try create(newIdentity: newIdentity)
        }
    }

    /// Compares the two, as `resolve` does for directories that are not new, and writes nothing.
    func check() throws(StorageError) {
        let data = try find(in: directories.data)
        switch (try find(in: directories.journal), data) {
        case (.found(let journal), .found(let data)):
            guard journal != data else { return }
            throw .journalForeign(
                directory: directories.journal,
                expected: "\(data.journal) (data \(data.data))",
                found: "\(journal.journal) (data \(journal.data))"
            )
        case (.absent, .found(let data)):
            throw .journalMissing(directory: directories.journal, expected: "\(data.journal)")
        case (.absent, .absent):
            throw .journalMissing(directory: directories.journal, expected: "without a name")
        case (.damaged, .found), (.found, .damaged), (.found, .absent):
            return
        case (.damaged, .damaged), (.damaged, .absent), (.absent, .damaged):
            throw .identityDamaged(file: path(in: directories.journal))
        }
    }

    /// Makes a new pair, replacing what was there.
    func create(newIdentity: () -> DirectoryID) throws(StorageError) -> JournalIdentity {
        let identity = JournalIdentity(journal: newIdentity(), data: newIdentity())
        try write(identity, in: directories.journal)
        try write(identity, in: directories.data)
        return identity
    }

    private func path(in directory: String) -> String {
        directory + "/" + JournalIdentity.fileName
    }

    private func find(in directory: String) throws(StorageError) -> Finding {
        let path = path(in: directory)
        let content: ByteBuffer
        do {
            content = try disk.open(path, .read).read(at: 0, count: JournalIdentity.byteCount + 1)
        } catch {
            guard case .notFound = error else {
                throw .disk(error)
            }
            return .absent
        }
        guard let identity = try JournalIdentity(content: content, file: path) else {
            return .damaged
        }
        return .found(identity)
    }

    private func write(_ identity: JournalIdentity, in directory: String) throws(StorageError) {
        let path = path(in: directory)
        do {
            try disk.createLastingDirectory(directory)
            let file = try disk.open(path + ".new", .create)
            try file.truncate(to: 0)
            try file.write([identity.encoded()], at: 0)
            try file.sync()
            try disk.rename(path + ".new", to: path)
            try disk.syncDirectory(directory)
        } catch {
            throw .disk(error)
        }
    }
}

extension ByteBuffer {
    mutating func writeIdentity(_ identity: JournalIdentity) {
        for id in [identity.journal, identity.data] {
            writeInteger(id.high, endianness: .little)
            writeInteger(id.low, endianness: .little)
        }
    }

    func journalIdentity(at index: Int) -> JournalIdentity {
        JournalIdentity(
            journal: DirectoryID(high: journalWord(at: index), low: journalWord(at: index + 8)),
            data: DirectoryID(high: journalWord(at: index + 16), low: journalWord(at: index + 24))
        )
    }
}
