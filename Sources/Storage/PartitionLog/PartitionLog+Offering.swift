package import FlotillaEnvironment
import FlotillaModel
package import struct NIOCore.ByteBuffer

// What a log says of its damage for those who heal it, and what it gives to heal another replica's.

extension PartitionLog {
    /// Whether damage lies in a segment, so that `nextRepair(of:with:)` can heal it sooner or later.
    package func liesInSegment(_ damage: Damage) -> Bool {
        segmentPlace(of: damage) != nil
    }

    /// The name of a damaged `.state` that a peer should have as well; nil for other damage, and for
    /// a checkpoint, which each replica writes at a time of its own.
    package func segmentState(of damage: Damage) -> SegmentName? {
        guard damage.reason == .state, let name = damage.segmentFile?.name,
            segments.contains(where: { $0.name == name })
        else { return nil }
        return name
    }

    /// Reads a `.state` for another replica; nil where no segment of this log begins there.
    package func stateReading(_ name: SegmentName) -> StateReading? {
        guard segments.contains(where: { $0.name == name }) else { return nil }
        return StateReading(
            disk: resources.disk,
            directory: directory,
            partition: group.partition,
            name: name
        )
    }
}

/// Reads a `.state` file and makes sure of it.
package struct StateReading: Sendable {
    let disk: any Disk
    let directory: String
    let partition: TopicPartition
    let name: SegmentName

    /// Does the work; blocks.
    ///
    /// - Returns: the file's bytes; nil for one that is damaged, and for one that is not there.
    package func perform() -> Result<ByteBuffer?, DiskError> {
        do throws(DiskError) {
            let found = try LogState.read(name, of: partition, in: directory, on: disk)
            // The content is canonical: what was read writes the same bytes.
            return .success((try? found.get())?.bytes(of: partition))
        } catch .notFound {
            return .success(nil)
        } catch {
            return .failure(error)
        }
    }
}
