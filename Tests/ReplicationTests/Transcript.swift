import Testing

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// A conversation with a cluster, and what it answered: a text file of blocks.
///
/// A block is comments (`#`), commands, a line `----`, and the output that they produced, up to an empty line. With
/// `FLOTILLA_REWRITE_TRANSCRIPTS=1` in the environment the files are written anew instead of compared; a changed line is
/// then reviewed as a changed promise.
struct Transcript: CustomTestStringConvertible, Sendable {
    let path: String
    private let text: String

    var testDescription: String { path.split(separator: "/").last.map(String.init) ?? path }

    /// The transcripts beside the tests, by name.
    static func all(testFile: String = #filePath) -> [Transcript] {
        let folder = testFile.split(separator: "/").dropLast().joined(separator: "/")
        let directory = "/\(folder)/Transcripts"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted().compactMap { name in
            FileManager.default.contents(atPath: "\(directory)/\(name)").map { data in
                Transcript(
                    path: "\(directory)/\(name)",
                    text: String(decoding: data, as: UTF8.self)
                )
            }
        }
    }

    /// Runs every command and compares, or rewrites.
    func verify(_ run: (String) -> [String]) throws {
        let isRewriting =
            ProcessInfo.processInfo.environment["FLOTILLA_REWRITE_TRANSCRIPTS"] == "1"
        var rewritten: [String] = []
        for block in text.split(separator: "\n\n", omittingEmptySubsequences: true) {
            let lines = block.split(separator: "\n").map(String.init)
            let inputs = Array(lines.prefix { $0 != "----" })
            let commands = inputs.filter { !$0.hasPrefix("#") }
            let output = commands.flatMap(run)
            if !isRewriting {
                let expected = Array(lines.dropFirst(inputs.count + 1))
                #expect(
                    output == expected,
                    "\(testDescription), after: \(commands.joined(separator: " / "))"
                )
            }
            rewritten.append(
                (inputs + (commands.isEmpty ? [] : ["----"] + output)).joined(separator: "\n")
            )
        }
        if isRewriting {
            let data = Data((rewritten.joined(separator: "\n\n") + "\n").utf8)
            try data.write(to: URL(fileURLWithPath: path))
        }
    }
}
