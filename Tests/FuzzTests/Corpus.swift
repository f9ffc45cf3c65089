import Foundation

/// The inputs that fuzzing found worth keeping: `Fuzz/Corpus/<target>.base64`, a line for each.
enum Corpus {
    /// The inputs of a fuzzer.
    static func inputs(of target: String) throws -> [[UInt8]] {
        let root = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let file = root.appending(path: "Fuzz/Corpus/\(target).base64")
        return try String(contentsOf: file, encoding: .utf8).split(separator: "\n").map { line in
            guard let data = Data(base64Encoded: String(line)) else {
                throw NotBase64(line: String(line))
            }
            return [UInt8](data)
        }
    }

    /// A line of a corpus that cannot be read.
    struct NotBase64: Error {
        let line: String
    }
}
