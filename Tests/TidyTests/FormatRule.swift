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

    /// The tables of both kinds that a file's comments hold; what does not begin at byte 0 is none.
    static func tables(in source: SwiftSource) -> [[Row]] {
        (markdownTables(in: source) + alignedTables(in: source)).filter {
            $0.count > 1 && $0[0].first == 0
        }
    }

    private static func markdownTables(in source: SwiftSource) -> [[Row]] {
        var tables: [[Row]] = []
        var isInside = false
        for line in source.comments.keys.sorted() {
            let cells = (source.comments[line] ?? "").split(separator: "|").dropFirst().map(
                \.trimmed
            )
            if cells.isEmpty {
                isInside = false
            } else if cells[0] == "bytes" || cells[0] == "byte" {
                tables.append([])
                isInside = true
            } else if isInside, cells.count > 1, let row = markdownRow(cells, line: line) {
                tables[tables.count - 1].append(row)
            }
        }
        return tables
    }

    /// A row for one range, or for several that follow each other: `| 16-31, 32-35 | topic id, partition |`.
    private static func markdownRow(_ cells: [String], line: Int) -> Row? {
        let ranges = cells[0].split(separator: ",").map(\.trimmed)
            .compactMap { $0.wholeMatch(of: /(\d+)(-|\.\.\.|…)?(\d*)/) }
        guard let start = ranges.first, let end = ranges.last else { return nil }
        let last = end.2 == nil ? Int(end.1) : Int(end.3)
        return Row(first: Int(start.1) ?? 0, last: last, field: cells[1], line: line)
    }

    /// Tables without rules: rows belong together where their fields begin in the same column of consecutive lines.
    private static func alignedTables(in source: SwiftSource) -> [[Row]] {
        var tables: [[Row]] = []
        var columns: [Int: [Row]] = [:]
        var previous = 0
        for line in source.comments.keys.sorted() {
            if line != previous + 1 {
                tables += columns.values
                columns = [:]
            }
            previous = line
            let comment = source.comments[line] ?? ""
            for match in comment.matches(
                of: /(?:^\/\/+ *| {2,})(\d+)(-|\.\.\.|…)?(\d*) +(?=[A-Za-z`])/
            ) {
                let end = match.range.upperBound
                let first = Int(match.1) ?? 0
                let last = match.2 == nil ? first : Int(match.3)
                let row = Row(first: first, last: last, field: String(comment[end...]), line: line)
                columns[comment.distance(from: comment.startIndex, to: end), default: []].append(
                    row
                )
            }
        }
        return tables + columns.values
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
        let isComplete = tables.contains { isHeader($0.map(\.field)) }
        guard !isComplete, !isHeader(keys(in: source)) else { return [] }
        let problem =
            "a format with a magic needs a `| bytes | field |` table that names its magic and its version"
        return [Finding(path: source.path, line: line, problem: problem)]
    }

    private static func isHeader(_ fields: [String]) -> Bool {
        ["magic", "version"].allSatisfy { word in
            fields.contains { $0.lowercased().contains(word) }
        }
    }

    /// The keys of a format made of text: the first cells of a table with the head `| key | value |`.
    private static func keys(in source: SwiftSource) -> [String] {
        var keys: [String] = []
        var isInside = false
        for line in source.comments.keys.sorted() {
            let cells = (source.comments[line] ?? "").split(separator: "|").dropFirst().map(
                \.trimmed
            )
            isInside = cells.count > 1 && (isInside || cells[0] == "key")
            keys += isInside ? cells.prefix(1) : []
        }
        return keys
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

extension Substring {
    /// The text without the spaces around it.
    fileprivate var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
