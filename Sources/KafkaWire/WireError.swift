/// Why bytes are not a Kafka message, or why a message cannot be written in the version asked for.
///
/// Reading errors mean that the peer sent something malformed: the connection is closed. Writing
/// errors mean that our own code filled in something the version cannot carry.
package enum WireError: Error, Hashable, CustomStringConvertible {
    /// A value ends after the bytes that are left.
    case truncated(byteCount: Int, left: Int)
    /// A length or count that is negative, or that promises more than the bytes left can hold.
    case invalidLength(Int, left: Int)
    /// A variable-length integer that does not end within 32 bits.
    case varintTooLong
    /// Null where this version does not allow it.
    case unexpectedNull
    /// A nullable struct begins with neither -1 nor 1.
    case invalidMarker(Int8)
    /// Tags of one struct must ascend.
    case tagOutOfOrder(UInt32)
    /// A tagged field whose value does not fill the size it announces.
    case tagSizeMismatch(left: Int)
    /// More array elements and tagged fields than a message may hold.
    case tooManyElements(limit: Int)
    /// A frame's length prefix is negative or beyond the limit.
    case frameLength(Int, limit: Int)
    /// An API key that no schema knows.
    case unknownAPI(Int16)
    /// A version outside the schema of the message.
    case unsupportedVersion(message: String, version: Int16)
    /// A field has a value that this version cannot carry, and dropping it would change the meaning.
    case fieldNotInVersion(field: String, version: Int16)
    /// Null was given for a field that cannot be null in this version.
    case nullNotAllowed
    /// A value is longer than its length field can say.
    case valueTooLong(byteCount: Int)

    /// One sentence for the log.
    package var description: String {
        switch self {
        case .truncated(let byteCount, let left):
            "a value of \(byteCount) bytes is cut off: only \(left) are left"
        case .invalidLength(let length, let left):
            "a length of \(length) does not fit into the \(left) bytes left"
        case .varintTooLong:
            "a variable-length integer is longer than 32 bits"
        case .unexpectedNull:
            "null stands where this version needs a value"
        case .invalidMarker(let marker):
            "a nullable struct begins with \(marker); -1 or 1 is expected"
        case .tagOutOfOrder(let tag):
            "tag \(tag) does not ascend"
        case .tagSizeMismatch(let left):
            "a tagged field leaves \(left) of its bytes unread"
        case .tooManyElements(let limit):
            "the message has more than \(limit) elements"
        case .frameLength(let length, let limit):
            "a frame of \(length) bytes; 0 to \(limit) are accepted"
        case .unknownAPI(let key):
            "API key \(key) is unknown"
        case .unsupportedVersion(let message, let version):
            "\(message) has no version \(version)"
        case .fieldNotInVersion(let field, let version):
            "\(field) is set, and version \(version) cannot carry it"
        case .nullNotAllowed:
            "a field is null, and this version cannot carry null there"
        case .valueTooLong(let byteCount):
            "a value of \(byteCount) bytes is longer than its length field can say"
        }
    }
}
