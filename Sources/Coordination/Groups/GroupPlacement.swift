/// Which partition of `__consumer_offsets` a group's facts lie in; its leader coordinates the group.
///
/// As Kafka does it, since tools compute it: the group's name hashed like a Java string, modulo the partitions.
/// - Source: SEMANTICS rule FC-2.
package enum GroupPlacement {
    /// The partition's number.
    package static func partition(of group: String, count: Int) -> Int32 {
        precondition(count > 0, "a topic has partitions")
        let hash = javaHash(group)
        let magnitude = hash == .min ? 0 : abs(hash)
        return magnitude % Int32(clamping: count)
    }

    /// `String.hashCode()` of Java.
    static func javaHash(_ text: String) -> Int32 {
        text.utf16.reduce(0) { hash, unit in hash &* 31 &+ Int32(unit) }
    }
}
