import FlotillaEnvironment

/// A recovery of this directory that has begun: the file `recovering.json`, which stops every start until it is complete.
///
/// | key | value |
/// |---|---|
/// | `from`, `to` | the cluster's id before and after |
/// | `isJournalLost` | whether the journal was gone when it began |
struct RecoveryMark: Codable, Hashable {
    var from: String
    var to: String
    var isJournalLost: Bool

    private static func path(in directory: String) -> String { "\(directory)/recovering.json" }

    /// The recovery that has begun here; nil for none.
    ///
    /// - Throws: `RecoveryError.damagedMark`, or what the disk says.
    static func read(in directory: String, disk: any Disk) throws -> RecoveryMark? {
        let path = path(in: directory)
        guard try disk.exists(path) else { return nil }
        guard let mark = try IdentityFile.read(Self.self, at: path, disk) else {
            throw RecoveryError.damagedMark(path: path)
        }
        return mark
    }

    /// Notes it durably.
    func write(in directory: String, disk: any Disk) throws {
        try IdentityFile.write(self, to: Self.path(in: directory), in: directory, disk)
    }

    /// Forgets it.
    static func clear(in directory: String, disk: any Disk) throws(DiskError) {
        try disk.remove(path(in: directory))
        try disk.syncDirectory(directory)
    }
}

/// Why a directory cannot be recovered; each says what to do.
package enum RecoveryError: Error, Hashable, CustomStringConvertible {
    /// There is no broker in it.
    case noBroker(directory: String)
    /// It belongs to no cluster yet, and nothing was ever acknowledged.
    case noCluster(directory: String)
    /// It belongs to another cluster than was typed.
    case otherCluster(found: String, typed: String)
    /// The note of a recovery that has begun cannot be read.
    case damagedMark(path: String)
    /// The journal took not all of it.
    case incomplete(String)

    /// The reason as a sentence.
    package var description: String {
        switch self {
        case .noBroker(let directory):
            "\(directory): no broker's data directory; name that of the broker that is left"
        case .noCluster(let directory):
            "\(directory): this broker never came into a cluster; there is nothing to recover"
        case .otherCluster(let found, let typed):
            "this is a broker of cluster \(found), not of \(typed); nothing was changed"
        case .damagedMark(let path):
            "\(path): cannot be read; remove it and recover again"
        case .incomplete(let reason):
            "the journal did not take it all: \(reason); make room and recover again"
        }
    }
}
