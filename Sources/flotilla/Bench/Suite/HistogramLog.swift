import CZlib
import Histogram
import NIOCore

/// Histograms as lines of an HdrHistogram log, which HdrHistogram's own tools and plotters read.
///
/// A line is `Tag=<tag>,<start>,<length>,<largest, in milliseconds>,<histogram>`, times in seconds since the start of the log,
/// the histogram of nanoseconds in HdrHistogram's form V2: compressed by zlib, then in base 64.
///
/// - Source: HdrHistogram's `HistogramLogWriter` (log format 1.3) and `AbstractHistogram.encodeIntoByteBuffer`.
struct HistogramLog {
    private(set) var text: String

    init(startSeconds: Double) {
        text = """
            #[Histogram log format version 1.3]
            #[StartTime: \(Decimals.text(startSeconds, 3)) (seconds since epoch)]
            "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"

            """
    }

    /// Adds a line; a histogram without values adds none.
    mutating func add(
        _ histogram: Histogram<UInt64>,
        tag: String,
        start: Double,
        length: Double
    ) throws(CommandFailure) {
        guard histogram.totalCount > 0 else { return }
        let encoded = JSONText.base64(try Self.compressed(Self.encoded(histogram)))
        text +=
            "Tag=\(tag),\(Decimals.text(start, 3)),\(Decimals.text(length, 3)),"
            + "\(Decimals.text(Double(histogram.max) / 1e6, 3)),\(encoded)\n"
    }

    // MARK: Form V2

    private static let encodingCookie: UInt32 = 0x1C84_9303 | 0x10
    private static let compressedCookie: UInt32 = 0x1C84_9304 | 0x10

    /// The counts between a head of 40 bytes and the largest value: each a zigzag number in LEB128 form, runs of zeros as one
    /// negative number.
    static func encoded(_ histogram: Histogram<UInt64>) -> ByteBuffer {
        var counts = ByteBuffer()
        var next = 0
        for step in histogram.recordedValues() {
            let index = Self.index(of: step.value, digits: histogram.numberOfSignificantValueDigits)
            // One zero is written as such.
            if index > next { write(index - next == 1 ? 0 : Int64(next - index), into: &counts) }
            write(Int64(step.count), into: &counts)
            next = index + 1
        }
        var bytes = ByteBuffer()
        bytes.writeInteger(encodingCookie)
        bytes.writeInteger(UInt32(counts.readableBytes))
        bytes.writeInteger(UInt32(0))
        bytes.writeInteger(UInt32(histogram.numberOfSignificantValueDigits.rawValue))
        bytes.writeInteger(histogram.lowestDiscernibleValue)
        bytes.writeInteger(histogram.highestTrackableValue)
        bytes.writeInteger((1.0).bitPattern)
        bytes.writeBuffer(&counts)
        return bytes
    }

    /// Where HdrHistogram counts a value whose unit is one.
    static func index(of value: UInt64, digits: SignificantDigits) -> Int {
        var largestOfUnit: UInt64 = 2
        for _ in 0..<digits.rawValue { largestOfUnit *= 10 }
        let magnitude = 64 - (largestOfUnit - 1).leadingZeroBitCount
        let half = 1 << (magnitude - 1)
        let mask = UInt64(1 << magnitude) - 1
        let bucket = 64 - (value | mask).leadingZeroBitCount - magnitude
        let subBucket = Int(value >> UInt64(bucket))
        return (bucket + 1) * half + subBucket - half
    }

    private static func write(_ value: Int64, into bytes: inout ByteBuffer) {
        var rest = UInt64(bitPattern: (value << 1) ^ (value >> 63))
        while rest >= 0x80 {
            bytes.writeInteger(UInt8(rest & 0x7F | 0x80))
            rest >>= 7
        }
        bytes.writeInteger(UInt8(rest))
    }

    private static func compressed(_ bytes: ByteBuffer) throws(CommandFailure) -> ByteBuffer {
        var packed = [UInt8](repeating: 0, count: Int(compressBound(uLong(bytes.readableBytes))))
        var count = uLong(packed.count)
        // Safe: both calls stay within the two arrays, which live until it returns; `count` says how much was written.
        let result = unsafe packed.withUnsafeMutableBufferPointer { room in
            unsafe bytes.withUnsafeReadableBytes { source in
                unsafe compress2(
                    room.baseAddress,
                    &count,
                    source.bindMemory(to: UInt8.self).baseAddress,
                    uLong(source.count),
                    Z_DEFAULT_COMPRESSION
                )
            }
        }
        guard result == Z_OK else {
            throw .failed("zlib could not compress a histogram: \(result)")
        }
        var whole = ByteBuffer()
        whole.writeInteger(compressedCookie)
        whole.writeInteger(UInt32(count))
        whole.writeBytes(packed[..<Int(count)])
        return whole
    }
}
