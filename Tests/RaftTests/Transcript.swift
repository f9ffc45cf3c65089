import Testing

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// A conversation with a group, and what it answered: a text file of blocks.
///
/// A block is comments (`#`), commands, a line `----`, and the output that they produced, up to an
/// empty line. With `FLOTILLA_REWRITE_TRANSCRIPTS=1` in the environment the files are written anew
/// instead of compared; a changed line is then reviewed as a changed promise.
struct Transcript: CustomTestStringConvertible, Sendable {
    struct Block: Sendable {
        var comments: [String] = []
        var commands: [String] = []
        var output: [String] = []
    }

    let path: String
    let blocks: [Block]

    var testDescription: String {
        path.split(separator: "/").last.map(String.init) ?? path
    }

    /// The transcripts beside the tests, by name.
    static func all(testFile: String = #filePath) -> [Transcript] {
        let folder = testFile.split(separator: "/").dropLast().joined(separator: "/")
        let directory = "/\(folder)/Transcripts"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        return names.filter { $0.hasSuffix(".txt") }.sorted().compactMap { name in
            guard let data = FileManager.default.contents(atPath: "\(directory)/\(name)") else {
                return nil
            }
            return Transcript(
                path: "\(directory)/\(name)",
                text: String(decoding: data, as: UTF8.self)
            )
        }
    }

    init(path: String, text: String) {
        self.path = path
        var blocks: [Block] = []
        var block = Block()
        var isOutput = false
        for line in text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
            if line.isEmpty {
                if !block.commands.isEmpty || !block.comments.isEmpty {
                    blocks.append(block)
                }
                block = Block()
                isOutput = false
            } else if isOutput {
                block.output.append(line)
            } else if line == "----" {
                isOutput = true
            } else if line.hasPrefix("#") {
                block.comments.append(line)
            } else {
                block.commands.append(line)
            }
        }
        if !block.commands.isEmpty || !block.comments.isEmpty {
            blocks.append(block)
        }
        self.blocks = blocks
    }

    /// Runs every command and compares, or rewrites.
    func verify(_ run: (String) -> [String]) throws {
        let isRewriting =
            ProcessInfo.processInfo.environment["FLOTILLA_REWRITE_TRANSCRIPTS"] == "1"
        var text: [String] = []
        for block in blocks {
            let output = block.commands.flatMap(run)
            if !isRewriting {
                #expect(
                    output == block.output,
                    "\(testDescription), after: \(block.commands.joined(separator: " / "))"
                )
            }
            text += block.comments + block.commands
            text += block.commands.isEmpty ? [""] : ["----"] + output + [""]
        }
        if isRewriting {
            let data = Data(text.joined(separator: "\n").utf8)
            try data.write(to: URL(fileURLWithPath: path))
        }
    }
}
