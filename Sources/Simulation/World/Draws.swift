import FlotillaEnvironment

// Chance as faults and workloads want it.

extension SeededRandom {
    /// A number of a closed range.
    mutating func draw(_ range: ClosedRange<Int>) -> Int {
        Int.random(in: range, using: &self)
    }

    /// A duration between two, in nanoseconds.
    mutating func draw(_ least: Duration, _ most: Duration) -> Duration {
        .nanoseconds(Int64.random(in: least.wholeNanoseconds...most.wholeNanoseconds, using: &self))
    }

    /// A duration that is mostly short and sometimes many times as long.
    mutating func drawLongTailed(_ usual: Duration) -> Duration {
        let scale = usual.wholeNanoseconds
        let factor: Int64 =
            switch draw(0...99) {
            case 0: 50
            case 1...9: 6
            default: 1
            }
        return .nanoseconds(Int64.random(in: scale / 4...scale * factor, using: &self))
    }

    /// True in so many of a hundred cases.
    mutating func chance(_ percent: Int) -> Bool {
        draw(0...99) < percent
    }
}
