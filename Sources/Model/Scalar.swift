/// A number with a meaning: an offset is not a term, and the compiler knows it.
///
/// A conforming type wraps one integer; ordering, hashing and printing follow it.
public protocol Scalar: RawRepresentable, Hashable, Comparable, Sendable, CustomStringConvertible
where RawValue: FixedWidthInteger & Sendable {
    /// Wraps a number that is known to be of this meaning.
    init(_ rawValue: RawValue)
}

extension Scalar {
    /// Wraps a number that is known to be of this meaning; every number is accepted.
    @inlinable
    public init(rawValue: RawValue) {
        self.init(rawValue)
    }

    /// Orders by the wrapped number.
    @inlinable
    public static func < (left: Self, right: Self) -> Bool {
        left.rawValue < right.rawValue
    }

    /// The number in decimal.
    public var description: String {
        String(rawValue)
    }
}
