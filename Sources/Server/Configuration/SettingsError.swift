/// One thing that is wrong with the settings.
package enum SettingProblem: Error, Hashable, Sendable, CustomStringConvertible {
    /// No setting has this name.
    case unknown(name: String, source: SettingSource, nearest: String?)
    /// A setting has a value that it cannot have.
    case invalid(name: String, value: String, expected: String)
    /// The same, with where the value stands.
    case invalidAt(name: String, value: String, source: SettingSource, expected: String)
    /// The setting has another name here.
    case renamed(name: String, source: SettingSource, to: String)
    /// Two settings contradict each other.
    case contradiction(String)
    /// The file could not be read or is not TOML.
    case file(path: String, reason: String)

    /// The problem as a sentence.
    package var description: String {
        switch self {
        case .unknown(let name, let source, let nearest):
            "\(name): no such setting (\(source))" + (nearest.map { "; did you mean \($0)?" } ?? "")
        case .invalid(let name, let value, let expected):
            "\(name): '\(value)' is not \(expected)"
        case .invalidAt(let name, let value, let source, let expected):
            "\(name): '\(value)' is not \(expected) (\(source))"
        case .renamed(let name, let source, let to):
            "\(name): is called \(to) here (\(source))"
        case .contradiction(let sentence):
            sentence
        case .file(let path, let reason):
            "\(path): \(reason)"
        }
    }
}

/// Everything that is wrong with the settings; the broker does not start.
package struct SettingsError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The problems, in the order of the sources: flags, environment, file.
    package let problems: [SettingProblem]

    /// One problem a line.
    package var description: String {
        problems.map { "\($0)" }.joined(separator: "\n")
    }
}

/// Where a value was set.
package enum SettingSource: Hashable, Sendable, CustomStringConvertible {
    /// A flag of the command line.
    case flag
    /// A variable of the environment.
    case environment(String)
    /// The configuration file.
    case file(String)
    /// Nowhere: the built-in value.
    case builtIn

    /// The source in words.
    package var description: String {
        switch self {
        case .flag: "flag"
        case .environment(let variable): "environment \(variable)"
        case .file(let path): "file \(path)"
        case .builtIn: "default"
        }
    }
}
