/// A file that owns a format shows its bytes: a table in a comment, without gaps, with its magic and its version.
///
/// An owner is known by a static constant whose name is `magic` or ends with `Magic`. (Kafka's batch magic, an `Int8`, is itself
/// the version.) A table is either one of Markdown with the head `| bytes | field |`, or lines such as `12-15  checksum` whose
/// fields begin in the same column; several may stand side by side. An open last row is `24-` or `24...`.
enum FormatRule {
    static func findings(in source: SwiftSource) -> [Finding] {
        guard source.path.hasPrefix("Sources/"), !source.path.contains("/Generated/") else {
            return []
        }
        let tables = tables(in: source)
        return tables.flatMap { gaps(in: $0, path: source.path) }
            + missingTables(in: source, tables: tables)
    }

    /// One row of a byte table: the bytes from `first` to `last`, which is nil where the row is open.
    struct Row: Equatable {
        let first: Int
        let last: Int?
        let field: String
        let line: Int
    }

    static func tables(in source: SwiftSource) -> [[Row]] {
        var tables: [[Row]] = []
        var columns: [Int: [Row]] = [:]
        var previous = 0
        for line in source.comments.keys.sorted() {
            let rows = rows(of: source.comments[line] ?? "", line: line)
            let isHead = rows.isEmpty && (source.comments[line] ?? "").contains("| byte")
            if line != previous + 1 || isHead {
                tables += columns.values
                columns = [:]
            }
            previous = line
            for (column, row) in rows {
                if row.first == 0, let table = columns.removeValue(forKey: column) {
                    tables.append(table)
                }
                columns[column, default: []].append(row)
            }
        }
        tables += columns.values
        return tables.filter { $0.count > 1 && $0[0].first == 0 }
    }

    /// The rows that a line of a comment holds, each with the column in which its field begins.
    private static func rows(of comment: String, line: Int) -> [(column: Int, row: Row)] {
        comment.matches(
            of: /(?:^\/\/+ *|\| *| {2,})(\d+)(?:(-|\.\.\.)(\d*))?(?: +\| | +)(?=[A-Za-z`])/
        ).map { match in
            let first = Int(match.1) ?? 0
            let last: Int? = match.2 == nil ? first : match.3.flatMap { Int($0) }
            let field = comment[match.range.upperBound...].prefix { $0 != "|" }
            let isMarkdown = comment[match.range].contains("|")
            let column =
                isMarkdown
                ? 0 : comment.distance(from: comment.startIndex, to: match.range.upperBound)
            return (column, Row(first: first, last: last, field: String(field), line: line))
        }
    }

    private static func gaps(in table: [Row], path: String) -> [Finding] {
        var expected: Int? = 0
        var findings: [Finding] = []
        for row in table {
            if row.first != expected {
                let wanted = expected.map { "byte \($0)" } ?? "nothing after an open row"
                let problem = "the byte table goes on at \(row.first), but \(wanted) comes next"
                findings.append(Finding(path: path, line: row.line, problem: problem))
            }
            expected = row.last.map { $0 + 1 }
        }
        return findings
    }

    private static func missingTables(in source: SwiftSource, tables: [[Row]]) -> [Finding] {
        guard let line = magicLine(in: source) else { return [] }
        let isComplete = tables.contains { table in
            ["magic", "version"].allSatisfy { word in
                table.contains { $0.field.lowercased().contains(word) }
            }
        }
        guard !isComplete else { return [] }
        let problem =
            "a format with a magic needs a `| bytes | field |` table that names its magic and its version"
        return [Finding(path: source.path, line: line, problem: problem)]
    }

    static func magicLine(in source: SwiftSource) -> Int? {
        let tokens = source.tokens
        return tokens.indices.first { index in
            guard tokens[index].text == "static", index + 4 < tokens.count else { return false }
            let name = tokens[index + 2].text
            let isMagic =
                tokens[index + 1].text == "let" && (name == "magic" || name.hasSuffix("Magic"))
            return isMagic && tokens[index + 4].text != "Int8"
        }
        .map { tokens[$0].line }
    }
}
