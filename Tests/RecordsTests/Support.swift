import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

extension ByteBuffer {
    /// Bytes written as hexadecimal digits; white space is skipped.
    init(hex: String) {
        self.init()
        var high: UInt8?
        for digit in hex.utf8 {
            guard let value = Character(UnicodeScalar(digit)).hexDigitValue.map(UInt8.init) else {
                continue
            }
            if let nibble = high {
                writeInteger(nibble << 4 | value)
                high = nil
            } else {
                high = value
            }
        }
    }

    /// The readable bytes as an array.
    var array: [UInt8] {
        Array(readableBytesView)
    }

    /// The same bytes with one bit turned.
    func flipping(bit: Int, ofByte position: Int) -> ByteBuffer {
        var bytes = array
        bytes[position] ^= 1 << UInt8(bit)
        return ByteBuffer(bytes: bytes)
    }
}

extension SeededRandom {
    /// Random bytes; `alphabet` below 256 makes them compressible.
    mutating func bytes(count: Int, alphabet: Int = 256) -> ByteBuffer {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        var word: UInt64 = 0
        for position in 0..<count {
            word = position.isMultiple(of: 8) ? next() : word >> 8
            bytes.append(UInt8(truncatingIfNeeded: (word & 0xFF) % UInt64(alphabet)))
        }
        return ByteBuffer(bytes: bytes)
    }

    /// A record with random parts, some of them absent or empty.
    mutating func record(offset: Int64, alphabet: Int = 8) -> Record {
        Record(
            offset: Offset(offset),
            timestamp: Timestamp(
                1_700_000_000_000 + Int64.random(in: -5_000...5_000, using: &self)
            ),
            key: Bool.random(using: &self)
                ? bytes(count: Int.random(in: 0...20, using: &self)) : nil,
            value: Int.random(in: 0..<8, using: &self) == 0
                ? nil : bytes(count: Int.random(in: 0...400, using: &self), alphabet: alphabet),
            headers: (0..<Int.random(in: 0...3, using: &self)).map { number in
                RecordHeader(
                    name: "header-\(number)",
                    value: Bool.random(using: &self) ? bytes(count: number * 3) : nil
                )
            }
        )
    }
}

extension RecordBatch {
    /// A batch of records as a producer makes it.
    static func of(
        _ records: [Record],
        codec: CompressionCodec = .none,
        level: Int? = nil,
        change: (inout RecordBatchBuilder) -> Void = { _ in }
    ) -> RecordBatch {
        var builder = RecordBatchBuilder(codec: codec, level: level)
        change(&builder)
        for record in records {
            builder.append(
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: record.timestamp
            )
        }
        return builder.build(using: Compressor())
    }

    /// A batch of one record with this text.
    static func of(_ text: String, codec: CompressionCodec = .none) -> RecordBatch {
        let record = Record(
            offset: .zero,
            timestamp: Timestamp(1_700_000_000_000),
            key: ByteBuffer(string: "key"),
            value: ByteBuffer(string: text)
        )
        return of([record], codec: codec)
    }

    /// Every record, opened within 64 MiB.
    func allRecords() throws -> [Record] {
        var iterator = try RecordIterator(self, using: Decompressor(), limit: 64 << 20)
        var records: [Record] = []
        while let record = try iterator.next() {
            records.append(record)
        }
        return records
    }
}

extension LogEntry {
    /// Frame and payload in one piece.
    var contiguous: ByteBuffer {
        var buffer = ByteBuffer()
        write(into: &buffer)
        return buffer
    }
}
