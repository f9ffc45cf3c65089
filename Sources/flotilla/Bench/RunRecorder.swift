import Histogram
import Synchronization

/// What one side of a run did, in all and second by second: producers, or consumers.
final class RunRecorder: Sendable {
    /// What was done, and how long it took.
    struct Sample {
        /// Nanoseconds from the moment at which a record was due.
        var latencies = Sample.emptyHistogram
        var recordCount = 0

        /// Ten minutes with three digits.
        static var emptyHistogram: Histogram<UInt64> {
            Histogram(
                highestTrackableValue: longestLatency,
                numberOfSignificantValueDigits: .three
            )
        }

        static let longestLatency: UInt64 = 600_000_000_000
    }

    private struct State {
        var total = Sample()
        var second = Sample()
        /// All records since the begin, with those outside of the measured time.
        var everyRecordCount = 0
        var failureCount = 0
        var firstError: String?
    }

    /// What was done before does not count, nor what was due before.
    let start: UInt64
    /// What is done from then on does not count, nor what was due from then on.
    let end: UInt64
    private let state = Mutex(State())

    init(start: UInt64, end: UInt64) {
        self.start = start
        self.end = end
    }

    /// Notes records that are done now, each with the time at which it was due.
    func note(due: some Sequence<UInt64>) {
        let now = Monotonic.now()
        state.withLock { state in
            for time in due {
                state.everyRecordCount += 1
                if now >= start, now < end {
                    state.total.recordCount += 1
                    state.second.recordCount += 1
                }
                guard time >= start, time < end else { continue }
                let latency = min(now - min(time, now), Sample.longestLatency)
                _ = state.total.latencies.record(latency)
                _ = state.second.latencies.record(latency)
            }
        }
    }

    /// Notes records that are done now and say nothing of when they were due.
    func note(count: Int) {
        let now = Monotonic.now()
        state.withLock { state in
            state.everyRecordCount += count
            guard now >= start, now < end else { return }
            state.total.recordCount += count
            state.second.recordCount += count
        }
    }

    /// Notes records that failed.
    func note(failures count: Int, _ reason: String) {
        state.withLock { state in
            state.failureCount += count
            if state.firstError == nil { state.firstError = reason }
        }
    }

    /// What was done since this was asked last.
    func takeSecond() -> Sample {
        state.withLock { state in
            defer { state.second = Sample() }
            return state.second
        }
    }

    /// All that was done within the measured time.
    var total: Sample { state.withLock(\.total) }

    /// Records done since the begin, also outside of the measured time.
    var everyRecordCount: Int { state.withLock(\.everyRecordCount) }

    /// How many failed, and why the first did.
    var failures: (count: Int, firstError: String?) {
        state.withLock { ($0.failureCount, $0.firstError) }
    }
}
