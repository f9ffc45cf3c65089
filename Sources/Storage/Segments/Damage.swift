package import FlotillaModel

/// A part of a log that is there and not what was written, or that should be there and is not.
///
/// Damage is told, kept and worked around; it is never cut away. What lies around it is served.
package struct Damage: Hashable, Sendable, CustomStringConvertible {
    /// What is wrong.
    package enum Reason: String, Hashable, Sendable {
        /// Bytes or files that recovery knows were durable are gone.
        case missing = "is missing"
        /// The head of a file is not readable; its content may be.
        case header = "has a damaged header"
        /// A frame fails its checksum, or its fields contradict its place.
        case frame = "has a damaged frame"
        /// Time or position of an entry fail their checksum, or contradict the entries around it.
        case row = "has a damaged index row"
        /// A sound frame does not continue the one before it.
        case chain = "does not continue the log before it"
        /// A batch fails its own checksum.
        case payload = "has a damaged payload"
        /// A `.state` file is not readable.
        case state = "is a damaged state file"
    }

    /// The entries that cannot be read; nil when only a header or a `.state` file is touched.
    package var indexes: ClosedRange<LogIndex>?
    /// The Kafka offsets of those entries, as far as their neighbours tell.
    package var offsets: Range<Offset>?
    /// The file.
    package var file: String
    /// The first byte in the file that is known to be touched.
    package var position: Int64
    /// What is wrong.
    package var reason: Reason

    /// Describes damage.
    package init(
        indexes: ClosedRange<LogIndex>?,
        offsets: Range<Offset>?,
        file: String,
        position: Int64,
        reason: Reason
    ) {
        self.indexes = indexes
        self.offsets = offsets
        self.file = file
        self.position = position
        self.reason = reason
    }

    /// The damage as a sentence.
    package var description: String {
        var text = "\(file): byte \(position) \(reason.rawValue)"
        if let indexes {
            text += "; entries \(indexes.lowerBound) to \(indexes.upperBound)"
        }
        if let offsets {
            text += ", offsets \(offsets.lowerBound) up to \(offsets.upperBound),"
        }
        return text + (indexes == nil ? "" : " cannot be read")
    }

    /// What is left of the damage when these entries are whole again; of a part it is not known which offsets it took.
    func parts(outside whole: Range<LogIndex>) -> [Damage] {
        guard let indexes, indexes.lowerBound < whole.upperBound,
            whole.lowerBound <= indexes.upperBound
        else { return [self] }
        var parts: [Damage] = []
        if indexes.lowerBound < whole.lowerBound {
            parts.append(part(indexes.lowerBound...(whole.lowerBound - 1)))
        }
        if whole.upperBound <= indexes.upperBound {
            parts.append(part(whole.upperBound...indexes.upperBound))
        }
        return parts
    }

    private func part(_ indexes: ClosedRange<LogIndex>) -> Damage {
        var part = self
        part.indexes = indexes
        part.offsets = nil
        return part
    }

    /// The same damage extended by a neighbour of the same cause; nil when the two do not touch.
    func merged(with next: Damage) -> Damage? {
        guard reason == next.reason, file == next.file, let indexes, let following = next.indexes,
            indexes.upperBound.next == following.lowerBound
        else { return nil }
        var merged = self
        merged.indexes = indexes.lowerBound...following.upperBound
        if let offsets, let later = next.offsets {
            merged.offsets = offsets.lowerBound..<max(offsets.upperBound, later.upperBound)
        }
        return merged
    }
}
