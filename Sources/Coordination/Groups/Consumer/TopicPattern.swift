import CRE2

/// A regular expression in RE2's syntax that names topics by a full match.
///
/// Patterns come from clients, so the time of a match is in proportion to the topic's name, and the memory has a limit. RE2 keeps both
/// promises, and its syntax, without backreferences and lookaround, is the one that the protocol names. Swift's own `Regex` backtracks
/// and can take exponential time.
///
/// In proportion is not for nothing: names of 249 bytes take below a microsecond by most patterns, and 0.5 ms by the worst that is taken,
/// whose states outgrow the memory. What has more steps is refused, so that no pattern holds the broker up for all its topics.
///
/// - Source: KIP-848, "Regex-based subscriptions"; SEMANTICS rule CG-7; RE2's syntax page.
@safe package final class TopicPattern: @unchecked Sendable {
    // Sendable because the compiled expression is never changed: RE2 allows concurrent matches and guards what it caches by itself.
    // Safe: RE2's object from `init` to `deinit`, and never anything else.
    private let expression: OpaquePointer

    /// Bytes that a pattern may have.
    package static let maximumByteCount = 4096
    /// Bytes of memory for one pattern, with what RE2 keeps between two matches.
    package static let memoryLimit = 1 << 20
    /// The most steps that a match may take for each byte of a name.
    package static let maximumSize = 1_024
    /// Bytes of an explanation that are passed on; it may quote the whole pattern.
    private static let explanationCapacity = 512

    /// The pattern as the member gave it.
    package let text: String
    /// The most steps that it takes for each byte of a name.
    package let size: Int

    /// - Throws: with RE2's explanation, for one that is no expression, is longer than 4,096 bytes, has too many steps or takes too much memory.
    package init(_ text: String) throws(TopicPatternError) {
        guard text.utf8.count <= Self.maximumByteCount else {
            throw TopicPatternError(
                explanation: "it is longer than \(Self.maximumByteCount) bytes"
            )
        }
        var explanation = [CChar](repeating: 0, count: Self.explanationCapacity)
        // Safe: the text's bytes are lent with their count for the call; the explanation ends within the capacity passed.
        let expression = unsafe flotilla_re2_compile(
            text,
            text.utf8.count,
            Int64(Self.memoryLimit),
            &explanation,
            explanation.count
        )
        guard let expression = unsafe expression else {
            let words = explanation.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            throw TopicPatternError(explanation: String(decoding: words, as: UTF8.self))
        }
        // Safe: as above; it is freed here where `deinit` will not do it.
        let size = unsafe Int(flotilla_re2_size(expression))
        guard size <= Self.maximumSize else {
            unsafe flotilla_re2_free(expression)
            throw TopicPatternError(
                explanation: "it has \(size) steps, and may have \(Self.maximumSize)"
            )
        }
        unsafe self.expression = expression
        self.text = text
        self.size = size
    }

    deinit {
        // Safe: made in `init`, and nobody else has it.
        unsafe flotilla_re2_free(expression)
    }

    /// Whether the pattern describes the whole name.
    package func matches(_ topic: String) -> Bool {
        // Safe: the name's bytes are lent with their count for the call, and the expression lives as long as this object.
        unsafe flotilla_re2_matches(expression, topic, topic.utf8.count)
    }
}

/// Why a text is not taken as a pattern.
package struct TopicPatternError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What is wrong, in RE2's words where it is the syntax.
    package let explanation: String

    /// The error as a sentence.
    package var description: String {
        "not a pattern for topics: \(explanation)"
    }
}
