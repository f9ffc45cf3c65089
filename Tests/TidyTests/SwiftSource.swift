/// A Swift file taken apart: the words of its code, and its comments, each with their lines.
///
/// Enough of a lexer for house rules: comments nest, strings (plain, multi-line, raw) are left out together with what is
/// interpolated into them, and everything else becomes words and single signs. Lines count from 1.
struct SwiftSource {
    /// A word (letters, digits, `_`, and a leading `@` or `#`) or a single sign of the code.
    struct Token: Equatable {
        let text: String
        let line: Int
    }

    /// The file, from the repository's root, with `/`.
    let path: String
    /// The lines as they were written.
    let lines: [Substring]
    /// The code without comments and strings.
    let tokens: [Token]
    /// The text of the comments by line; a block comment has one entry for each of its lines.
    let comments: [Int: String]

    /// Takes a file apart.
    init(path: String, text: String) {
        var lexer = Lexer(text: text)
        lexer.run()
        self.path = path
        self.lines = text.split(separator: "\n", omittingEmptySubsequences: false)
        self.tokens = lexer.tokens
        self.comments = lexer.comments
    }

    /// Whether a comment that contains `marker` stands on the line or at most `reach` lines above it.
    func hasComment(_ marker: String, at line: Int, reach: Int) -> Bool {
        (max(1, line - reach)...line).contains { comments[$0]?.contains(marker) == true }
    }
}

/// Walks a file once, from the first byte to the last.
private struct Lexer {
    let bytes: [UInt8]
    var position = 0
    var line = 1
    var tokens: [SwiftSource.Token] = []
    var comments: [Int: String] = [:]

    init(text: String) {
        bytes = Array(text.utf8)
    }

    mutating func run() {
        while position < bytes.count {
            if starts(with: "//") {
                lineComment()
            } else if starts(with: "/*") {
                blockComment()
            } else if let hashes = stringOpening() {
                string(hashes: hashes)
            } else if isWord(bytes[position]) || bytes[position] == UInt8(ascii: "@") {
                word()
            } else {
                sign()
            }
        }
    }

    private func starts(with text: StaticString) -> Bool {
        let wanted = Array("\(text)".utf8)
        return bytes[position...].starts(with: wanted)
    }

    private func isWord(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), 128...:
            true
        default:
            false
        }
    }

    private mutating func lineComment() {
        let start = position
        while position < bytes.count, bytes[position] != UInt8(ascii: "\n") {
            position += 1
        }
        note(start..<position)
    }

    private mutating func blockComment() {
        var depth = 0
        var start = position
        repeat {
            if starts(with: "/*") {
                depth += 1
                position += 2
            } else if starts(with: "*/") {
                depth -= 1
                position += 2
            } else {
                if bytes[position] == UInt8(ascii: "\n") {
                    note(start..<position)
                    line += 1
                    start = position + 1
                }
                position += 1
            }
        } while depth > 0 && position < bytes.count
        note(start..<position)
    }

    private mutating func note(_ range: Range<Int>) {
        comments[line, default: ""] += String(decoding: bytes[range], as: UTF8.self)
    }

    /// The number of `#` before an opening quote here, or nil where no string begins.
    private func stringOpening() -> Int? {
        var end = position
        while end < bytes.count, bytes[end] == UInt8(ascii: "#") {
            end += 1
        }
        return end < bytes.count && bytes[end] == UInt8(ascii: "\"") ? end - position : nil
    }

    private mutating func string(hashes: Int) {
        position += hashes
        let isMultiline = starts(with: "\"\"\"")
        let quotes = isMultiline ? 3 : 1
        let closing =
            Array(repeating: UInt8(ascii: "\""), count: quotes)
            + Array(repeating: UInt8(ascii: "#"), count: hashes)
        let escape = [UInt8(ascii: "\\")] + Array(repeating: UInt8(ascii: "#"), count: hashes)
        position += quotes
        while position < bytes.count {
            if bytes[position...].starts(with: closing) {
                position += closing.count
                return
            }
            if bytes[position...].starts(with: escape) {
                position += escape.count
                escaped()
            } else {
                countLine()
                position += 1
            }
        }
    }

    /// Steps over what follows a backslash: one sign, or an interpolation with its own strings and parentheses.
    private mutating func escaped() {
        guard position < bytes.count, bytes[position] == UInt8(ascii: "(") else {
            if position < bytes.count {
                countLine()
            }
            position += 1
            return
        }
        var depth = 0
        repeat {
            if let hashes = stringOpening() {
                string(hashes: hashes)
                continue
            }
            if bytes[position] == UInt8(ascii: "(") {
                depth += 1
            } else if bytes[position] == UInt8(ascii: ")") {
                depth -= 1
            }
            countLine()
            position += 1
        } while depth > 0 && position < bytes.count
    }

    private mutating func word() {
        let start = position
        position += 1
        while position < bytes.count, isWord(bytes[position]) {
            position += 1
        }
        append(start..<position)
    }

    private mutating func sign() {
        countLine()
        if bytes[position] > UInt8(ascii: " ") {
            append(position..<position + 1)
        }
        position += 1
    }

    private mutating func append(_ range: Range<Int>) {
        let text = String(decoding: bytes[range], as: UTF8.self)
        tokens.append(SwiftSource.Token(text: text, line: line))
    }

    private mutating func countLine() {
        if bytes[position] == UInt8(ascii: "\n") {
            line += 1
        }
    }
}
