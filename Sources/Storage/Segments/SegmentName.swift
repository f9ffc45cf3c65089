package import FlotillaModel

/// What a segment's files are called: the Kafka offset and the Raft index of its first entry.
///
/// The offset alone would do for data, but a segment may hold nothing except zero-width entries,
/// and then the next one begins at the same offset; the index tells them apart, and gives a segment
/// its place without opening it. Both are 20 digits, so the bytes of the names sort as the numbers
/// do. A `.state` file is named the same way, by the entry that follows it: one written at a roll
/// stands beside its segment, one written at a clean stop lies between two names.
package struct SegmentName: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The Kafka offset of the segment's first entry.
    package var baseOffset: Offset
    /// The Raft index of the segment's first entry.
    package var firstIndex: LogIndex

    /// Names a segment by its first entry.
    package init(baseOffset: Offset, firstIndex: LogIndex) {
        self.baseOffset = baseOffset
        self.firstIndex = firstIndex
    }

    /// Reads `<20 digits>-<20 digits>`; nil for anything else.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count == 2, parts.allSatisfy({ $0.utf8.count == Self.digitCount }),
            let offset = Int64(parts[0]), let index = UInt64(parts[1]), offset >= 0, index > 0
        else { return nil }
        self.init(baseOffset: Offset(offset), firstIndex: LogIndex(index))
    }

    /// Orders by offset, then by index, which is the order of the log.
    package static func < (left: SegmentName, right: SegmentName) -> Bool {
        (left.baseOffset, left.firstIndex) < (right.baseOffset, right.firstIndex)
    }

    /// `00000000000000000000-00000000000000000001`.
    package var description: String {
        "\(Self.padded(baseOffset.description))-\(Self.padded(firstIndex.description))"
    }

    /// The name of one of the segment's files.
    package func fileName(_ kind: SegmentFileKind) -> String {
        "\(self).\(kind.rawValue)"
    }

    private static let digitCount = 20

    private static func padded(_ digits: String) -> String {
        String(repeating: "0", count: digitCount - digits.utf8.count) + digits
    }
}

/// The files of a segment, by their suffix.
package enum SegmentFileKind: String, Hashable, Sendable, CaseIterable {
    /// Data payloads back to back.
    case log
    /// Payloads of all other kinds back to back.
    case control
    /// A header and one row per entry.
    case frames
    /// What holds just before the entry that the name states.
    case state
}

/// One file of a replica's directory, as its name tells.
struct SegmentFileName {
    var name: SegmentName
    var kind: SegmentFileKind

    /// Reads a file name; nil for what does not belong to a segment.
    init?(_ fileName: String) {
        let parts = fileName.split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count == 2, let name = SegmentName(parts[0]),
            let kind = SegmentFileKind(rawValue: String(parts[1]))
        else { return nil }
        self.name = name
        self.kind = kind
    }
}
