import NIOCore

/// JSON values as text.
enum JSONText {
    /// A string with what JSON wants escaped.
    static func quoted(_ string: some StringProtocol) -> String {
        var text = "\""
        for scalar in string.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case "\n": text += "\\n"
            case "\r": text += "\\r"
            case "\t": text += "\\t"
            case _ where scalar.value < 0x20:
                let hex = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
            default: text.unicodeScalars.append(scalar)
            }
        }
        return text + "\""
    }

    /// Bytes as a string where they are UTF-8, else as `{"base64":"..."}`; nil is null.
    static func bytes(_ buffer: ByteBuffer?) -> String {
        guard let buffer else { return "null" }
        if let text = String(validating: buffer.readableBytesView, as: UTF8.self) {
            return quoted(text)
        }
        return "{\"base64\":\"\(base64(buffer))\"}"
    }

    /// Bytes in base 64.
    static func base64(_ buffer: ByteBuffer) -> String {
        let alphabet = Array(
            "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
        )
        let bytes = Array(buffer.readableBytesView)
        var out: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let chunk = bytes[start..<min(start + 3, bytes.count)]
            var word = UInt32(0)
            for offset in 0..<3 {
                word = word << 8 | (offset < chunk.count ? UInt32(chunk[start + offset]) : 0)
            }
            for place in 0..<4 {
                let digit = alphabet[Int(word >> UInt32(18 - 6 * place)) & 63]
                out.append(place <= chunk.count ? digit : UInt8(ascii: "="))
            }
        }
        return String(decoding: out, as: UTF8.self)
    }

    /// An object of ready JSON values.
    static func object(_ members: KeyValuePairs<String, String>) -> String {
        "{" + members.map { quoted($0) + ":" + $1 }.joined(separator: ",") + "}"
    }

    /// An array of ready JSON values.
    static func array(_ elements: some Sequence<String>) -> String {
        "[" + elements.joined(separator: ",") + "]"
    }

    /// A number, or null.
    static func number(_ number: Int?) -> String {
        number.map { "\($0)" } ?? "null"
    }

    /// A string, or null.
    static func optional(_ string: String?) -> String {
        string.map { quoted($0) } ?? "null"
    }
}
