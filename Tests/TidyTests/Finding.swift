/// A place that breaks a rule of the house, in words that say what to do.
struct Finding: Hashable, CustomStringConvertible {
    /// The file, from the repository's root.
    let path: String
    /// The line, from 1.
    let line: Int
    /// What is wrong and what would be right.
    let problem: String

    var description: String {
        "\(path):\(line): \(problem)"
    }
}
