import ArgumentParser
import FlotillaEnvironment
import NIOCore

/// What values are made of.
enum PayloadKind: String, ExpressibleByArgument, CaseIterable {
    case random, json
}

/// Ready-made values, taken in turn; together at least a MiB, so that no compressor's window holds a repeat.
struct Payload {
    private let values: [ByteBuffer]
    private var next = 0

    init(_ kind: PayloadKind, byteCount: Int) {
        // The system's own generator is a system call for eight bytes, which takes a second for a few producers.
        var generator = SeededRandom(seed: UInt64.random(in: .min ... .max))
        let count = max(16, min(4096, (1 << 20) / max(byteCount, 1)))
        values = (0..<count).map { number in
            switch kind {
            case .random: Self.random(byteCount, &generator)
            case .json: Self.json(byteCount, number, &generator)
            }
        }
    }

    /// The next value.
    mutating func value() -> ByteBuffer {
        next += 1
        if next >= values.count { next = 0 }
        return values[next]
    }

    private static func random(_ byteCount: Int, _ generator: inout SeededRandom) -> ByteBuffer {
        var bytes = ByteBuffer()
        bytes.reserveCapacity(byteCount + 8)
        while bytes.readableBytes < byteCount { bytes.writeInteger(generator.next()) }
        return bytes.getSlice(at: 0, length: byteCount) ?? bytes
    }

    private static func json(_ byteCount: Int, _ number: Int, _ generator: inout SeededRandom)
        -> ByteBuffer
    {
        var text = ""
        while text.utf8.count < byteCount {
            let id = UInt32.random(in: .min ... .max, using: &generator)
            text +=
                "{\"id\":\(id),\"number\":\(number),\"customer\":\"customer-\(id % 5000)\",\"state\":\"shipped\","
            text +=
                "\"amount\":\(id % 100_000).\(id % 100),\"currency\":\"EUR\",\"items\":[\(id % 7),\(id % 11)]}"
        }
        return ByteBuffer(bytes: text.utf8.prefix(byteCount))
    }
}
