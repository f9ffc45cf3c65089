package import FlotillaEnvironment
package import FlotillaModel
package import FlotillaRaft
import struct NIOCore.ByteBuffer

// Received files become a log in steps, so that at every instant the replica has its old log or the
// new one, whole:
//
//   <replica>.receiving    chunks are written here; thrown away at a start
//   <replica>.install      the same directory, complete, verified and durable: it is the log now
//   <replica>              the old log; removed, and then the new one gets its name
//
// The first rename decides. Whatever a crash leaves undone after it is done at the next start.

/// Receives a leader's files beside a replica's directory, verifies them, and puts them in the old
/// log's place.
///
/// Confined to the replica's shard. Chunks are taken in the shipment's order, each by a job whose
/// result comes back to `finish(_:)`; then `nextCheck()` verifies a segment at a time; then
/// `install()` makes them the log.
package final class ReplicaStaging {
    /// The replica.
    package let group: GroupID
    /// What is received.
    package let manifest: ShipmentManifest
    /// The next chunk's place; nil when all are written.
    package private(set) var wanted: ShipmentPlace?
    /// Bytes that are written.
    package private(set) var receivedByteCount = 0

    private let disk: any Disk
    private let directory: String
    private let files: [ShipmentManifest.File]
    private var isWorking = false
    private var hasBegun = false
    private var check: StagingCheck.Progress?
    private var isRefused = false

    /// Begins to receive; no call to the disk.
    ///
    /// - Parameters:
    ///   - group: the replica.
    ///   - directory: the data directory.
    ///   - disk: where it lives.
    ///   - manifest: from the leader.
    package init(
        group: GroupID,
        directory: String,
        disk: any Disk,
        manifest: ShipmentManifest
    ) {
        self.group = group
        self.directory = PartitionLog.directory(of: group, in: directory)
        self.disk = disk
        self.manifest = manifest
        files = manifest.files
        wanted = manifest.start
    }

    /// Whether a job is under way; there is one at a time.
    package var isBusy: Bool {
        isWorking
    }

    // MARK: Receiving

    /// The job that writes the next chunk.
    ///
    /// - Throws: `.shipmentRefused` for a chunk that is not the next one, or is too long.
    package func take(_ chunk: ShipmentChunk) throws(StorageError) -> StagingWrite {
        precondition(!isWorking, "chunks are written one after the other")
        guard !isRefused, chunk.place == wanted,
            chunk.place.position + chunk.bytes.readableBytes <= files[chunk.place.file].byteCount
        else {
            isRefused = true
            throw .shipmentRefused(directory: directory, .unexpectedPlace)
        }
        isWorking = true
        let file = files[chunk.place.file]
        let isFirst = !hasBegun
        hasBegun = true
        return StagingWrite(
            disk: disk,
            directory: StagingPlace.receiving(directory),
            path: "\(StagingPlace.receiving(directory))/\(file.name.fileName(file.kind))",
            chunk: chunk,
            beginningWith: isFirst ? manifest.byteCount : nil
        )
    }

    /// Takes a write's result in.
    ///
    /// - Throws: `.shipmentRefused`, `.volumeFull`, `.disk`: the shipment is over, `discard()` it.
    package func finish(_ result: StagingWriteResult) throws(StorageError) {
        isWorking = false
        do {
            try result.outcome.get()
        } catch {
            isRefused = true
            throw error
        }
        receivedByteCount += result.chunk.bytes.readableBytes
        wanted = manifest.place(after: result.chunk)
        if wanted == nil { check = StagingCheck.Progress() }
    }

    // MARK: Verifying

    /// The job that verifies the next part and makes it durable; nil while chunks are wanted, and
    /// when all is verified.
    package func nextCheck() -> StagingCheck? {
        guard !isWorking, !isRefused, let check, !check.isFinished else { return nil }
        isWorking = true
        return StagingCheck(
            disk: disk,
            directory: StagingPlace.receiving(directory),
            partition: group.partition,
            manifest: manifest,
            progress: check
        )
    }

    /// Takes a check's result in.
    ///
    /// - Throws: `.shipmentRefused`, `.disk`: `discard()` what was received. `.syncFailed`: the
    ///   process must stop.
    package func finish(_ result: StagingCheckResult) throws(StorageError) {
        isWorking = false
        do {
            check = try result.outcome.get()
        } catch {
            isRefused = true
            throw error
        }
    }

    /// What the files end with, when all of them are verified and durable: what Raft is told.
    package var verified: (position: LogPosition, membership: Membership)? {
        guard let check, check.isFinished, let state = check.state else { return nil }
        return (manifest.position, state.membership.membership)
    }

    // MARK: The end

    /// The job that puts the verified files in the old log's place.
    ///
    /// The old `PartitionLog` is to be closed first. Performed again after an error, it goes on
    /// where it stopped. Then the journal gets a reset, and what rests on it may be acknowledged.
    package func install() -> StagingInstall {
        precondition(verified != nil, "only verified files become a log")
        return StagingInstall(disk: disk, directory: directory, group: group)
    }

    /// The job that throws away what was received.
    package func discard() -> StagingDiscard {
        StagingDiscard(disk: disk, directory: directory)
    }
}

/// The names of the directories beside a replica's.
enum StagingPlace {
    static let receivingSuffix = ".receiving"
    static let installSuffix = ".install"

    static func receiving(_ directory: String) -> String {
        directory + receivingSuffix
    }

    static func install(_ directory: String) -> String {
        directory + installSuffix
    }

    /// Does what a crash left undone: a log that was decided on gets its place, what was being
    /// received is thrown away.
    static func settle(_ directory: String, on disk: any Disk) throws(StorageError) {
        let install = install(directory)
        let receiving = receiving(directory)
        if try onDisk({ () throws(DiskError) in try disk.exists(install) }) {
            try onDisk { () throws(DiskError) in try disk.removeTree(directory) }
            try sync(parent(of: directory), on: disk)
            try onDisk { () throws(DiskError) in try disk.rename(install, to: directory) }
            try sync(parent(of: directory), on: disk)
        }
        if try onDisk({ () throws(DiskError) in try disk.exists(receiving) }) {
            try onDisk { () throws(DiskError) in try disk.removeTree(receiving) }
            try sync(parent(of: directory), on: disk)
        }
    }

    static func sync(_ directory: String, on disk: any Disk) throws(StorageError) {
        do {
            try disk.syncDirectory(directory)
        } catch {
            throw .syncFailed(error)
        }
    }
}

extension ReplicaStaging {
    /// Does for all replicas what a crash left undone; at the start, before directories are listed.
    ///
    /// `directory`: the data directory.
    ///
    /// - Throws: `.disk`; `.syncFailed`.
    package static func settleAll(in directory: String, on disk: any Disk) throws(StorageError) {
        let partitions = "\(directory)/partitions"
        let names: [String]
        do {
            guard try disk.exists(partitions) else { return }
            names = try disk.list(partitions)
        } catch {
            throw .disk(error)
        }
        for suffix in [StagingPlace.installSuffix, StagingPlace.receivingSuffix] {
            for name in names where name.hasSuffix(suffix) {
                try StagingPlace.settle(
                    "\(partitions)/\(name.dropLast(suffix.count))",
                    on: disk
                )
            }
        }
    }
}
