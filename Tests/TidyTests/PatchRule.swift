/// A patch of a planted bug applies to the files as they are: else nobody notices that it plants nothing any more.
enum PatchRule {
    /// A part of a patch that replaces some lines of one file.
    private struct Hunk {
        var path: String
        var line: Int
        /// The lines that it expects, those that it takes out among them.
        var expected: [Substring] = []
    }

    /// The hunks whose lines stand nowhere in their files; `text` reads a file.
    static func findings(
        path: String,
        patch: String,
        text: (String) throws -> String
    ) rethrows -> [Finding] {
        var findings: [Finding] = []
        for hunk in hunks(patch) {
            let wanted = hunk.expected.map { $0 + "\n" }.joined()
            guard try !text(hunk.path).contains(wanted) else { continue }
            findings.append(
                Finding(
                    path: path,
                    line: hunk.line,
                    problem: "\(hunk.path) has changed there: make the patch anew"
                )
            )
        }
        return findings
    }

    private static func hunks(_ patch: String) -> [Hunk] {
        var hunks: [Hunk] = []
        var target = ""
        var isInHunk = false
        for (number, line) in patch.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            if line.hasPrefix("diff ") {
                isInHunk = false
            } else if line.hasPrefix("+++ b/") {
                target = String(line.dropFirst(6))
            } else if line.hasPrefix("@@") {
                isInHunk = true
                hunks.append(Hunk(path: target, line: number + 1))
            } else if isInHunk, line.hasPrefix(" ") || line.hasPrefix("-") {
                hunks[hunks.count - 1].expected.append(line.dropFirst())
            }
        }
        return hunks
    }
}
