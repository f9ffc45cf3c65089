import FlotillaEnvironment
package import FlotillaModel

/// The three files of a segment that entries are written to and read from.
final class SegmentFiles: Sendable {
    let log: any DiskFile
    let control: any DiskFile
    let frames: any DiskFile

    private init(log: any DiskFile, control: any DiskFile, frames: any DiskFile) {
        self.log = log
        self.control = control
        self.frames = frames
    }

    /// Opens all three, or makes them when `mode` says so.
    static func open(
        _ name: SegmentName,
        in directory: String,
        on disk: any Disk,
        _ mode: OpenMode
    ) throws(DiskError) -> SegmentFiles {
        SegmentFiles(
            log: try disk.open("\(directory)/\(name.fileName(.log))", mode),
            control: try disk.open("\(directory)/\(name.fileName(.control))", mode),
            frames: try disk.open("\(directory)/\(name.fileName(.frames))", mode)
        )
    }

    /// Makes the content of all three durable.
    func sync() throws(DiskError) {
        try log.sync()
        try control.sync()
        try frames.sync()
    }
}

/// A segment as its shard knows it: its name, how far it is filled, and what of it is open.
///
/// All segments of a log but the last are sealed. Confined to the shard of its log.
package final class Segment {
    /// The first entry's offset and index; also the files' names.
    package let name: SegmentName
    /// What is written and may be read.
    package internal(set) var extent: SegmentExtent
    /// The last written entry; what precedes the segment while it is empty.
    package internal(set) var lastMark: LogMark
    /// The open files; nil when they were never opened or were closed by the cache.
    var files: SegmentFiles?
    /// The mapped view, which may cover less than `extent` while the segment grows; nil likewise.
    var reader: SegmentReader?
    /// Whether something was written that is not synced, or a write is under way: such files stay
    /// open.
    var isDirty = false
    /// The rows whose batches may be served as they lie; outlasts the view.
    var verified: VerifiedRows
    /// How often its files were replaced: what was read of older ones counts no longer.
    var generation = 0
    /// When the segment was last used, in the cache's count.
    var lastUse: UInt64 = 0

    /// A segment of which `extent` was there before this process wrote to it.
    init(name: SegmentName, extent: SegmentExtent, lastMark: LogMark) {
        self.name = name
        self.extent = extent
        self.lastMark = lastMark
        verified = VerifiedRows(recoveredCount: extent.entryCount)
    }

    /// The index of the first entry that is not in the segment.
    package var endIndex: LogIndex {
        name.firstIndex + UInt64(extent.entryCount)
    }

    /// The Kafka offset after the segment's last record.
    package var endOffset: Offset {
        lastMark.endOffset
    }

    var isOpen: Bool {
        files != nil || reader != nil
    }
}

/// The open segments of a shard, closed in the order of their last use when there are too many.
///
/// The bound counts segments; each has up to three descriptors and three mappings. Segments with
/// unsynced content stay open beyond it: there is one such segment per partition that is written
/// to.
package final class SegmentCache {
    /// How many segments may be open.
    package let maximumOpenCount: Int
    private var open: [Segment] = []
    private var useCount: UInt64 = 0

    /// A cache with room for this many open segments.
    package init(maximumOpenCount: Int = 512) {
        precondition(maximumOpenCount > 0, "a shard may open at least one segment")
        self.maximumOpenCount = maximumOpenCount
    }

    /// How many segments are open now.
    package var openCount: Int {
        open.count
    }

    /// Notes that a segment was used, and closes others when there are too many.
    func touch(_ segment: Segment) {
        useCount += 1
        let isNew = segment.lastUse == 0
        segment.lastUse = useCount
        guard isNew else { return }
        open.append(segment)
        if open.count > maximumOpenCount { closeOldest(sparing: segment) }
    }

    /// Closes a segment that is about to go.
    func drop(_ segment: Segment) {
        guard segment.lastUse != 0 else { return }
        open.removeAll { $0 === segment }
        close(segment)
    }

    /// Closes an eighth at once, so that a full cache does not search at every use.
    private func closeOldest(sparing newest: Segment) {
        let target = maximumOpenCount - maximumOpenCount / 8
        open.sort { $0.lastUse < $1.lastUse }
        var excess = open.count - target
        open.removeAll { segment in
            guard excess > 0, !segment.isDirty, segment !== newest else { return false }
            excess -= 1
            close(segment)
            return true
        }
    }

    /// Readers that still hold the view keep the files open until they are done.
    private func close(_ segment: Segment) {
        segment.files = nil
        segment.reader = nil
        segment.lastUse = 0
    }
}
