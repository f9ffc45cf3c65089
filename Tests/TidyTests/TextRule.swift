/// Files are of a readable length and name no machine: a clone elsewhere reads the same.
enum TextRule {
    /// Lines beyond which a second idea is asking for its own file.
    static let lineLimit = 700

    /// Beginnings of paths that exist on one machine only; written in two halves, so that this file passes its own rule.
    private static let machinePaths = [
        "/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", "/tmp/p" + "kg-", "../sha" + "red",
    ]

    static func findings(path: String, text: String) -> [Finding] {
        var findings: [Finding] = []
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false)
            .enumerated()
        {
            for machinePath in machinePaths where line.contains(machinePath) {
                let problem = "names a path of one machine: \(machinePath)"
                findings.append(Finding(path: path, line: index + 1, problem: problem))
            }
        }
        return findings + length(path: path, text: text)
    }

    private static func length(path: String, text: String) -> [Finding] {
        guard path.hasSuffix(".swift"), !path.contains("/Generated/") else { return [] }
        let count = text.utf8.count { $0 == UInt8(ascii: "\n") }
        guard count > lineLimit else { return [] }
        let problem = "\(count) lines: beyond \(lineLimit) a second idea is asking for its own file"
        return [Finding(path: path, line: lineLimit, problem: problem)]
    }
}
