package import FlotillaModel

/// Why bytes, a record or a setting could not be taken; each message says what to do or what happens next.
package enum CoordinationError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The bytes end before `field` does.
    case truncated(field: String)
    /// A length or count is more than the bytes can hold or more than its limit.
    case lengthOutOfBounds(field: String, length: Int)
    /// Text that is not UTF-8.
    case malformedText(field: String)
    /// A number that has no meaning in this place.
    case valueOutOfBounds(field: String, value: Int64)
    /// Bytes are left over after the last field.
    case trailingBytes(of: String, count: Int)
    /// The first bytes are not those of this format.
    case foreignFormat(expected: String)
    /// Written by a newer version of the program.
    case unsupportedVersion(format: String, version: Int)
    /// A record of a kind that this version does not know.
    case unknownRecordKind(Int)
    /// A command, or an answer to one, of a kind that this version does not know.
    case unknownCommandKind(Int)
    /// The bytes are not what was written.
    case checksumMismatch(format: String)
    /// A committed record that cannot follow what was applied before it.
    case contradiction(index: LogIndex, record: String, reason: String)
    /// A setting that does not exist, and the name most like it.
    case unknownConfig(name: String, nearest: String?)
    /// A setting's value that is not allowed.
    case invalidConfig(name: String, value: String, expected: String)
    /// A setting that only a restart changes.
    case readOnlyConfig(name: String)

    /// Kafka's code for it, where a client caused it.
    package var errorCode: ErrorCode {
        switch self {
        case .unknownConfig, .invalidConfig, .readOnlyConfig: .invalidConfig
        case .truncated, .lengthOutOfBounds, .malformedText, .valueOutOfBounds, .trailingBytes,
            .foreignFormat,
            .unsupportedVersion, .unknownRecordKind, .unknownCommandKind, .checksumMismatch,
            .contradiction:
            .unknownServerError
        }
    }

    /// The error as a sentence.
    package var description: String {
        switch self {
        case .truncated(let field):
            "\(field): the bytes end too early; nothing of them was applied"
        case .lengthOutOfBounds(let field, let length):
            "\(field): a length of \(length) is more than the bytes hold or than is allowed"
        case .malformedText(let field):
            "\(field): not valid UTF-8"
        case .valueOutOfBounds(let field, let value):
            "\(field): \(value) has no meaning here"
        case .trailingBytes(let format, let count):
            "\(format): \(count) bytes left over after the last field"
        case .foreignFormat(let expected):
            "not a \(expected): its first bytes are those of something else"
        case .unsupportedVersion(let format, let version):
            "\(format): version \(version) is newer than this program knows; start a newer one"
        case .unknownRecordKind(let kind):
            "metadata record of unknown kind \(kind): stopping here, since skipping it would fork the state"
        case .unknownCommandKind(let kind):
            "metadata command of unknown kind \(kind): the other broker is newer; nothing was changed"
        case .checksumMismatch(let format):
            "\(format): checksum mismatch; it is fetched again or rebuilt from the log"
        case .contradiction(let index, let record, let reason):
            "metadata entry \(index): \(record) contradicts what was applied before (\(reason)); stopping here"
        case .unknownConfig(let name, let nearest?):
            "unknown setting \(name); did you mean \(nearest)?"
        case .unknownConfig(let name, nil):
            "unknown setting \(name)"
        case .invalidConfig(let name, let value, let expected):
            "invalid value \(value) for \(name): expected \(expected)"
        case .readOnlyConfig(let name):
            "\(name) cannot be changed while the broker runs; set it in the configuration file and restart"
        }
    }
}

/// A command's or an item's refusal: what the client is told.
package struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kafka's code.
    package var code: ErrorCode
    /// A sentence for people.
    package var message: String

    /// Refuses with a code and a sentence.
    package init(_ code: ErrorCode, _ message: String) {
        self.code = code
        self.message = message
    }

    /// Refuses because of a setting.
    init(_ error: CoordinationError) {
        self.init(error.errorCode, error.description)
    }

    /// The code and the sentence.
    package var description: String {
        "\(code): \(message)"
    }
}
