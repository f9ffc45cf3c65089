/// The rules for topics' names.
///
/// - Source: SEMANTICS rules GEN-5 and GEN-6.
package enum TopicName {
    /// The longest name.
    package static let maximumByteCount = 249

    /// The topic that holds consumer groups.
    package static let consumerOffsets = "__consumer_offsets"

    /// Topics that hold the cluster's own state.
    package static let internalNames = [
        consumerOffsets, "__transaction_state", "__share_group_state",
    ]

    /// The metadata log, which tools ask for by this name; no topic may have it.
    package static let clusterMetadata = "__cluster_metadata"

    /// What is wrong with a name; nil when it is good.
    package static func fault(in name: String) -> String? {
        if name.isEmpty {
            return "a topic's name must not be empty"
        }
        if name == "." || name == ".." {
            return "a topic must not be named \(name)"
        }
        if name.utf8.count > maximumByteCount {
            return
                "a topic's name has at most \(maximumByteCount) characters, this one \(name.utf8.count)"
        }
        if name == clusterMetadata {
            return "\(name) is the name of the cluster's own log"
        }
        guard name.utf8.allSatisfy(isAllowed) else {
            return
                "the name of topic \(name.debugDescription) may have only letters, digits, '.', '_' and '-'"
        }
        return nil
    }

    /// The name as metrics spell it: names with the same form collide.
    package static func metricForm(of name: String) -> String {
        String(name.map { $0 == "." ? "_" : $0 })
    }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "-"):
            true
        default: false
        }
    }

    /// Whether a topic may have this name (GEN-5).
    package static func isValid(_ name: String) -> Bool {
        fault(in: name) == nil
    }

    /// Whether the name is one of the broker's own topics (GEN-6).
    package static func isInternal(_ name: String) -> Bool {
        internalNames.contains(name)
    }
}
