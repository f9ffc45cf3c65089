import Synchronization

/// A count that only grows.
package final class CounterMetric: Sendable {
    private let count = Atomic<Int64>(0)

    /// Starts at 0.
    package init() {}

    /// Adds to the count, from any thread.
    package func add(_ amount: Int64 = 1) {
        count.wrappingAdd(amount, ordering: .relaxed)
    }

    /// The count.
    package var value: Int64 {
        count.load(ordering: .relaxed)
    }

    /// Back to 0.
    func reset() {
        count.store(0, ordering: .relaxed)
    }
}

/// A value that goes up and down.
package final class GaugeMetric: Sendable {
    private let bits = Atomic<UInt64>(0)

    /// Starts at 0.
    package init() {}

    /// Sets the value, from any thread.
    package func set(_ value: Double) {
        bits.store(value.bitPattern, ordering: .relaxed)
    }

    /// Adds to the value, from any thread.
    package func add(_ amount: Double) {
        var current = bits.load(ordering: .relaxed)
        while true {
            let sum = (Double(bitPattern: current) + amount).bitPattern
            let (isDone, original) = bits.weakCompareExchange(
                expected: current,
                desired: sum,
                ordering: .relaxed
            )
            if isDone {
                return
            }
            current = original
        }
    }

    /// The value.
    package var value: Double {
        Double(bitPattern: bits.load(ordering: .relaxed))
    }
}

/// A distribution: how many values fell below each bound, and their sum.
///
/// Values are whole numbers in a small unit (nanoseconds, bytes), shown in the base unit (seconds,
/// bytes). Adding one takes no lock; a reader may see a count without its part of the sum.
package final class HistogramMetric: Sendable {
    /// Bounds and scale.
    package struct Layout: Hashable, Sendable {
        /// The upper bounds, ascending, inclusive, in the small unit.
        package var bounds: [Int64]
        /// What one of the small unit is in the base unit.
        package var scale: Double

        /// Describes a distribution.
        package init(bounds: [Int64], scale: Double) {
            self.bounds = bounds
            self.scale = scale
        }

        /// Times from 50 microseconds to 10 seconds, given in nanoseconds and shown in seconds.
        package static let seconds = Layout(
            bounds: [
                50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000,
                25_000_000, 50_000_000,
                100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000,
                10_000_000_000,
            ],
            scale: 1e-9
        )

        /// Sizes from 256 bytes to 256 MiB.
        package static let bytes = Layout(bounds: (0...10).map { 256 << (2 * $0) }, scale: 1)
    }

    private final class Cell: Sendable {
        let count = Atomic<Int64>(0)
    }

    /// Bounds and scale.
    package let layout: Layout
    private let cells: [Cell]
    private let sum = Atomic<Int64>(0)

    /// Starts empty.
    package init(_ layout: Layout = .seconds) {
        self.layout = layout
        cells = (0...layout.bounds.count).map { _ in Cell() }
    }

    /// Adds a value in the small unit, from any thread.
    package func record(_ value: Int64) {
        var low = 0
        var high = layout.bounds.count
        while low < high {
            let middle = (low + high) / 2
            if layout.bounds[middle] < value {
                low = middle + 1
            } else {
                high = middle
            }
        }
        cells[low].count.wrappingAdd(1, ordering: .relaxed)
        sum.wrappingAdd(value, ordering: .relaxed)
    }

    /// How many values lie in each range between bounds, and their sum in the base unit.
    package var contents: (counts: [Int64], sum: Double) {
        (
            cells.map { $0.count.load(ordering: .relaxed) },
            Double(sum.load(ordering: .relaxed)) * layout.scale
        )
    }
}
