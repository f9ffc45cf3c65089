@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

/// The slow, obvious model: all batches in a list, looked through from the start each time; what is too old is taken out at once.
private struct Model {
    struct Item {
        var batch: ProducerBatch
        var index: LogIndex
        var offset: Offset
        var appendTime: Timestamp
        var isCommitted = false
    }

    var limits: ProducerLimits
    var items: [Item] = []
    var clock = Timestamp(0)

    func check(_ batch: ProducerBatch) -> ProducerVerdict {
        let mine = items.filter { $0.batch.producer == batch.producer }
        guard let newest = mine.last else { return .append }
        if batch.epoch < newest.batch.epoch { return .refused(.invalidProducerEpoch) }
        if batch.epoch > newest.batch.epoch {
            return batch.baseSequence == 0 ? .append : .refused(.outOfOrderSequenceNumber)
        }
        let current = mine.filter { $0.batch.epoch == batch.epoch }
        let window = current.filter { !$0.isCommitted } + current.filter(\.isCommitted).suffix(5)
        if let original = window.first(where: { $0.batch == batch }) {
            return original.isCommitted
                ? .duplicate(
                    baseOffset: original.offset,
                    timestamp: Timestamp(original.offset.rawValue * 10)
                )
                : .inFlightDuplicate(of: original.index)
        }
        let next =
            (Int64(newest.batch.baseSequence) + Int64(newest.batch.lastOffsetDelta) + 1)
            % (Int64(Int32.max) + 1)
        return Int64(batch.baseSequence) == next ? .append : .refused(.outOfOrderSequenceNumber)
    }

    mutating func commit(_ index: LogIndex, appendTime: Timestamp) {
        clock = max(clock, appendTime)
        forgetExpired(but: index)
        guard let place = items.firstIndex(where: { $0.index == index }) else { return }
        let producer = items[place].batch.producer
        let known = Set(items.filter(\.isCommitted).map(\.batch.producer))
        if !known.contains(producer), known.count >= limits.maximumProducerCount {
            let oldestFirst = known.sorted { lastIndex(of: $0) < lastIndex(of: $1) }
            forget(Array(oldestFirst.prefix(limits.maximumProducerCount / 8)))
        }
        if let place = items.firstIndex(where: { $0.index == index }) {
            items[place].isCommitted = true
        }
    }

    private func lastIndex(of producer: ProducerID) -> LogIndex {
        items.last { $0.isCommitted && $0.batch.producer == producer }?.index ?? 0
    }

    private mutating func forgetExpired(but index: LogIndex) {
        let known = Set(items.filter(\.isCommitted).map(\.batch.producer))
        forget(
            known.filter { producer in
                let last = items.last { $0.isCommitted && $0.batch.producer == producer }
                return clock.rawValue - (last?.appendTime.rawValue ?? 0) > limits.expirationMillis
            }
        )
    }

    private mutating func forget(_ producers: some Collection<ProducerID>) {
        items.removeAll { $0.isCommitted && producers.contains($0.batch.producer) }
    }
}

@Suite("Producer state against a model")
struct ProducerPropertyTests {
    @Test(
        "Appends, retries, gaps, new epochs, commits, losses and time in any order: verdicts are the model's, and so is every replica's state",
        arguments: 0..<60 as Range<UInt64>
    )
    func model(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let limits = ProducerLimits(expirationMillis: 50, maximumProducerCount: 8)
        let log = ProducerLog(limits: limits)
        var model = Model(limits: limits)
        var sent: [ProducerBatch] = []
        for _ in 0..<600 {
            switch Int.random(in: 0..<11, using: &random) {
            case 0..<6:
                let batch = Self.batch(sent, &random)
                sent.append(batch)
                let verdict = log.produce(batch)
                #expect(verdict == model.check(batch))
                if verdict == .append, let entry = log.entries.last {
                    model.items.append(
                        Model.Item(
                            batch: batch,
                            index: entry.index,
                            offset: entry.baseOffset,
                            appendTime: entry.appendTime
                        )
                    )
                }
            case 6..<9:
                guard log.appliedCount < log.entries.count else { continue }
                let entry = log.entries[log.appliedCount]
                log.commitNext()
                model.commit(entry.index, appendTime: entry.appendTime)
                #expect(
                    log.state.producerCount
                        == Set(model.items.filter(\.isCommitted).map(\.batch.producer)).count
                )
            case 9:
                let waiting = log.entries.count - log.appliedCount
                let count = Int.random(in: 0...min(2, waiting), using: &random)
                log.refuseLast(count)
                model.items.removeAll { item in
                    !item.isCommitted && !log.entries.contains { $0.index == item.index }
                }
            default:
                if Int.random(in: 0..<5, using: &random) == 0 {
                    log.loseLeadership()
                    model.items.removeAll { !$0.isCommitted }
                } else {
                    log.clock = Timestamp(
                        log.clock.rawValue + Int64.random(in: 0...40, using: &random)
                    )
                }
            }
        }
        #expect(log.verdictCounts.allSatisfy { $0 > 0 }, "each verdict came up")
        try replay(log, limits: limits, random: &random)
    }

    /// Another replica applies the same entries and starts again from a snapshot in the middle: its bytes are the same.
    private func replay(_ log: ProducerLog, limits: ProducerLimits, random: inout SeededRandom)
        throws
    {
        var replica = ProducerState(limits: limits)
        let restart = Int.random(in: 0...log.appliedCount, using: &random)
        for (place, entry) in log.entries[..<log.appliedCount].enumerated() {
            if place == restart {
                replica = try ProducerState(snapshot: replica.snapshot(), limits: limits)
            }
            ProducerLog.apply(entry, to: &replica)
        }
        replica.checkInvariants()
        #expect(replica.snapshot() == log.state.snapshot())
    }

    /// Mostly the next batch of a producer; sometimes a retry, a gap, a new or an old epoch.
    private static func batch(_ sent: [ProducerBatch], _ random: inout SeededRandom)
        -> ProducerBatch
    {
        let producer = ProducerID(Int64.random(in: 0..<12, using: &random))
        let count = Int32.random(in: 1...3, using: &random)
        guard let last = sent.last(where: { $0.producer == producer }) else {
            let base =
                Bool.random(using: &random)
                ? 0 : Int32.max - Int32.random(in: 0...6, using: &random)
            return .of(producer, base, count: count)
        }
        switch Int.random(in: 0..<12, using: &random) {
        case 0..<2:
            return sent[Int.random(in: max(0, sent.count - 30)..<sent.count, using: &random)]
        case 2:
            return .of(
                producer,
                epoch: last.epoch,
                Int32.random(in: 0...5, using: &random),
                count: count
            )
        case 3:
            return .of(
                producer,
                epoch: last.epoch + 1,
                Int32.random(in: 0...1, using: &random),
                count: count
            )
        case 4: return .of(producer, epoch: max(0, last.epoch - 1), 0, count: count)
        default:
            return .of(
                producer,
                epoch: last.epoch,
                ProducerSequence.advance(last.lastSequence, by: 1),
                count: count
            )
        }
    }
}
