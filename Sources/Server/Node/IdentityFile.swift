import FlotillaEnvironment
import FlotillaModel
import FoundationEssentials

import struct NIOCore.ByteBuffer

/// The small files beside the data that say whose it is: JSON, for people to read.
enum IdentityFile {
    /// No identity is larger; more is not read.
    static let byteLimit = 64 << 10

    /// Reads a file; nil when it is not JSON of this shape.
    static func read<Content: Decodable>(
        _ type: Content.Type,
        at path: String,
        _ disk: any Disk
    ) throws(DiskError) -> Content? {
        let file = try disk.open(path, .read)
        let count = min(try file.byteCount(), Int64(byteLimit))
        let bytes = try file.read(at: 0, count: Int(count))
        return try? JSONDecoder().decode(type, from: Data(bytes.readableBytesView))
    }

    /// Writes a file so that after a crash at any moment the old content or the new one is there,
    /// and after the return the new one.
    static func write(
        _ content: some Encodable,
        to path: String,
        in directory: String,
        _ disk: any Disk
    ) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
        let data = try encoder.encode(content)
        precondition(data.count < byteLimit, "an identity can be read again")
        let staged = "\(path).tmp"
        try disk.remove(staged)
        let file = try disk.open(staged, .createNew)
        try file.write([ByteBuffer(bytes: data), ByteBuffer(string: "\n")], at: 0)
        try file.sync()
        try disk.rename(staged, to: path)
        try disk.syncDirectory(directory)
    }
}

extension BrokerIncarnation {
    /// 32 hexadecimal digits.
    var digits: String {
        Self.digits(high) + Self.digits(low)
    }

    /// Reads what `digits` writes; nil for anything else.
    init?(digits text: String) {
        guard text.utf8.count == 32, let high = UInt64(text.prefix(16), radix: 16),
            let low = UInt64(text.suffix(16), radix: 16)
        else { return nil }
        self.init(high: high, low: low)
    }

    private static func digits(_ word: UInt64) -> String {
        let digits = String(word, radix: 16)
        return String(repeating: "0", count: 16 - digits.utf8.count) + digits
    }
}
