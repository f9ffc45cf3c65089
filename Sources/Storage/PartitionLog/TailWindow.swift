import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// An entry in memory.
struct TailEntry {
    /// Where the payload is.
    enum Payload {
        /// Copied into a chunk of the shard's ring, head and body side by side.
        case chunk(TailChunk, position: Int)
        /// As it came: a head of its own and a slice of what was received.
        case entry(LogEntry)
    }

    var frame: Frame
    /// The largest timestamp of the entry's records; `.none` for kinds other than data.
    var maximumTimestamp: Timestamp
    var payload: Payload

    /// Frame and payload as the journal and followers take them.
    var entry: LogEntry {
        switch payload {
        case .entry(let entry):
            return entry
        case .chunk(let chunk, let position):
            do {
                return try LogEntry(
                    frame: frame,
                    payload: chunk.slice(position..<position + frame.payloadByteCount)
                )
            } catch {
                preconditionFailure("an entry in memory is what was appended: \(error)")
            }
        }
    }
}

/// The entries of one log that are in memory: always all that is not in segments, and as much
/// before that as the budget lets.
///
/// Dense and in order. Entries leave at the front when the budget evicts them, at the back by
/// truncation.
final class TailWindow {
    private var entries: [TailEntry] = []
    /// Entries before this position are gone; the array is compacted when half of it is.
    private var head = 0
    /// The index of the first entry in memory.
    private(set) var firstIndex: LogIndex
    /// Entries up to here may be evicted: segments have them.
    var writtenIndex: LogIndex

    /// An empty window behind `lastIndex`.
    init(lastIndex: LogIndex) {
        firstIndex = lastIndex.next
        writtenIndex = lastIndex
    }

    /// The index after the last entry in memory.
    var endIndex: LogIndex {
        firstIndex + UInt64(entries.count - head)
    }

    var isEmpty: Bool {
        head == entries.count
    }

    /// Whether the entry is in memory.
    func contains(_ index: LogIndex) -> Bool {
        index >= firstIndex && index < endIndex
    }

    subscript(index: LogIndex) -> TailEntry {
        entries[position(of: index)]
    }

    func append(_ entry: TailEntry) {
        precondition(entry.frame.index == endIndex, "the tail is dense")
        entries.append(entry)
    }

    /// Drops the entries from `index` on.
    func truncate(from index: LogIndex) {
        precondition(index > writtenIndex, "what segments have is committed and stays")
        entries.removeSubrange(position(of: index)...)
    }

    /// Drops the entries up to and with `index`, if segments have them.
    func evict(through index: LogIndex) -> Bool {
        guard index <= writtenIndex || index < firstIndex else { return false }
        while firstIndex <= index, head < entries.count {
            entries[head].payload = .entry(Self.nothing)
            head += 1
            firstIndex = firstIndex.next
        }
        if head * 2 > entries.count {
            entries.removeFirst(head)
            head = 0
        }
        return true
    }

    /// Gives the entries that lie in `chunk` memory of their own; the number of bytes that then
    /// take.
    func moveOut(of chunk: TailChunk) -> Int {
        var byteCount = 0
        for position in head..<entries.count {
            guard case .chunk(let holder, let start) = entries[position].payload, holder === chunk
            else { continue }
            let frame = entries[position].frame
            var copy = ByteBuffer()
            copy.reserveCapacity(frame.payloadByteCount)
            copy.writeBytes(chunk.slice(start..<start + frame.payloadByteCount).readableBytesSpan)
            entries[position].payload = .entry(TailEntry.joined(frame, copy))
            byteCount += frame.entryByteCount
        }
        return byteCount
    }

    /// The first entry in memory whose end lies beyond `offset`; `endIndex` when there is none.
    func firstIndex(endingAfter offset: Offset) -> LogIndex {
        var low = head
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].frame.endOffset > offset { high = middle } else { low = middle + 1 }
        }
        return firstIndex + UInt64(low - head)
    }

    private func position(of index: LogIndex) -> Int {
        precondition(index >= firstIndex && index <= endIndex, "an entry is looked up where it is")
        return head + Int(index.rawValue - firstIndex.rawValue)
    }

    /// Stands in for payloads that were dropped, so that an evicted slot holds no memory.
    private static let nothing = LogEntry.control(
        .roll,
        payload: ByteBuffer(),
        index: LogIndex(1),
        term: .zero,
        nextOffset: .zero,
        appendTime: .none,
        previousChecksum: 0
    )
}

extension TailEntry {
    /// A checked payload joined with its frame.
    fileprivate static func joined(_ frame: Frame, _ payload: ByteBuffer) -> LogEntry {
        do {
            return try LogEntry(frame: frame, payload: payload)
        } catch {
            preconditionFailure("an entry in memory is what was appended: \(error)")
        }
    }
}

/// Gathers payloads, joining those that lie side by side in a chunk.
struct PayloadGatherer {
    private(set) var buffers: [ByteBuffer] = []
    private(set) var byteCount = 0
    private var chunk: TailChunk?
    private var range = 0..<0

    mutating func add(_ entry: TailEntry) {
        byteCount += entry.frame.payloadByteCount
        switch entry.payload {
        case .chunk(let chunk, let position):
            let end = position + entry.frame.payloadByteCount
            if self.chunk === chunk, range.upperBound == position {
                range = range.lowerBound..<end
            } else {
                flush()
                self.chunk = chunk
                range = position..<end
            }
        case .entry(let entry):
            flush()
            entry.appendPayloadParts(to: &buffers)
        }
    }

    /// The buffers of all payloads added so far, in order.
    mutating func finish() -> [ByteBuffer] {
        flush()
        return buffers
    }

    private mutating func flush() {
        if let chunk, !range.isEmpty { buffers.append(chunk.slice(range)) }
        chunk = nil
        range = 0..<0
    }
}
