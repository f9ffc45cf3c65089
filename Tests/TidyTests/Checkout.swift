import Foundation

/// The files of this repository as they lie on the disk.
enum Checkout {
    /// The repository's root, two folders above this one.
    static let root = URL(filePath: #filePath).resolvingSymlinksInPath().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()

    /// Folders that are written by people and kept in the repository.
    static let folders = [
        "Sources", "Tests", "Tools", "Fuzz", "bench", "config", "docs", "scripts",
    ]

    /// Every file with one of these endings below `folders`, sorted; paths count from the root.
    static func files(endingWith endings: [String]) -> [String] {
        folders.flatMap { folder -> [String] in
            let names = FileManager.default.enumerator(
                atPath: root.appending(path: folder).path(percentEncoded: false)
            )
            let paths = names?.compactMap { $0 as? String } ?? []
            return paths.map { "\(folder)/\($0)" }
        }
        .filter { path in endings.contains { path.hasSuffix($0) } }
        .filter { !$0.contains("/.build") && !$0.contains("__pycache__") }
        .sorted()
    }

    /// A file's text.
    static func text(of path: String) throws -> String {
        try String(contentsOf: root.appending(path: path), encoding: .utf8)
    }

    /// Every Swift file, taken apart.
    static func swiftSources() throws -> [SwiftSource] {
        try files(endingWith: [".swift"]).map { SwiftSource(path: $0, text: try text(of: $0)) }
    }
}
