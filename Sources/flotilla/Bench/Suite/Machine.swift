import Glibc

/// Where a bench ran, and what its disk does alone.
struct Machine {
    let cpu: String?
    let coreCount: Int
    let memoryMebibytes: Int?
    let kernel: String?
    /// Nil: nobody named a directory on the servers' disk.
    let disk: DiskCeiling?

    /// What a disk does alone: each block is durable before the next is written.
    struct DiskCeiling {
        let blockByteCount: Int
        let megabytesPerSecond: Double
        /// Nanoseconds of a write of 4 KiB and its `fdatasync`.
        let syncP50: UInt64
        let syncP99: UInt64
    }

    /// Looks at this machine, and measures the disk of `directory` for two seconds.
    init(directory: String?) throws(CommandFailure) {
        cpu = ProcFile.value("model name", in: "/proc/cpuinfo")
        coreCount = sysconf(Int32(_SC_NPROCESSORS_ONLN))
        let kibibytes = ProcFile.value("MemTotal", in: "/proc/meminfo")?.split(separator: " ").first
        memoryMebibytes = kibibytes.flatMap { Int($0) }.map { $0 / 1024 }
        kernel = ProcFile.read("/proc/sys/kernel/osrelease").map { Words.trimmed($0) }
        guard let directory else {
            disk = nil
            return
        }
        let small = try DiskBench.measure(in: directory, blockByteCount: 4 << 10, millis: 1000)
        disk = DiskCeiling(
            blockByteCount: 256 << 10,
            megabytesPerSecond: try DiskBench.ceiling(in: directory, blockByteCount: 256 << 10),
            syncP50: small.latency?.p50 ?? 0,
            syncP99: small.latency?.p99 ?? 0
        )
    }

    /// The `machine` of a result.
    var json: String {
        JSONText.object([
            "cpu": JSONText.optional(cpu),
            "cores": "\(coreCount)",
            "memory_mib": memoryMebibytes.map { "\($0)" } ?? "null",
            "kernel": JSONText.optional(kernel),
            "disk_block_bytes": disk.map { "\($0.blockByteCount)" } ?? "null",
            "disk_mb_per_second": disk.map { Decimals.text($0.megabytesPerSecond, 1) } ?? "null",
            "fdatasync_p50_us": disk.map { Decimals.micros($0.syncP50) } ?? "null",
            "fdatasync_p99_us": disk.map { Decimals.micros($0.syncP99) } ?? "null",
        ])
    }
}
