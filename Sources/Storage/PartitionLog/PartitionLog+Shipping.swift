package import FlotillaEnvironment
package import FlotillaModel
import struct NIOCore.ByteBuffer

// A replica whose next entry this log no longer has is sent the sealed segments as they lie, and
// the `.state` behind them; the entries after it follow as entries.

/// Keeps segments that are being sent from being deleted, for a time.
struct ShipmentLease {
    var number: UInt64
    /// Entries from here on stay.
    var firstIndex: LogIndex
    var deadline: Instant
}

extension PartitionLog {
    /// How long segments stay for a shipment of which nothing was asked.
    package static let shipmentLease = Duration.seconds(60)
    /// How many shipments of one log there may be at once.
    package static let maximumShipmentCount = 8

    /// Begins to ship all sealed segments to a replica; they stay until the shipment ends, or
    /// nothing was asked of it for `shipmentLease`.
    ///
    /// - Parameters:
    ///   - index: the next entry that the replica needs; the shipment reaches at least this far.
    ///   - now: the time, for the lease.
    /// - Returns: the job that makes the shipment; nil when no sealed segment reaches that far, or
    ///   as many shipments as may be are under way.
    /// - Throws: `.damaged`: the segments have to be healed first.
    package func beginShipment(neededBy index: LogIndex, now: Instant) throws(StorageError)
        -> ShipmentPlan?
    {
        guard let active = segments.last, leases.count < Self.maximumShipmentCount,
            active.name.firstIndex > max(index, LogIndex(1))
        else { return nil }
        let sealed = segments.dropLast().drop { $0.endOffset <= logStartOffset }
        let first = sealed.first?.name ?? active.name
        if let damage = foundDamage.first(where: { Self.concerns($0, first, before: active.name) })
        {
            throw .damaged(damage)
        }
        let lease = ShipmentLease(
            number: nextLease,
            firstIndex: first.firstIndex,
            deadline: now + Self.shipmentLease
        )
        nextLease += 1
        leases.append(lease)
        return ShipmentPlan(
            disk: resources.disk,
            directory: directory,
            partition: group.partition,
            number: lease.number,
            end: active.name,
            segments: sealed.map { segment in
                ShipmentManifest.Segment(
                    name: segment.name,
                    entryCount: segment.extent.entryCount,
                    logByteCount: segment.extent.logByteCount,
                    controlByteCount: segment.extent.controlByteCount
                )
            }
        )
    }

    private static func concerns(
        _ damage: Damage,
        _ first: SegmentName,
        before end: SegmentName
    ) -> Bool {
        if let indexes = damage.indexes {
            return indexes.upperBound >= first.firstIndex && indexes.lowerBound < end.firstIndex
        }
        guard let file = damage.segmentFile else { return false }
        return file.kind == .state
            ? file.name == end : file.name >= first && file.name < end
    }

    /// Something was asked of a shipment, so its segments stay longer.
    ///
    /// - Returns: false when the lease has run out: the shipment is to be given up.
    package func renewShipment(_ number: UInt64, now: Instant) -> Bool {
        guard let place = leases.firstIndex(where: { $0.number == number }),
            leases[place].deadline > now
        else { return false }
        leases[place].deadline = now + Self.shipmentLease
        return true
    }

    /// A shipment has arrived: the entries behind it stay for another lease, so that they can follow as entries.
    package func narrowShipment(_ number: UInt64, to index: LogIndex, now: Instant) {
        guard let place = leases.firstIndex(where: { $0.number == number }) else { return }
        leases[place].firstIndex = max(leases[place].firstIndex, index)
        leases[place].deadline = now + Self.shipmentLease
    }

    /// A shipment is done with, or given up.
    package func endShipment(_ number: UInt64) {
        leases.removeAll { $0.number == number }
    }

    /// Ends the leases that have run out; called before `nextRemoval(keepingFrom:)`.
    package func expireShipments(now: Instant) {
        leases.removeAll { $0.deadline <= now }
    }

