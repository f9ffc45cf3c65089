import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Bounds the memory of recent entries over all logs of a shard, and owns the ring of chunks that
/// small ones are copied to.
///
/// What came first goes first, whichever log it belongs to, as soon as segments have it. The count
/// is of bytes *pinned*: a chunk counts whole, and a slice of a receive block counts the block.
/// Entries that segments do not have yet cannot go; their bound is the journal's cap on unsegmented
/// bytes.
package final class TailBudget {
    /// The bytes that recent entries of the shard may pin.
    package let byteCount: Int
    /// The bytes that they pin now.
    package private(set) var pinnedByteCount = 0

    /// Payloads of this size and more are kept as they came; smaller ones are copied, so that they
    /// do not pin a receive block.
    package static let copyLimit = 16 << 10

    /// How many pins one call looks at: work per append stays bounded when a slow disk holds many
    /// of them.
    static let maximumExaminedCount = 64

    private enum Pin {
        case chunk(TailChunk)
        case entry(window: TailWindow, index: LogIndex, byteCount: Int)
    }

    private var pins: [Pin] = []
    private var head = 0
    private var current: TailChunk?
    /// The block that the last large entry lies in; forgotten when something is released, since
    /// blocks are reused.
    private var lastBlock: ObjectIdentifier?

    /// A budget of this many bytes.
    package init(byteCount: Int) {
        precondition(byteCount >= 0, "a budget is not negative")
        self.byteCount = byteCount
    }

    /// Takes an entry in: small payloads into the ring, others as they are.
    func admit(_ entry: LogEntry, to window: TailWindow) {
        let maximum = entry.frame.kind == .data ? maximumTimestamp(of: entry) : .none
        let payload: TailEntry.Payload
        if entry.payloadByteCount < Self.copyLimit {
            let chunk = chunk(withRoomFor: entry.payloadByteCount)
            let position = chunk.append(
                head: entry.head,
                body: entry.body,
                index: entry.frame.index,
                of: window
            )
            payload = .chunk(chunk, position: position)
        } else {
            let byteCount = newlyPinnedByteCount(by: entry)
            pin(
                .entry(window: window, index: entry.frame.index, byteCount: byteCount),
                byteCount: byteCount
            )
            payload = .entry(entry)
        }
        window.append(TailEntry(frame: entry.frame, maximumTimestamp: maximum, payload: payload))
    }

    /// Evicts from the oldest on until the budget holds, or what is left has to stay.
    func trim() {
        var examinedCount = 0
        while pinnedByteCount > byteCount, head < pins.count,
            examinedCount < Self.maximumExaminedCount
        {
            release(pins[head])
            head += 1
            examinedCount += 1
        }
        if head * 2 > pins.count {
            pins.removeFirst(head)
            head = 0
        }
    }

    private func release(_ pin: Pin) {
        lastBlock = nil
        switch pin {
        case .entry(let window, let index, let byteCount):
            if window.evict(through: index) {
                pinnedByteCount -= byteCount
            } else {
                pins.append(pin)
            }
        case .chunk(let chunk):
            if chunk === current { current = nil }
            pinnedByteCount -= TailChunk.byteCapacity
            for holder in chunk.holders where !holder.window.evict(through: holder.lastIndex) {
                _ = holder.window.evict(through: holder.window.writtenIndex)
                let byteCount = holder.window.moveOut(of: chunk)
                guard byteCount > 0 else { continue }
                self.pin(
                    .entry(window: holder.window, index: holder.lastIndex, byteCount: byteCount),
                    byteCount: byteCount
                )
            }
        }
    }

    private func chunk(withRoomFor byteCount: Int) -> TailChunk {
        if let current, current.hasRoom(for: byteCount) { return current }
        let chunk = TailChunk()
        current = chunk
        pin(.chunk(chunk), byteCount: TailChunk.byteCapacity)
        return chunk
    }

    private func pin(_ pin: Pin, byteCount: Int) {
        pins.append(pin)
        pinnedByteCount += byteCount
    }

    /// The whole block that a payload is a slice of, unless the entry before pinned it already.
    private func newlyPinnedByteCount(by entry: LogEntry) -> Int {
        // Safe: only the block's identity is taken, and compared while its first entry is still
        // pinned.
        let block = unsafe entry.body.withVeryUnsafeBytesWithStorageManagement { _, storage in
            unsafe ObjectIdentifier(storage.takeUnretainedValue())
        }
        defer { lastBlock = block }
        return Frame.byteCount + (block == lastBlock ? 0 : entry.body.storageCapacity)
    }

    private func maximumTimestamp(of entry: LogEntry) -> Timestamp {
        let body = entry.body.readableBytesSpan
        return Timestamp(body.bigEndian(Int64.self, at: Self.maximumTimestampPosition))
    }

    /// Bytes 35 to 42 of a batch, counted from byte 21.
    private static let maximumTimestampPosition = 35 - Frame.batchHeadByteCount
}
