import FlotillaEnvironment
import FlotillaModel

/// Opens, maps and reads a part of a segment into memory, so that a shard can read it without
/// blocking; and verifies what lay there when the process started.
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
    let generation: Int
    let extent: SegmentExtent
    let endOffset: Offset
    let files: SegmentFiles?
    let reader: SegmentReader?
    /// What need not be verified any more.
    let verified: VerifiedRows
    let target: Target
    let byteCount: Int

    /// Does the work; blocks.
    package func perform() -> SegmentLoaded {
        do throws(DiskError) {
            let files = try openFiles()
            let reader = try openReader(files)
            let stretch = try populate(reader)
            return loaded(.success(reader), stretch)
        } catch {
            return loaded(.failure(error), VerifiedStretch())
        }
    }

    private func loaded(
        _ result: Result<SegmentReader, DiskError>,
        _ stretch: VerifiedStretch
    ) -> SegmentLoaded {
        SegmentLoaded(name: name, generation: generation, result: result, stretch: stretch)
    }

    private func openFiles() throws(DiskError) -> SegmentFiles {
        if let files = files ?? reader?.files { return files }
        return try SegmentFiles.open(name, in: directory, on: disk, .read)
    }

    private func openReader(_ files: SegmentFiles) throws(DiskError) -> SegmentReader {
        if let reader, reader.extent == extent { return reader }
        return try SegmentReader(name: name, extent: extent, endOffset: endOffset, files: files)
    }

    private func populate(_ reader: SegmentReader) throws(DiskError) -> VerifiedStretch {
        switch target {
        case .timestamp(let timestamp, let offset):
            return try populate(reader, timestamp, from: offset)
        case .index(let index):
            let row = Int(index.rawValue - name.firstIndex.rawValue)
            return try populate(reader, from: row, byteCount: byteCount, ahead: Self.step)
        case .offset(let offset):
            try reader.populate(from: extent.entryCount, byteCount: 0)
            let row = reader.partitioningRow { $0.endOffset > offset }
            return try populate(reader, from: row, byteCount: byteCount, ahead: Self.step)
        }
    }

    /// A search that begins within the segment may look at every batch behind.
    private func populate(_ reader: SegmentReader, _ timestamp: Timestamp, from offset: Offset)
        throws(DiskError) -> VerifiedStretch
    {
        try reader.populate(from: extent.entryCount, byteCount: 0)
        if offset > name.baseOffset || byteCount > 0 {
            let first = reader.partitioningRow { $0.endOffset > offset }
            return try populate(reader, from: first, byteCount: extent.logByteCount, ahead: 0)
        }
        let found = reader.partitioningRow { $0.runningMaximum >= timestamp }
        return try populate(reader, from: found, byteCount: 0, ahead: 0)
    }

    /// Reads rows and payloads into memory, and verifies of them what was not verified yet.
    ///
    /// `ahead`: how much is worth verifying at once, even if less is asked for.
    private func populate(
        _ reader: SegmentReader,
        from row: Int,
        byteCount: Int,
        ahead: Int
    ) throws(DiskError) -> VerifiedStretch {
        let isTrusted = row >= verified.trustedStart
        let byteCount = isTrusted ? byteCount : max(byteCount, ahead)
        try reader.populate(from: row, byteCount: byteCount)
        guard !isTrusted, row < reader.rowCount else { return VerifiedStretch() }
        let range = reader.logRange(from: row, byteCount: byteCount)
        return reader.verify(from: row, within: range, except: verified)
    }

    /// Small reads that follow one another would otherwise each wait for a worker.
    private static let step = 1 << 20
}

/// What a load found.
package struct SegmentLoaded: Sendable {
    let name: SegmentName
    let generation: Int
    let result: Result<SegmentReader, DiskError>
    let stretch: VerifiedStretch
}
