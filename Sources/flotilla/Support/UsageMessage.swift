/// What is wrong with a command line, in one sentence.
///
/// It is made of what the parser says over several lines: the error, and where to find help. An option takes no value that
/// begins with `-`, so the parser calls a negative number missing, or an option; here it is named.
enum UsageMessage {
    /// The sentence.
    ///
    /// `message` is the parser's error, and `full` the same with usage and the pointer to help; `arguments` is the command
    /// line without the program, and `commands` are the names that may stand where an argument was not expected.
    static func text(
        _ message: String,
        full: String,
        arguments: [String],
        commands: [String] = []
    ) -> String {
        var text = Words.trimmed(message.prefix { !$0.isNewline })
        if text.hasSuffix(".") { text.removeLast() }
        if let end = text.firstRange(of: ". Please provide one of ") {
            text = "\(text[..<end.lowerBound]): it takes \(text[end.upperBound...])"
        }
        if let negative = negativeNumber(text, arguments) {
            text = negative
        } else if text.hasPrefix("Unexpected argument '"), let word = quoted(text) {
            let nearest = Words.nearest(to: word, among: commands)
            text += nearest.map { "; did you mean \($0)?" } ?? ""
        }
        if let first = text.first, text.dropFirst().first?.isLowercase == true {
            text = first.lowercased() + text.dropFirst()
        }
        guard let help = helpCommand(full) else { return text }
        return text + (text.hasSuffix("?") ? " " : "; ") + "\(help) says more"
    }

    /// `Missing value for '-p <p>'` where `-p -1` was written, and the like.
    private static func negativeNumber(_ text: String, _ arguments: [String]) -> String? {
        func isNegative(_ argument: String) -> Bool {
            argument.hasPrefix("-") && argument.dropFirst().first?.isNumber == true
        }
        guard let word = quoted(text) else { return nil }
        if text.hasPrefix("Missing value for '") {
            let option = word.prefix { $0 != " " }
            let place = arguments.firstIndex { $0 == option }
            guard let place, place + 1 < arguments.count, isNegative(arguments[place + 1]) else {
                return nil
            }
            return "\(option) takes no negative number: \(arguments[place + 1])"
        }
        if text.hasPrefix("Missing expected argument '") {
            guard let number = arguments.first(where: isNegative) else { return nil }
            return "\(word) is no negative number: \(number)"
        }
        if text.hasPrefix("Unknown option '"), isNegative(word) {
            return "a negative number makes no sense here: \(word)"
        }
        return nil
    }

    /// What stands between the first two quotation marks.
    private static func quoted(_ text: String) -> String? {
        let parts = text.split(separator: "'", maxSplits: 2, omittingEmptySubsequences: false)
        return parts.count == 3 ? String(parts[1]) : nil
    }

    /// `flotilla topic create --help`.
    private static func helpCommand(_ full: String) -> String? {
        for line in full.split(whereSeparator: \.isNewline).reversed() {
            guard Words.trimmed(line).hasPrefix("See '") else { continue }
            return quoted(String(line))
        }
        return nil
    }
}
