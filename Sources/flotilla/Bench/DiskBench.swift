import ArgumentParser
import Glibc
import Histogram
import NIOCore

/// `flotilla bench disk`.
struct BenchDiskCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "disk",
        abstract:
            "Measure a directory's disk alone: sequential blocks, each made durable before the next.",
        discussion: "This is the ceiling for what a broker can acknowledge there."
    )

    @OptionGroup var output: OutputOptions

    @Option(help: "The directory.")
    var dir = "."

    @Option(help: "Sizes of the blocks; may be repeated.")
    var block: [Size] = []

    @Option(help: "How long to measure each size.")
    var duration = Span(.seconds(2))

    func run() throws {
        do throws(CommandFailure) {
            var results: [BenchResult] = []
            let blocks =
                block.isEmpty
                ? [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20] : block.map(\.byteCount)
            for size in blocks {
                results.append(
                    try DiskBench.measure(
                        in: dir,
                        blockByteCount: size,
                        millis: UInt64(duration.milliseconds)
                    )
                )
            }
            if output.format == .json {
                for result in results { print(result.json) }
            } else {
                print(BenchResult.table(results))
            }
        } catch {
            throw error.report()
        }
    }
}

/// Writes blocks one after the other over a file that has its space already, as a journal does, and waits for
/// each to be durable (`fdatasync`).
enum DiskBench {
    private static let fileByteCount = 256 << 20

    /// MB/s of one block size, within a second.
    static func ceiling(in directory: String, blockByteCount: Int) throws(CommandFailure) -> Double
    {
        try measure(in: directory, blockByteCount: blockByteCount, millis: 1000).megabytesPerSecond
    }

    static func measure(
        in directory: String,
        blockByteCount: Int,
        millis: UInt64
    ) throws(CommandFailure) -> BenchResult {
        guard blockByteCount > 0, blockByteCount <= fileByteCount else {
            throw .usage("a block has 1 byte to \(Size(fileByteCount))")
        }
        let path = directory + "/flotilla-bench-\(getpid()).tmp"
        // Safe: the path is passed as a C string that lives until the call returns.
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw .failed("cannot write in \(directory): \(reason())") }
        defer {
            close(descriptor)
            unsafe unlink(path)
        }
        let block = Payload(.random, byteCount: blockByteCount)
        try prepare(descriptor, blockByteCount)
        return try run(descriptor, block, blockByteCount, millis)
    }

    /// Fills the file, so that no block needs new space.
    private static func prepare(_ descriptor: Int32, _ blockByteCount: Int) throws(CommandFailure) {
        let zeros = ByteBuffer(repeating: 0, count: 1 << 20)
        for start in stride(from: 0, to: fileByteCount, by: 1 << 20) {
            try write(zeros, descriptor, at: start)
        }
        guard fsync(descriptor) == 0 else { throw .failed("fsync: \(reason())") }
    }

    private static func run(
        _ descriptor: Int32,
        _ payload: Payload,
        _ blockByteCount: Int,
        _ millis: UInt64
    ) throws(CommandFailure) -> BenchResult {
        var payload = payload
        var histogram = Histogram<UInt64>(
            highestTrackableValue: 60_000_000_000,
            numberOfSignificantValueDigits: .three
        )
        var result = BenchResult(name: "disk \(Size(blockByteCount))")
        let begin = Monotonic.now()
        var position = 0
        while Monotonic.now() - begin < millis * 1_000_000 {
            if position + blockByteCount > fileByteCount { position = 0 }
            let start = Monotonic.now()
            try write(payload.value(), descriptor, at: position)
            guard fdatasync(descriptor) == 0 else { throw .failed("fdatasync: \(reason())") }
            _ = histogram.record(min(Monotonic.now() - start, 60_000_000_000))
            position += blockByteCount
            result.recordCount += 1
            result.byteCount += blockByteCount
        }
        result.seconds = Double(Monotonic.now() - begin) / 1e9
        result.latency = BenchResult.Latency(histogram)
        result.settings = [("block", String(blockByteCount))]
        return result
    }

    private static func write(_ bytes: ByteBuffer, _ descriptor: Int32, at position: Int)
        throws(CommandFailure)
    {
        var rest = bytes
        var position = position
        while rest.readableBytes > 0 {
            // Safe: the call reads within the bytes, which live until it returns.
            let count = unsafe rest.withUnsafeReadableBytes { bytes in
                unsafe pwrite(descriptor, bytes.baseAddress, bytes.count, off_t(position))
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw .failed("write: \(reason())") }
            rest.moveReaderIndex(forwardBy: count)
            position += count
        }
    }

    static func reason() -> String {
        // Safe: the text is static, or a thread's own, and copied at once.
        unsafe String(cString: strerror(errno))
    }
}
