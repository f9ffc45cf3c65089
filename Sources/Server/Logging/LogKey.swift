import Logging

/// The keys of log lines: one word per thing, the same in every component.
package enum LogKey: String, CaseIterable, Sendable {
    /// This broker's id.
    case node
    /// Another broker's id.
    case peer
    /// Which of the connections to a peer.
    case lane
    /// A topic's name.
    case topic
    /// A partition's number.
    case partition
    /// A consumer group, or the Raft group of a partition.
    case group
    /// What a client calls itself.
    case client
    /// The peer's or an own address.
    case address
    /// A Kafka API.
    case api
    /// A Raft term.
    case term
    /// An offset.
    case offset
    /// A file or directory.
    case path
    /// A number of things.
    case count
    /// A number of bytes.
    case bytes
    /// A time that something took, in milliseconds.
    case millis
    /// Why something happened.
    case reason
    /// What went wrong.
    case error
    /// A version of this program.
    case version
    /// A setting's name.
    case setting
    /// A setting's value.
    case value
    /// A signal of the system.
    case signal
}

extension Logger.Metadata {
    /// Metadata with keys from the one list.
    package static func of(_ values: KeyValuePairs<LogKey, any CustomStringConvertible & Sendable>)
        -> Self
    {
        Dictionary(values.map { ($0.key.rawValue, .stringConvertible($0.value)) }) { _, last in last
        }
    }
}
