/// Imports follow the order of the targets, and the deterministic ones import nothing that reaches the world.
enum ImportRule {
    static func findings(in source: SwiftSource) -> [Finding] {
        guard let target = House.target(ofPath: source.path) else { return [] }
        return imports(of: source).compactMap { found in
            problem(found, in: target).map {
                Finding(path: source.path, line: found.line, problem: $0)
            }
        }
    }

    /// An `import` of a file: `import struct NIOCore.ByteBuffer` is module `NIOCore`, symbol `ByteBuffer`.
    struct Import: Equatable {
        let module: String
        let symbol: String?
        let line: Int
    }

    static func imports(of source: SwiftSource) -> [Import] {
        let kinds: Set = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
        var found: [Import] = []
        for (index, token) in source.tokens.enumerated() where token.text == "import" {
            var words = source.tokens[(index + 1)...].prefix {
                $0.line == token.line && $0.text != ";"
            }
            if let first = words.first, kinds.contains(first.text) {
                words = words.dropFirst()
            }
            guard let module = words.first else { continue }
            let symbol = words.dropFirst().first { $0.text != "." }
            found.append(Import(module: module.text, symbol: symbol?.text, line: token.line))
        }
        return found
    }

    private static func problem(_ found: Import, in target: String) -> String? {
        if found.module == "Foundation" {
            return "full Foundation brings 34 MB of ICU; import FoundationEssentials"
        }
        if let other = House.target(ofModule: found.module) {
            let isVisible = House.visible(from: target).contains(other)
            return isVisible
                ? nil : "\(target) may not see \(other): a target imports only what stands above it"
        }
        guard House.deterministic.contains(target) else { return nil }
        if House.plainModules.contains(found.module) || isByteBuffer(found) {
            return nil
        }
        return
            "\(target) is deterministic: of NIO it imports only NIOCore.ByteBuffer, and nothing that reaches the world"
    }

    private static func isByteBuffer(_ found: Import) -> Bool {
        found.module == "NIOCore" && found.symbol == "ByteBuffer"
    }
}
