import FlotillaModel
import struct NIOCore.ByteBuffer

/// The payload of a `startOffset` entry: the log's new first offset, eight bytes, little endian.
enum StartOffsetEntry {
    static func payload(_ offset: Offset) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(offset.rawValue, endianness: .little)
        return buffer
    }

    static func offset(in payload: ByteBuffer) -> Offset? {
        guard payload.readableBytes == MemoryLayout<Int64>.size else { return nil }
        return payload.getInteger(at: payload.readerIndex, endianness: .little).map(Offset.init)
    }
}
