import FlotillaClient
import FlotillaModel

/// Where `flotilla group seek` puts a group.
enum SeekTarget: Equatable {
    /// The same place in each partition.
    case place(Place)
    /// So many records from where the group stands.
    case shift(Int64)

    /// Of `--to` and `--by`, one of which is given.
    init(to: String?, by: String?, now: Timestamp = WallTime.now()) throws(CommandFailure) {
        switch (to, by) {
        case (let to?, nil):
            guard let place = Place(to, now: now) else {
                throw .usage(
                    "--to \(to) is no place: start, end, an offset, +n (after the start), -n (before the end), @time"
                )
            }
            self = .place(place)
        case (nil, let by?):
            guard let count = Int64(by) else { throw .usage("--by takes a number, such as -100") }
            self = .shift(count)
        case (nil, nil): throw .usage("say where to: --to PLACE, or --by N records")
        case (_?, _?): throw .usage("--to and --by exclude each other")
        }
    }

    /// Where that is in a partition whose records lie within `readable`.
    ///
    /// `found`: what the broker says of a named place; it may be a number out of range. `committed`: where the group stands.
    /// Nil where there is nothing to shift.
    func offset(
        found: Offset?,
        committed: Offset?,
        readable: Range<Offset>
    ) -> Offset? {
        let wanted: Offset?
        switch self {
        case .place: wanted = found
        case .shift(let count):
            wanted = committed.map { committed in
                let (sum, isOver) = committed.rawValue.addingReportingOverflow(count)
                return Offset(isOver ? (count > 0 ? .max : .min) : sum)
            }
        }
        return wanted.map { min(max($0, readable.lowerBound), readable.upperBound) }
    }
}

/// Which partitions `--topic` means: `orders`, `orders:0,3`, `orders:0-3`.
struct TopicChoice: Equatable {
    var topic: String
    /// Empty for all.
    var partitions: [Int32]

    init(_ text: String) throws(CommandFailure) {
        let parts = text.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard let topic = parts.first, !topic.isEmpty else {
            throw .usage("--topic takes TOPIC or TOPIC:0,1,4-7")
        }
        self.topic = String(topic)
        partitions = []
        guard parts.count > 1 else { return }
        for piece in parts[1].split(separator: ",", omittingEmptySubsequences: false) {
            let ends = piece.split(separator: "-", omittingEmptySubsequences: false).map {
                Int32($0)
            }
            guard let first = ends.first ?? nil, let last = ends.last ?? nil, ends.count <= 2,
                first >= 0, last >= first, last - first < 100_000
            else { throw .usage("\"\(piece)\" is no partition: --topic TOPIC:0,1,4-7") }
            partitions += first...last
        }
    }
}
