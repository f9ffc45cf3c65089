import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Where a reader is in a partition, and what it finds on its way: no offset is missing, and each holds what others saw there.
final class PartitionCursor {
    let partition: TopicPartition
    /// The next offset to read.
    private(set) var offset: Int64 = 0
    private unowned let world: World
    private let history: History
    private let decompressor = Decompressor()

    /// What came of an answer.
    enum Outcome {
        case taken
        /// The bytes do not pass their checks, which only damage excuses.
        case unreadable
        /// A promise was broken, and the run ends.
        case violation
    }

    /// A broker in one life of its process.
    struct Source {
        var broker: Int
        var life: Int

        init(_ broker: Int, in world: World) {
            self.broker = broker
            life = world.brokers[broker].life
        }
    }

    /// Whether bits changed under a broker that had checked them already: its scrub finds that, and every client before it.
    ///
    /// What lay on the disk when the process began is checked before it is served.
    private func mayHaveRotted(_ source: Source) -> Bool {
        guard world.plan.damagesDisks else { return false }
        let broker = world.brokers[source.broker]
        return broker.life != source.life || broker.isDamagedInThisLife
    }

    init(_ partition: TopicPartition, world: World, history: History) {
        self.partition = partition
        self.world = world
        self.history = history
    }

    /// Goes to an offset: the start of a pass, or of what is left.
    func move(to offset: Int64) { self.offset = offset }

    /// Takes what was fetched at the cursor's offset.
    ///
    /// `source`: the life of the broker that was asked.
    /// `found` is called for each record, with its offset and name.
    func take(
        _ part: FetchResponse.PartitionData,
        from source: Source,
        found: (Int64, String) -> Void = { _, _ in }
    ) -> Outcome {
        var bytes = part.records?.buffer ?? ByteBuffer()
        do {
            while let batch = try RecordBatch.next(from: &bytes) {
                var iterator = try RecordIterator(batch, using: decompressor, limit: 1 << 24)
                while let record = try iterator.next() {
                    let place = record.offset.rawValue
                    guard place >= offset else { continue }
                    if place > offset {
                        world.lose(
                            "\(partition): offsets \(offset) up to \(place) are missing",
                            of: partition
                        )
                        guard world.violation == nil else { return .violation }
                    }
                    let value = record.value.map { String(buffer: $0) } ?? ""
                    let name = String(value.prefix { $0 != ":" })
                    history.seen(name, partition, at: place)
                    found(place, name)
                    offset = place + 1
                }
            }
            return .taken
        } catch  where mayHaveRotted(source) {
            return .unreadable
        } catch {
            world.violate("\(partition): what was fetched at \(offset) cannot be read: \(error)")
            return .violation
        }
    }
}
