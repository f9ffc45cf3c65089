import FlotillaEnvironment
import struct NIOCore.ByteBuffer

/// A file's two contents: what reads see, and what survives.
final class MemoryNode {
    static let sector = 512

    private(set) var content = ByteBuffer()
    private(set) var durable = ByteBuffer()
    private var dirtySectors = SectorSet()

    func write(_ bytes: ByteBuffer, at position: Int) {
        guard bytes.readableBytes > 0 else {
            return
        }
        let end = position + bytes.readableBytes
        grow(to: position)
        content.setBuffer(bytes, at: position)
        if end > content.readableBytes { content.moveWriterIndex(to: end) }
        markDirty(position..<position + bytes.readableBytes)
    }

    func truncate(to byteCount: Int) {
        if byteCount < content.readableBytes {
            content.moveWriterIndex(to: byteCount)
            dirtySectors.remove(from: (byteCount + Self.sector - 1) / Self.sector)
        } else {
            grow(to: byteCount)
        }
    }

    func grow(to byteCount: Int) {
        let missing = byteCount - content.readableBytes
        if missing > 0 {
            markDirty(content.readableBytes..<byteCount)
            content.writeRepeatingByte(0, count: missing)
        }
    }

    private func markDirty(_ range: Range<Int>) {
        dirtySectors.insert(
            range.lowerBound / Self.sector..<(range.upperBound - 1) / Self.sector + 1
        )
    }

    func sync() {
        setDurableLength(content.readableBytes)
        for run in dirtySectors.runs {
            keep(run.lowerBound * Self.sector, count: run.count * Self.sector)
        }
        dirtySectors.removeAll()
    }

    func dropUnsynced() {
        content = durable.twin
        dirtySectors.removeAll()
    }

    func tear(grain: Int, using random: inout SeededRandom) {
        if content.readableBytes != durable.readableBytes, Bool.random(using: &random) {
            setDurableLength(content.readableBytes)
        }
        let blocks = Set(dirtySectors.runs.joined().map { $0 * Self.sector / grain })
        for block in blocks.sorted() where Bool.random(using: &random) {
            keep(block * grain, count: grain)
        }
        dropUnsynced()
    }

    func flip(at position: Int, mask: UInt8) {
        for path in [\MemoryNode.content, \MemoryNode.durable] {
            if let byte = self[keyPath: path].getInteger(at: position, as: UInt8.self) {
                self[keyPath: path].setInteger(byte ^ mask, at: position)
            }
        }
    }

    func copy() -> MemoryNode {
        let twin = MemoryNode()
        twin.content = content.twin
        twin.durable = durable.twin
        twin.dirtySectors = dirtySectors
        return twin
    }

    private func setDurableLength(_ byteCount: Int) {
        if byteCount < durable.readableBytes {
            durable.moveWriterIndex(to: byteCount)
        } else {
            durable.writeRepeatingByte(0, count: byteCount - durable.readableBytes)
        }
    }

    private func keep(_ position: Int, count: Int) {
        let count = min(count, content.readableBytes - position, durable.readableBytes - position)
        if count > 0, let bytes = content.getSlice(at: position, length: count) {
            durable.setBuffer(bytes, at: position)
        }
    }
}

/// Sectors of a file, by number.
private struct SectorSet {
    private var members: [Bool] = []
    /// All members lie in here.
    private var extent = 0..<0

    mutating func insert(_ sectors: Range<Int>) {
        if members.count < sectors.upperBound {
            let missing = sectors.upperBound - members.count
            members.append(contentsOf: repeatElement(false, count: missing))
        }
        for sector in sectors { members[sector] = true }
        extent =
            extent.isEmpty
            ? sectors
            : min(
                extent.lowerBound,
                sectors.lowerBound
            )..<max(
                extent.upperBound,
                sectors.upperBound
            )
    }

    /// Takes out this sector and all behind it.
    mutating func remove(from first: Int) {
        guard first < members.count else { return }
        members.removeSubrange(first...)
        extent = extent.clamped(to: 0..<first)
    }

    mutating func removeAll() {
        for sector in extent { members[sector] = false }
        extent = 0..<0
    }

    /// The members as ranges without a gap within them, ascending.
    var runs: [Range<Int>] {
        var runs: [Range<Int>] = []
        var start: Int?
        for sector in extent {
            if members[sector] {
                if start == nil { start = sector }
            } else if let first = start {
                runs.append(first..<sector)
                start = nil
            }
        }
        if let start { runs.append(start..<extent.upperBound) }
        return runs
    }
}

extension ByteBuffer {
    /// The readable bytes in memory of their own.
    fileprivate var twin: ByteBuffer {
        var copy = ByteBuffer()
        copy.writeBytes(readableBytesSpan)
        return copy
    }
}