    /// Gives up the open files.
    package func close() {
        precondition(!isBusy, "a log is closed when nothing is under way")
        segments.forEach(resources.segments.drop)
    }

    /// Ends a log whose place a shipped one takes: nothing is written, repaired or looked at any more.
    package func retire() {
        close()
        isRetired = true
    }
}

extension Damage {
    /// The file, where it is a segment's.
    var segmentFile: SegmentFileName? {
        file.split(separator: "/").last.flatMap { SegmentFileName(String($0)) }
    }
}

/// Looks at what is to be shipped; the segments stay while the lease lasts.
package struct ShipmentPlan: Sendable {
    let disk: any Disk
    let directory: String
    let partition: TopicPartition
    /// The shipment's number at its log.
    package let number: UInt64
    let end: SegmentName
    let segments: [ShipmentManifest.Segment]

    /// Does the work; blocks.
    ///
    /// - Returns: the shipment; `.damaged` when the `.state` behind the segments is not readable.
    package func perform() -> Result<Shipment, StorageError> {
        do throws(StorageError) {
            return .success(try shipment())
        } catch {
            return .failure(error)
        }
    }

    private func shipment() throws(StorageError) -> Shipment {
        let path = "\(directory)/\(end.fileName(.state))"
        let found: (state: LogState, byteCount: Int)?
        do {
            found = try readState(path)
        } catch {
            throw .disk(error)
        }
        guard let (state, byteCount) = found else {
            throw .damaged(
                Damage(indexes: nil, offsets: nil, file: path, position: 0, reason: .state)
            )
        }
        return Shipment(
            number: number,
            manifest: ShipmentManifest(
                position: LogPosition(term: state.mark.term, index: state.mark.index),
                checksum: state.mark.checksum,
                endOffset: state.mark.endOffset,
                stateByteCount: byteCount,
                segments: segments
            ),
            disk: disk,
            directory: directory
        )
    }

    /// The state and the length of its file; nil when it is lost or not readable.
    private func readState(_ path: String) throws(DiskError) -> (state: LogState, byteCount: Int)? {
        do {
            let read = try LogState.read(end, of: partition, in: directory, on: disk)
            guard case .success(let state) = read else { return nil }
            return (state, Int(try disk.open(path, .read).byteCount()))
        } catch .notFound {
            return nil
        } catch {
            throw error
        }
    }
}

/// Files on their way to another replica: what they are, and how they are read.
package struct Shipment: Sendable {
    /// The shipment's number at its log, for `renewShipment` and `endShipment`.
    package let number: UInt64
    /// What the receiver has to know before the first chunk.
    package let manifest: ShipmentManifest
    let disk: any Disk
    let directory: String

    /// The job that reads a chunk.
    ///
    /// - Parameters:
    ///   - place: from the manifest: `start`, and then `place(after:)` each chunk.
    ///   - maxByteCount: the chunk's length, unless the file ends before.
    /// - Returns: the job.
    package func read(at place: ShipmentPlace, maxByteCount: Int) -> ShipmentRead {
        let file = manifest.files[place.file]
        return ShipmentRead(
            disk: disk,
            path: "\(directory)/\(file.name.fileName(file.kind))",
            place: place,
            byteCount: min(maxByteCount, file.byteCount - place.position)
        )
    }
}

/// Reads a chunk of a shipment.
package struct ShipmentRead: Sendable {
    let disk: any Disk
    let path: String
    let place: ShipmentPlace
    let byteCount: Int

    /// Does the work; blocks.
    ///
    /// - Returns: the chunk; `.disk` when the file is gone or too short, and then the shipment is to
    ///   be given up.
    package func perform() -> Result<ShipmentChunk, StorageError> {
        do throws(DiskError) {
            let file = try disk.open(path, .read)
            let bytes = try file.read(at: Int64(place.position), count: byteCount)
            guard bytes.readableBytes == byteCount else {
                throw .failed(operation: "read", path: path, errno: 0)
            }
            return .success(ShipmentChunk(place: place, bytes: bytes))
        } catch {
            return .failure(.disk(error))
        }
    }
}
