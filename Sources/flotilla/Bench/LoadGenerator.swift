import FlotillaClient
import NIOCore

/// Offers records to a producer, each at its time; the tag is when it was due.
struct LoadGenerator {
    let topic: String
    let payload: PayloadKind
    let recordByteCount: Int
    /// Whether records have keys, so that every partition gets some in turn.
    let isKeyed: Bool
    /// Nanoseconds between two records; nil: as fast as it goes.
    let interval: Double?
    let begin: UInt64
    let end: UInt64

    /// Runs until the end; `stamp` may write into a value, which is due at the second argument's time.
    func run(
        _ producer: Producer,
        stamp: (ByteBuffer, UInt64) -> ByteBuffer = { value, _ in value }
    ) async throws {
        var schedule = Schedule(self)
        while let (due, value) = try await schedule.next() {
            let record = schedule.record(stamp(value, due))
            while true {
                do throws(ClientError) {
                    try producer.enqueue(record, tag: due)
                    break
                } catch {
                    guard error == .bufferFull else { throw error }
                    await producer.waitForRoom()
                }
            }
            if schedule.number % 256 == 0 { await Task.yield() }
        }
    }

    /// The same, but each record waits for the acknowledgement of the one before; `done` learns when each was due.
    func runOneAtATime(
        _ producer: Producer,
        stamp: (ByteBuffer, UInt64) -> ByteBuffer,
        done: (UInt64, ClientError?) -> Void
    ) async throws {
        var schedule = Schedule(self)
        while let (due, value) = try await schedule.next() {
            do throws(ClientError) {
                _ = try await producer.send(schedule.record(stamp(value, due)))
                done(due, nil)
            } catch {
                done(due, error)
            }
        }
    }

    /// When which record is due.
    private struct Schedule {
        private let generator: LoadGenerator
        private var values: Payload
        private var hasBegun = false
        /// How many records there were.
        private(set) var number: UInt64 = 0

        init(_ generator: LoadGenerator) {
            self.generator = generator
            values = Payload(generator.payload, byteCount: generator.recordByteCount)
        }

        /// Waits for the next record's time; nil at the end.
        mutating func next() async throws -> (due: UInt64, value: ByteBuffer)? {
            if !hasBegun {
                hasBegun = true
                try await Self.wait(until: generator.begin)
            }
            while true {
                let now = Monotonic.now()
                guard now < generator.end else { return nil }
                let due =
                    generator.interval.map { generator.begin + UInt64(Double(number) * $0) } ?? now
                if due <= now {
                    number += 1
                    return (due, values.value())
                }
                try await Self.wait(until: min(due, generator.end))
            }
        }

        func record(_ value: ByteBuffer) -> ProducerRecord {
            let key =
                generator.isKeyed ? ByteBuffer(integer: number &* 0x9E37_79B9_7F4A_7C15) : nil
            return ProducerRecord(topic: generator.topic, key: key, value: value)
        }

        /// Timers are coarse: the last part is spent looking at the clock.
        private static func wait(until time: UInt64) async throws {
            let now = Monotonic.now()
            guard time > now, time - now > 200_000 else { return }
            try await Task.sleep(
                for: .nanoseconds(Int64(time - now) - 100_000),
                tolerance: .zero
            )
        }
    }
}
