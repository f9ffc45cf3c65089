/// What the compiler cannot prove carries a line that does, and what would trap at run time is not written.
enum SafetyRule {
    static func findings(in source: SwiftSource) -> [Finding] {
        forcedTries(in: source) + uncheckedSendables(in: source) + pointers(in: source)
    }

    private static func forcedTries(in source: SwiftSource) -> [Finding] {
        pairs(of: source).compactMap { first, second in
            // `try !f()` is a negation.
            guard first.text == "try", second.text == "!",
                source.lines[first.line - 1].contains("try!")
            else { return nil }
            return Finding(
                path: source.path,
                line: first.line,
                problem: "`try!` traps; handle the error or let it pass"
            )
        }
    }

    private static func uncheckedSendables(in source: SwiftSource) -> [Finding] {
        let tokens = source.tokens
        return tokens.indices.dropLast(2).compactMap { index in
            let words = tokens[index...(index + 2)].map(\.text)
            guard
                words.prefix(2) == ["@unchecked", "Sendable"]
                    || words == ["nonisolated", "(", "unsafe"]
            else {
                return nil
            }
            let line = tokens[index].line
            guard !source.hasComment("Sendable because", at: line + 2, reach: 10) else {
                return nil
            }
            let problem =
                "needs a `// Sendable because` line that says what keeps two threads apart"
            return Finding(path: source.path, line: line, problem: problem)
        }
    }

    /// Folders where bytes are handled by pointer, each file with at least one proof.
    private static let pointerFolders = [
        "Sources/Storage/", "Sources/Records/", "Sources/Server/Disk/",
    ]

    private static let pointerTypes: Set<String> = [
        "UnsafePointer", "UnsafeMutablePointer", "UnsafeRawPointer", "UnsafeMutableRawPointer",
        "UnsafeBufferPointer",
        "UnsafeMutableBufferPointer", "UnsafeRawBufferPointer", "UnsafeMutableRawBufferPointer",
        "OpaquePointer",
        "withUnsafeBytes", "withUnsafeMutableBytes", "withUnsafeReadableBytes",
        "withUnsafeMutableReadableBytes",
        "withUnsafeMutableWritableBytes", "unsafeBitCast",
    ]

    private static func pointers(in source: SwiftSource) -> [Finding] {
        guard source.path.hasPrefix("Sources/") else { return [] }
        let isPointerFile = pointerFolders.contains { source.path.hasPrefix($0) }
        let hasProof = source.comments.values.contains { $0.contains("Safe:") }
        return source.tokens.filter { pointerTypes.contains($0.text) }.compactMap { token in
            let isProven =
                isPointerFile ? hasProof : source.hasComment("Safe:", at: token.line, reach: 12)
            guard !isProven else { return nil }
            let problem = "`\(token.text)` without a `// Safe:` line that proves its bounds"
            return Finding(path: source.path, line: token.line, problem: problem)
        }
    }

    private static func pairs(of source: SwiftSource) -> Zip2Sequence<
        [SwiftSource.Token], ArraySlice<SwiftSource.Token>
    > {
        zip(source.tokens, source.tokens.dropFirst())
    }
}
