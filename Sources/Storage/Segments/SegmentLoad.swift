import FlotillaEnvironment
import FlotillaModel

/// Opens, maps and reads a part of a segment into memory, so that a shard can read it without
/// blocking.
///
/// A log answers with one where it would have to wait: `perform()` runs on a worker, the result
/// goes to the log's `finish(_:)`, and the question is asked again with `afterLoad: true`.
package struct SegmentLoad: Sendable {
    /// What is about to be read.
    enum Target: Sendable {
        case offset(Offset)
        case index(LogIndex)
        case timestamp(Timestamp, from: Offset)
    }

    let disk: any Disk
    let directory: String
    let name: SegmentName
    let extent: SegmentExtent
    let endOffset: Offset
    let files: SegmentFiles?
    let reader: SegmentReader?
    let target: Target
    let byteCount: Int

    /// Does the work; blocks.
    package func perform() -> SegmentLoaded {
        do throws(DiskError) {
            let files = try openFiles()
            let reader = try openReader(files)
            try populate(reader)
            return SegmentLoaded(name: name, result: .success(reader))
        } catch {
            return SegmentLoaded(name: name, result: .failure(error))
        }
    }

    private func openFiles() throws(DiskError) -> SegmentFiles {
        if let files = files ?? reader?.files { return files }
        return try SegmentFiles.open(name, in: directory, on: disk, .read)
    }

    private func openReader(_ files: SegmentFiles) throws(DiskError) -> SegmentReader {
        if let reader, reader.extent == extent { return reader }
        return try SegmentReader(name: name, extent: extent, endOffset: endOffset, files: files)
    }

    private func populate(_ reader: SegmentReader) throws(DiskError) {
        switch target {
        case .timestamp(let timestamp, let offset):
            try populate(reader, timestamp, from: offset)
        case .index(let index):
            try reader.populate(
                from: Int(index.rawValue - name.firstIndex.rawValue),
                byteCount: byteCount
            )
        case .offset(let offset):
            try reader.populate(from: extent.entryCount, byteCount: 0)
            let row = reader.partitioningRow { $0.endOffset > offset }
            try reader.populate(from: row, byteCount: byteCount)
        }
    }

    /// A search that begins within the segment may look at every batch behind.
    private func populate(_ reader: SegmentReader, _ timestamp: Timestamp, from offset: Offset)
        throws(DiskError)
    {
        try reader.populate(from: extent.entryCount, byteCount: 0)
        if offset > name.baseOffset || byteCount > 0 {
            let first = reader.partitioningRow { $0.endOffset > offset }
            try reader.populate(from: first, byteCount: extent.logByteCount)
        } else {
            let found = reader.partitioningRow { $0.runningMaximum >= timestamp }
            try reader.populate(from: found, byteCount: 0)
        }
    }
}

/// What a load found.
package struct SegmentLoaded: Sendable {
    let name: SegmentName
    let result: Result<SegmentReader, DiskError>
}
