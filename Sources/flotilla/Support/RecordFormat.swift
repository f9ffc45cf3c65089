import FlotillaClient
import FlotillaModel
import NIOCore

/// What `-f` asks for: text with the parts of a record in it.
///
/// `%t` topic, `%p` partition, `%o` offset, `%k` key, `%v` or `%s` value, `%T` timestamp, `%d{iso}` the same as a
/// date, `%h` headers, `%K` and `%S` the sizes of key and value (-1 for null), `%H` the number of headers, `%%`;
/// `\n` `\t` `\r` `\0` `\\` and `\xHH`.
struct RecordFormat: Equatable {
    enum Piece: Equatable {
        case text([UInt8])
        case topic, partition, offset, key, value, timestamp, date, headers, keySize, valueSize,
            headerCount
    }

    let pieces: [Piece]
    /// What stands for a null key or value.
    var null = ""

    init(_ text: String) throws(CommandFailure) {
        var pieces: [Piece] = []
        var literal: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "\\") {
                literal.append(try Self.escape(&rest, text))
            } else if byte == UInt8(ascii: "%"), rest.first == UInt8(ascii: "%") {
                rest.removeFirst()
                literal.append(byte)
            } else if byte == UInt8(ascii: "%") {
                if !literal.isEmpty { pieces.append(.text(literal)) }
                literal = []
                pieces.append(try Self.piece(&rest, text))
            } else {
                literal.append(byte)
            }
        }
        if !literal.isEmpty { pieces.append(.text(literal)) }
        self.pieces = pieces
    }

    private static func piece(_ rest: inout ArraySlice<UInt8>, _ text: String)
        throws(CommandFailure) -> Piece
    {
        guard let letter = rest.popFirst() else {
            throw .usage("the format \"\(text)\" ends with %")
        }
        switch letter {
        case UInt8(ascii: "t"): return .topic
        case UInt8(ascii: "p"): return .partition
        case UInt8(ascii: "o"): return .offset
        case UInt8(ascii: "k"): return .key
        case UInt8(ascii: "v"), UInt8(ascii: "s"): return .value
        case UInt8(ascii: "T"): return .timestamp
        case UInt8(ascii: "h"): return .headers
        case UInt8(ascii: "H"): return .headerCount
        case UInt8(ascii: "K"): return .keySize
        case UInt8(ascii: "S"): return .valueSize
        case UInt8(ascii: "d"):
            let iso = Array("{iso}".utf8)
            guard rest.starts(with: iso) else { throw .usage("%d takes {iso}: \"\(text)\"") }
            rest = rest.dropFirst(iso.count)
            return .date
        default:
            throw .usage("%\(Character(UnicodeScalar(letter))) is no part of a record: \"\(text)\"")
        }
    }

    private static func escape(_ rest: inout ArraySlice<UInt8>, _ text: String)
        throws(CommandFailure) -> UInt8
    {
        guard let letter = rest.popFirst() else {
            throw .usage("the format \"\(text)\" ends with \\")
        }
        switch letter {
        case UInt8(ascii: "n"): return 10
        case UInt8(ascii: "t"): return 9
        case UInt8(ascii: "r"): return 13
        case UInt8(ascii: "0"): return 0
        case UInt8(ascii: "\\"): return letter
        case UInt8(ascii: "x"):
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            guard digits.utf8.count == 2, let byte = UInt8(digits, radix: 16) else {
                throw .usage("\\x takes two hexadecimal digits: \"\(text)\"")
            }
            rest = rest.dropFirst(2)
            return byte
        default:
            throw .usage("\\\(Character(UnicodeScalar(letter))) means nothing: \"\(text)\"")
        }
    }

    /// Bytes that a text with escapes stands for.
    static func bytes(_ text: String) throws(CommandFailure) -> [UInt8] {
        var bytes: [UInt8] = []
        for piece in try RecordFormat(
            text.split(separator: "%", omittingEmptySubsequences: false).joined(separator: "%%")
        ).pieces {
            if case .text(let literal) = piece { bytes += literal }
        }
        return bytes
    }

    /// Writes a record.
    func write(_ record: ConsumerRecord, into output: inout ByteBuffer) {
        for piece in pieces {
            switch piece {
            case .text(let bytes): output.writeBytes(bytes)
            case .topic: output.writeString(record.partition.topic)
            case .partition: output.writeString(String(record.partition.index))
            case .offset: output.writeString(record.offset.description)
            case .key: write(record.key, into: &output)
            case .value: write(record.value, into: &output)
            case .timestamp: output.writeString(record.timestamp.description)
            case .date: output.writeString(WallTime.iso(record.timestamp))
            case .headers: writeHeaders(of: record, into: &output)
            case .headerCount: output.writeString(String(record.headers.count))
            case .keySize: output.writeString(String(record.key?.readableBytes ?? -1))
            case .valueSize: output.writeString(String(record.value?.readableBytes ?? -1))
            }
        }
    }

    private func write(_ bytes: ByteBuffer?, into output: inout ByteBuffer) {
        if let bytes { output.writeImmutableBuffer(bytes) } else { output.writeString(null) }
    }

    private func writeHeaders(of record: ConsumerRecord, into output: inout ByteBuffer) {
        for (index, header) in record.headers.enumerated() {
            if index > 0 { output.writeString(",") }
            output.writeString(header.name + "=")
            write(header.value, into: &output)
        }
    }

    /// A record as a line of JSON with kcat's names.
    static func writeJSON(_ record: ConsumerRecord, into output: inout ByteBuffer) {
        let headers = record.headers.flatMap {
            [JSONText.quoted($0.name), JSONText.bytes($0.value)]
        }
        output.writeString(
            JSONText.object([
                "topic": JSONText.quoted(record.partition.topic),
                "partition": String(record.partition.index),
                "offset": record.offset.description,
                "tstype": record.isLogAppendTime ? "\"logappend\"" : "\"create\"",
                "ts": record.timestamp.description,
                "headers": JSONText.array(headers),
                "key": JSONText.bytes(record.key),
                "payload": JSONText.bytes(record.value),
            ])
        )
        output.writeString("\n")
    }
}
