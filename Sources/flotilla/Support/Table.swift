/// Columns with a heading, as wide as they must be.
struct Table {
    /// What stands in the place of what nobody knows.
    static let unknown = "-"

    private var rows: [[String]]

    init(_ headings: String...) {
        self.init(headings)
    }

    init(_ headings: [String]) {
        rows = [headings]
    }

    mutating func add(_ cells: String...) {
        add(cells)
    }

    mutating func add(_ cells: [String]) {
        precondition(cells.count == rows[0].count, "a row fills the columns")
        rows.append(cells)
    }

    /// Numbers stand at the right of their column, words at the left.
    var text: String {
        let columns = rows[0].indices
        let widths = columns.map { column in rows.map { $0[column].count }.max() ?? 0 }
        let isNumeric = columns.map { column in
            rows.count > 1
                && rows.dropFirst().allSatisfy { row in
                    row[column] == Self.unknown || row[column].first?.isNumber ?? true
                }
        }
        let lines = rows.map { row in
            var line = ""
            for column in columns {
                let padding = String(repeating: " ", count: widths[column] - row[column].count)
                line += isNumeric[column] ? padding + row[column] : row[column] + padding
                line += "  "
            }
            while line.last == " " { line.removeLast() }
            return line
        }
        return lines.joined(separator: "\n")
    }
}
