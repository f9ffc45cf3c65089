package import NIOCore

/// Cuts a stream of received blocks into length-prefixed frames.
///
/// A frame that lies whole in one block is a slice of it. A frame across blocks is copied once into
/// a buffer of its own, which grows with what has arrived and not with what was announced: a peer
/// that names 100 MB and sends ten bytes costs ten bytes and one block.
///
/// | bytes | field |
/// |---|---|
/// | 0-3 | length of what follows, see `LengthPrefix` |
/// | 4- | the frame |
package struct FrameAssembler {
    /// How the length before a frame is written.
    package enum LengthPrefix: Sendable {
        /// Big endian and signed, as Kafka's clients write it.
        case kafka
        /// Little endian and unsigned, as this broker's peers do.
        case peer
    }

    /// How lengths are written.
    package let lengthPrefix: LengthPrefix
    /// The largest length that is taken (`socket.request.max.bytes`).
    package let maximumFrameByteCount: Int
    /// The first reservation for a frame across blocks; it doubles as bytes arrive.
    package static let firstReservation = 1 << 20

    private enum Progress {
        /// Of the length so many bytes are known, shifted together as they came.
        case prefix(byteCount: Int, value: UInt32)
        /// The frame's bytes so far.
        case frame(byteCount: Int, bytes: ByteBuffer)
    }

    private var progress = Progress.prefix(byteCount: 0, value: 0)
    /// Blocks not looked at yet: one while frames are handed over, up to a read's worth while
    /// reading is paused.
    private var blocks = CircularBuffer<ByteBuffer>(initialCapacity: 4)

    /// Takes frames of at most `maximumFrameByteCount` bytes.
    package init(maximumFrameByteCount: Int, lengthPrefix: LengthPrefix = .kafka) {
        self.maximumFrameByteCount = maximumFrameByteCount
        self.lengthPrefix = lengthPrefix
    }

    /// Adds what the socket gave.
    package mutating func append(_ block: ByteBuffer) {
        if block.readableBytes > 0 {
            blocks.append(block)
        }
    }

    /// Bytes held: incomplete frames and blocks that wait.
    package var heldByteCount: Int {
        let partial =
            switch progress {
            case .prefix(let byteCount, _): byteCount
            case .frame(_, let bytes): bytes.readableBytes
            }
        return blocks.reduce(partial) { $0 + $1.readableBytes }
    }

    /// The next complete frame, without its prefix; nil when more bytes are needed.
    ///
    /// - Throws: when the announced length is negative or too large; the stream is then lost.
    package mutating func next() throws(FrameTooLarge) -> ByteBuffer? {
        while !blocks.isEmpty {
            switch progress {
            case .prefix(let byteCount, let value):
                guard let length = takePrefix(known: byteCount, value) else {
                    continue
                }
                guard length >= 0, length <= maximumFrameByteCount else {
                    throw FrameTooLarge(announced: length)
                }
                if let frame = takeWholeFrame(length) {
                    return frame
                }
            case .frame(let byteCount, var bytes):
                progress = .prefix(byteCount: 0, value: 0)
                takeFromFirstBlock(upTo: byteCount - bytes.readableBytes, into: &bytes)
                if bytes.readableBytes == byteCount {
                    return bytes
                }
                progress = .frame(byteCount: byteCount, bytes: bytes)
            }
        }
        return nil
    }

    /// Reads the rest of the length; nil when the block ends inside it.
    private mutating func takePrefix(known: Int, _ value: UInt32) -> Int? {
        if known == 0, let whole = blocks[blocks.startIndex].readInteger(as: UInt32.self) {
            dropFirstBlockIfRead()
            return length(whole)
        }
        var known = known
        var value = value
        while known < 4, let byte = blocks[blocks.startIndex].readInteger(as: UInt8.self) {
            value = value << 8 | UInt32(byte)
            known += 1
        }
        dropFirstBlockIfRead()
        guard known == 4 else {
            progress = .prefix(byteCount: known, value: value)
            return nil
        }
        progress = .prefix(byteCount: 0, value: 0)
        return length(value)
    }

    /// The meaning of four bytes, first byte highest.
    private func length(_ bytes: UInt32) -> Int {
        switch lengthPrefix {
        case .kafka: Int(Int32(bitPattern: bytes))
        case .peer: Int(bytes.byteSwapped)
        }
    }

    /// Slices the frame off the first block, or notes that it goes on in later ones.
    private mutating func takeWholeFrame(_ length: Int) -> ByteBuffer? {
        guard length > 0 else {
            return ByteBuffer()
        }
        if !blocks.isEmpty, let frame = blocks[blocks.startIndex].readSlice(length: length) {
            dropFirstBlockIfRead()
            return frame
        }
        var bytes = ByteBuffer()
        bytes.reserveCapacity(min(length, Self.firstReservation))
        progress = .frame(byteCount: length, bytes: bytes)
        return nil
    }

    private mutating func takeFromFirstBlock(upTo count: Int, into bytes: inout ByteBuffer) {
        let available = min(count, blocks[blocks.startIndex].readableBytes)
        if var piece = blocks[blocks.startIndex].readSlice(length: available) {
            bytes.writeBuffer(&piece)
        }
        dropFirstBlockIfRead()
    }

    private mutating func dropFirstBlockIfRead() {
        if blocks.first?.readableBytes == 0 {
            blocks.removeFirst()
        }
    }
}

/// A length prefix that no frame may have here.
package struct FrameTooLarge: Error {
    /// What the peer announced; negative lengths stand as they were sent.
    package let announced: Int
}
