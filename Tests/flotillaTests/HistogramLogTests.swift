import Histogram
import NIOCore
import Testing

@testable import flotilla

@Suite("Histogram logs")
struct HistogramLogTests {
    private func histogram(_ values: [UInt64]) -> Histogram<UInt64> {
        var histogram = RunRecorder.Sample.emptyHistogram
        for value in values { _ = histogram.record(value) }
        return histogram
    }

    /// The places follow from HdrHistogram's own layout: 2,048 of one unit, then 1,024 of each doubling.
    @Test(
        "Places of values",
        arguments: [
            (0, 0), (1, 1), (2047, 2047), (2048, 2048), (2049, 2048), (2050, 2049), (4095, 3071),
            (4096, 3072), (4099, 3072), (4100, 3073),
        ] as [(UInt64, Int)]
    )
    func places(value: UInt64, place: Int) {
        #expect(HistogramLog.index(of: value, digits: .three) == place)
    }

    @Test("The encoded form: a head of 40 bytes, then counts with runs of zeros")
    func encoded() throws {
        var bytes = HistogramLog.encoded(histogram([3, 3, 5]))
        #expect(bytes.readInteger(as: UInt32.self) == 0x1C84_9313)
        #expect(bytes.readInteger(as: UInt32.self) == 4)
        #expect(bytes.readInteger(as: UInt32.self) == 0)
        #expect(bytes.readInteger(as: UInt32.self) == 3)
        #expect(bytes.readInteger(as: UInt64.self) == 1)
        #expect(bytes.readInteger(as: UInt64.self) == 600_000_000_000)
        #expect(bytes.readInteger(as: UInt64.self) == (1.0).bitPattern)
        // Three zeros, two threes, no four, one five; zigzag doubles, and a minus is odd.
        #expect(Array(bytes.readableBytesView) == [5, 4, 0, 2])
    }

    @Test("A line carries tag, times, the largest in milliseconds; an empty histogram has none")
    func lines() throws {
        var log = HistogramLog(startSeconds: 1_700_000_000)
        try log.add(histogram([]), tag: "produce", start: 0, length: 1)
        try log.add(histogram([1_500_000]), tag: "consume", start: 2, length: 1)
        let lines = log.text.split(separator: "\n")
        #expect(lines.count == 4)
        #expect(lines[1] == "#[StartTime: 1700000000.000 (seconds since epoch)]")
        #expect(lines[3].hasPrefix("Tag=consume,2.000,1.000,1.50"), "\(lines[3])")
        #expect(lines[3].contains(",HISTFAAA"))
    }
}

@Suite("Spreads")
struct SpreadTests {
    @Test("The median lies in the middle, or between two")
    func median() {
        #expect(Spread([3, 1, 2]).median == 2)
        #expect(Spread([4, 1, 2, 3]).median == 2.5)
        #expect(Spread([5]).lowest == 5)
        #expect(Spread([5, 7, 6]).highest == 7)
    }
}
