import Glibc

/// What processes use of the machine, from `/proc`.
struct ResourceSampler {
    /// Since their begin, but for memory.
    struct Usage {
        /// Nil where a process cannot be seen.
        var serverCPUSeconds: Double?
        var clientCPUSeconds = 0.0
        var memoryByteCount: Int?
        /// Of the whole disk; nil where it is not known which one it is.
        var writtenByteCount: Int?
    }

    /// What the disk is called in `/proc/diskstats`: its major and minor number.
    private let device: [Substring]?
    private let ticksPerSecond = Double(sysconf(Int32(_SC_CLK_TCK)))
    private let pageByteCount = sysconf(Int32(_SC_PAGESIZE))
    /// What each broker had used when it was last seen, by its process: a killed one leaves the sum, its work does not.
    private var used: [Int32: Double] = [:]

    /// `directory` lies on the disk that is watched.
    init(directory: String?) {
        device = directory.flatMap { directory in
            var status = stat()
            // Safe: the path is passed as a C string, and the call writes one stat.
            guard unsafe stat(directory, &status) == 0 else { return nil }
            let number = UInt64(status.st_dev)
            let major = (number >> 8) & 0xFFF | (number >> 32) & ~0xFFF
            let minor = number & 0xFF | (number >> 12) & ~0xFF
            return ["\(major)", "\(minor)"]
        }
    }

    /// What the servers' processes and this one have used so far.
    mutating func sample(servers: [Int32]?) -> Usage {
        var usage = Usage()
        usage.clientCPUSeconds = Self.ownCPUSeconds
        usage.writtenByteCount = writtenByteCount
        guard let servers else { return usage }
        var memory = 0
        for process in servers {
            guard let text = ProcFile.read("/proc/\(process)/stat"),
                let end = text.lastIndex(of: ")")
            else { continue }
            // Fields are counted from the third one, behind the name in parentheses.
            let fields = text[text.index(after: end)...].split(separator: " ")
            guard fields.count > 21, let user = Double(fields[11]), let system = Double(fields[12]),
                let pages = Int(fields[21])
            else { continue }
            used[process] = (user + system) / ticksPerSecond
            memory += pages * pageByteCount
        }
        usage.serverCPUSeconds = used.values.reduce(0, +)
        usage.memoryByteCount = memory
        return usage
    }

    private var writtenByteCount: Int? {
        guard let device, let text = ProcFile.read("/proc/diskstats") else { return nil }
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 9, Array(fields[0..<2]) == device else { continue }
            // Sectors of 512 bytes, whatever the device's own are.
            return Int(fields[9]).map { $0 * 512 }
        }
        return nil
    }

    private static var ownCPUSeconds: Double {
        var usage = rusage()
        // Safe: the call writes one rusage.
        guard unsafe getrusage(RUSAGE_SELF.rawValue, &usage) == 0 else { return 0 }
        return Double(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec)
            + Double(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6
    }
}

/// Files of `/proc`, which have no size until they are read.
enum ProcFile {
    /// The whole text; nil where it cannot be read.
    static func read(_ path: String) -> String? {
        guard let descriptor = LineReader.open(path) else { return nil }
        defer { close(descriptor) }
        var text: [UInt8] = []
        while case .bytes(let bytes) = DevProcess.read(descriptor) { text += bytes }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }

    /// What stands behind `name:` in a file of such lines.
    static func value(_ name: String, in path: String) -> String? {
        guard let text = read(path) else { return nil }
        for line in text.split(separator: "\n") where line.hasPrefix(name) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            return Words.trimmed(line[line.index(after: colon)...])
        }
        return nil
    }
}
