import FlotillaEnvironment
package import FlotillaModel
import FlotillaStorage

/// A look at every byte of the segments in a data directory, without a broker; it changes nothing.
///
/// What is only in the journal is not looked at: the journal checks itself whenever a broker starts.
package struct DirectoryVerification: Sendable {
    /// What was found of one replica.
    package struct Finding: Hashable, Sendable {
        /// The replica.
        package var group: GroupID
        /// Its directory.
        package var directory: String
        /// How many segments it has.
        package var segmentCount = 0
        /// How many entries are sound.
        package var entryCount = 0
        /// The bytes of their payloads.
        package var byteCount = 0
        /// The offset after its last record in a segment.
        package var logEndOffset = Offset.zero
        /// What is wrong, one sentence each.
        package var problems: [String] = []
    }

    private let directory: String
    private let disk = PosixDisk()

    /// Describes what to verify: the data directory of a broker.
    package init(directory: String) {
        self.directory = directory
    }

    /// The replicas there are, in a fixed order.
    ///
    /// - Throws: `DiskError` when the directory cannot be read.
    package func replicas() throws -> [GroupID] {
        try disk.list("\(directory)/partitions").compactMap { GroupID(directoryName: $0) }.sorted()
    }

    /// Verifies one replica; blocks.
    package func verify(_ group: GroupID) -> Finding {
        var finding = Finding(
            group: group,
            directory: "\(directory)/partitions/\(group)"
        )
        do throws(StorageError) {
            let report = try LogVerification(group: group, directory: directory, disk: disk)
                .perform()
            finding.segmentCount = report.segmentCount
            finding.entryCount = report.entryCount
            finding.byteCount = report.byteCount
            finding.logEndOffset = report.logEndOffset
            finding.problems = report.damage.map(\.description)
        } catch {
            finding.problems = [error.description]
        }
        return finding
    }
}
