/// The position of a record in a partition, counted in records from 0.
///
/// Offsets number what clients see; `LogIndex` numbers the entries beneath. Frames carry both.
@frozen
public struct Offset: Scalar {
    /// The offset as Kafka writes it.
    public var rawValue: Int64

    /// Wraps an offset.
    @inlinable
    public init(_ rawValue: Int64) {
        self.rawValue = rawValue
    }

    /// The offset of a partition's first record.
    public static let zero = Offset(0)

    /// The offset `count` records further on.
    @inlinable
    public static func + (offset: Offset, count: Int64) -> Offset {
        Offset(offset.rawValue + count)
    }

    /// The number of records from `start` up to, and without, `end`.
    @inlinable
    public static func - (end: Offset, start: Offset) -> Int64 {
        end.rawValue - start.rawValue
    }
}
