@testable import FlotillaCoordination
import FlotillaModel
import struct NIOCore.ByteBuffer
import Testing

/// A partition's log as far as producers go: the leader's side.
final class ProducerLog {
    struct Entry {
        var index: LogIndex
        var batch: ProducerBatch
        var baseOffset: Offset
        var timestamp: Timestamp
        var appendTime: Timestamp
    }

    var state: ProducerState
    var entries: [Entry] = []
    var appliedCount = 0
    var clock: Timestamp = 1000
    var notes: [InFlightNote] = []
    /// What became of the batches, so that a test knows that it saw all there is.
    var verdictCounts = [0, 0, 0, 0]

    init(limits: ProducerLimits = .standard) {
        state = ProducerState(limits: limits)
    }

    /// Appends what the check lets through.
    func produce(_ batch: ProducerBatch) -> ProducerVerdict {
        let verdict = state.check(batch)
        if verdict == .append {
            let last = entries.last
            let offset = last.map { $0.baseOffset + Int64($0.batch.lastOffsetDelta) + 1 } ?? 0
            let index = max(last?.index ?? 0, state.appliedIndex).next
            entries.append(
                Entry(
                    index: index,
                    batch: batch,
                    baseOffset: offset,
                    timestamp: Timestamp(offset.rawValue * 10),
                    appendTime: clock
                )
            )
            notes.append(state.noteAppended(batch, at: index))
        }
        state.checkInvariants()
        switch verdict {
        case .append: verdictCounts[0] += 1
        case .duplicate: verdictCounts[1] += 1
        case .inFlightDuplicate: verdictCounts[2] += 1
        case .refused: verdictCounts[3] += 1
        }
        return verdict
    }

    func commitNext() {
        Self.apply(entries[appliedCount], to: &state)
        appliedCount += 1
        state.checkInvariants()
    }

    func commitAll() {
        while appliedCount < entries.count {
            commitNext()
        }
    }

    static func apply(_ entry: Entry, to state: inout ProducerState) {
        state.apply(
            entry.batch,
            at: entry.index,
            baseOffset: entry.baseOffset,
            timestamp: entry.timestamp,
            appendTime: entry.appendTime
        )
    }

    func loseLeadership() {
        state.dropUncommitted()
        entries.removeLast(entries.count - appliedCount)
        notes.removeLast(notes.count - appliedCount)
        state.checkInvariants()
    }

    /// The last `count` batches could not be appended.
    func refuseLast(_ count: Int) {
        for note in notes.suffix(count) {
            state.withdraw(note)
            state.withdraw(note)
            state.checkInvariants()
        }
        entries.removeLast(count)
        notes.removeLast(count)
    }
}

extension ProducerBatch {
    static func of(_ producer: ProducerID, epoch: Int16 = 0, _ base: Int32, count: Int32 = 1)
        -> ProducerBatch
    {
        ProducerBatch(
            producer: producer,
            epoch: epoch,
            baseSequence: base,
            lastOffsetDelta: count - 1
        )
    }
}

@Suite("Idempotent producers")
struct ProducerStateTests {
    @Test(
        "A retry of one of the last five batches is answered with the original's offset and timestamp (IDEM-1)"
    )
    func duplicates() {
        let log = ProducerLog()
        for sequence in 0..<7 as Range<Int32> {
            #expect(log.produce(.of(1, sequence * 3, count: 3)) == .append)
        }
        log.commitAll()
        for sequence in 2..<7 as Range<Int32> {
            let offset = Int64(sequence) * 3
            #expect(
                log.produce(.of(1, sequence * 3, count: 3))
                    == .duplicate(baseOffset: Offset(offset), timestamp: Timestamp(offset * 10))
            )
        }
        #expect(
            log.produce(.of(1, 3, count: 3)) == .refused(.outOfOrderSequenceNumber),
            "the sixth last (IDEM-4)"
        )
        #expect(
            log.produce(.of(1, 18, count: 2)) == .refused(.outOfOrderSequenceNumber),
            "a part of a known one (IDEM-4)"
        )
        #expect(
            log.produce(.of(1, 17, count: 4)) == .refused(.outOfOrderSequenceNumber),
            "more than a known one (IDEM-4)"
        )
        #expect(log.entries.count == 7)
    }

    @Test(
        "A retry of a batch in flight waits for the original and is a duplicate when that is committed (bug 17)"
    )
    func inFlight() {
        let log = ProducerLog()
        #expect(log.produce(.of(1, 0)) == .append)
        #expect(log.produce(.of(1, 1)) == .append)
        #expect(log.produce(.of(1, 0)) == .inFlightDuplicate(of: 1))
        #expect(log.produce(.of(1, 1)) == .inFlightDuplicate(of: 2))
        log.commitNext()
        #expect(log.produce(.of(1, 0)) == .duplicate(baseOffset: 0, timestamp: 0))
        #expect(log.produce(.of(1, 1)) == .inFlightDuplicate(of: 2))
        log.commitNext()
        #expect(log.produce(.of(1, 1)) == .duplicate(baseOffset: 1, timestamp: 10))
        #expect(log.state.inFlightCount == 0)
    }

    @Test(
        "A retry whose original was dropped at step-down is appended anew; what was committed stays known"
    )
    func dropped() {
        let log = ProducerLog()
        _ = log.produce(.of(1, 0))
        log.commitAll()
        _ = log.produce(.of(1, 1))
        _ = log.produce(.of(2, 0))
        log.loseLeadership()
        #expect(log.state.inFlightCount == 0)
        #expect(
            log.produce(.of(1, 2)) == .refused(.outOfOrderSequenceNumber),
            "IDEM-6: the client resends in order"
        )
        #expect(log.produce(.of(1, 1)) == .append)
        #expect(log.produce(.of(1, 0)) == .duplicate(baseOffset: 0, timestamp: 0))
    }

    @Test(
        "A batch that could not be appended is forgotten by its note, and not the one that took its index meanwhile"
    )
    func withdrawn() {
        let log = ProducerLog()
        _ = log.produce(.of(1, 0))
        _ = log.produce(.of(2, 0))
        let stale = log.notes
        log.state.withdraw(stale[0])
        log.state.noteAppended(.of(1, 0), at: 1)
        log.state.withdraw(stale[0])
        #expect(log.state.check(.of(1, 0)) == .inFlightDuplicate(of: 1))
        log.state.withdraw(stale[1])
        #expect(log.state.check(.of(2, 5)) == .append)
        log.state.checkInvariants()
    }

    @Test("Only the suffix from an index on is dropped when only that is truncated")
    func suffix() {
        let log = ProducerLog()
        for sequence in 0..<4 as Range<Int32> {
            _ = log.produce(.of(1, sequence))
        }
        log.state.dropUncommitted(from: 3)
        log.state.checkInvariants()
        #expect(log.state.inFlightCount == 2)
        #expect(log.state.check(.of(1, 1)) == .inFlightDuplicate(of: 2))
        #expect(log.state.check(.of(1, 2)) == .append)
        log.state.dropUncommitted(from: 100)
        #expect(log.state.inFlightCount == 2)
    }

    @Test(
        "A lower epoch is INVALID_PRODUCER_EPOCH (IDEM-2); a higher one begins at 0 (IDEM-3), committed or not",
        arguments: [true, false]
    )
    func epochs(isCommitted: Bool) {
        let log = ProducerLog()
        _ = log.produce(.of(1, epoch: 3, 0))
        if isCommitted { log.commitAll() }
        #expect(log.produce(.of(1, epoch: 2, 1)) == .refused(.invalidProducerEpoch))
        #expect(log.produce(.of(1, epoch: 4, 1)) == .refused(.outOfOrderSequenceNumber))
        #expect(log.produce(.of(1, epoch: 4, 0)) == .append)
        if isCommitted { log.commitAll() }
        #expect(
            log.produce(.of(1, epoch: 3, 0)) == .refused(.invalidProducerEpoch),
            "a duplicate of an old epoch is fenced"
        )
        #expect(log.produce(.of(1, epoch: 4, 1)) == .append)
        log.commitAll()
        #expect(log.produce(.of(1, epoch: 4, 0)) == .duplicate(baseOffset: 1, timestamp: 10))
    }

    @Test(
        "The next sequence follows the last, and after 2147483647 comes 0 (IDEM-4)",
        arguments: [
            (0, 1, 1), (0, 10, 10), (Int32.max, 1, 0), (Int32.max - 1, 2, 0), (Int32.max - 1, 5, 3),
            (Int32.max, Int32.max, Int32.max - 1),
        ] as [(Int32, Int32, Int32)]
    )
    func wrap(base: Int32, count: Int32, next: Int32) {
        let log = ProducerLog()
        #expect(log.produce(.of(1, base, count: count)) == .append)
        #expect(log.produce(.of(1, next &+ 1 & Int32.max)) == .refused(.outOfOrderSequenceNumber))
        #expect(log.produce(.of(1, next)) == .append)
        log.commitAll()
        #expect(log.produce(.of(1, base, count: count)) == .duplicate(baseOffset: 0, timestamp: 0))
    }

    @Test(
        "A gap is OUT_OF_ORDER_SEQUENCE_NUMBER (IDEM-4), and a producer that is not known begins anywhere (IDEM-5)"
    )
    func gaps() {
        let log = ProducerLog()
        #expect(log.produce(.of(1, 500)) == .append)
        #expect(log.produce(.of(1, 502)) == .refused(.outOfOrderSequenceNumber))
        #expect(log.produce(.of(1, 0)) == .refused(.outOfOrderSequenceNumber))
        #expect(log.produce(.of(2, epoch: 9, 7)) == .append)
        log.commitAll()
        #expect(log.produce(.of(1, 502)) == .refused(.outOfOrderSequenceNumber))
        #expect(log.produce(.of(1, 501)) == .append)
    }

    @Test("A producer is forgotten by the time of appends alone, also those of others (IDEM-7)")
    func expiry() {
        let log = ProducerLog(
            limits: ProducerLimits(expirationMillis: 100, maximumProducerCount: 8)
        )
        _ = log.produce(.of(1, 0))
        log.commitAll()
        log.clock = 1100
        _ = log.produce(.of(2, 0))
        log.commitAll()
        #expect(
            log.produce(.of(1, 9)) == .refused(.outOfOrderSequenceNumber),
            "idle for 100 ms is not yet too long"
        )
        log.state.advance(to: 3, appendTime: 1101)
        #expect(log.state.producerCount == 1)
        #expect(log.state.check(.of(1, 9)) == .append)
        #expect(log.state.check(.of(1, 0)) == .append)
    }

    @Test("Append time that goes back does not bring a producer back")
    func clockBack() {
        var state = ProducerState(
            limits: ProducerLimits(expirationMillis: 100, maximumProducerCount: 8)
        )
        state.apply(.of(1, 0), at: 1, baseOffset: 0, timestamp: 0, appendTime: 1000)
        state.advance(to: 2, appendTime: 2000)
        state.advance(to: 3, appendTime: 1000)
        #expect(state.producerCount == 0)
        #expect(state.appendTime == 2000)
    }

    @Test("Beyond the bound those idle longest are forgotten, an eighth at a time")
    func bound() {
        let log = ProducerLog(
            limits: ProducerLimits(expirationMillis: 1000, maximumProducerCount: 16)
        )
        for producer in 0..<16 as Range<Int64> {
            _ = log.produce(.of(ProducerID(producer), 0))
        }
        _ = log.produce(.of(0, 1))
        log.commitAll()
        #expect(log.state.producerCount == 16)
        _ = log.produce(.of(100, 0))
        log.commitAll()
        #expect(log.state.producerCount == 15)
        #expect(log.state.entries.map(\.producer) == [0] + (3..<16).map { ProducerID($0) } + [100])
    }

    @Test("Entries of other kinds move the state on and commit what lies before them")
    func otherEntries() {
        let log = ProducerLog()
        _ = log.produce(.of(1, 0))
        log.commitAll()
        log.state.advance(to: 7, appendTime: 1001)
        #expect(log.state.appliedIndex == 7)
        #expect(log.produce(.of(1, 1)) == .append)
        #expect(log.entries.last?.index == 8)
    }

    @Test(
        "A batch behind an entry of Raft's own is in flight until it is applied itself"
    )
    func behindMembership() {
        var state = ProducerState(limits: .standard)
        state.noteAppended(.of(1, 0), at: 1)
        state.advance(to: 1, appendTime: 1000)
        state.checkInvariants()
        #expect(state.check(.of(1, 0)) == .inFlightDuplicate(of: 1))
        state.apply(.of(1, 0), at: 2, baseOffset: 0, timestamp: 0, appendTime: 1000)
        state.checkInvariants()
        #expect(state.inFlightCount == 0)
        #expect(state.check(.of(1, 0)) == .duplicate(baseOffset: 0, timestamp: 0))
    }

    @Test("The overlay stays small however long the leader leads")
    func longOverlay() {
        let log = ProducerLog()
        for sequence in 0..<5000 as Range<Int32> {
            #expect(log.produce(.of(1, sequence)) == .append)
            if sequence >= 10 { log.commitNext() }
        }
        #expect(log.state.inFlightCount == 10)
        log.commitAll()
        #expect(log.state.inFlightCount == 0)
    }

    @Test("A snapshot is read back to the same state and bytes; what is in flight is not in it")
    func snapshot() throws {
        let log = ProducerLog()
        for sequence in 0..<7 as Range<Int32> {
            _ = log.produce(.of(5, sequence))
            _ = log.produce(.of(3, epoch: Int16.max, sequence * 2, count: 2))
        }
        log.commitAll()
        let bytes = log.state.snapshot()
        _ = log.produce(.of(5, 7))
        #expect(log.state.snapshot() == bytes)
        let restored = try ProducerState(snapshot: bytes)
        restored.checkInvariants()
        #expect(restored.snapshot() == bytes)
        #expect(restored.check(.of(5, 6)) == .duplicate(baseOffset: 18, timestamp: 180))
        #expect(restored.check(.of(5, 7)) == .append)
        #expect(restored.check(.of(3, epoch: Int16.max, 14)) == .append)
    }

    @Test("The bytes of an empty state are what the format's table says")
    func golden() {
        var state = ProducerState()
        state.advance(to: 2, appendTime: 3)
        let body: [UInt8] = [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let head = Array("FLPS".utf8) + [1, 0, 20, 0, 0, 0] + body
        var expected = ByteBuffer(bytes: head)
        expected.writeInteger(crc32c(head), endianness: .little)
        #expect(state.snapshot() == expected)
    }

    @Test(
        "A snapshot cut or changed at any byte is an error; one with a right checksum and wrong content never traps"
    )
    func damage() throws {
        let log = ProducerLog()
        _ = log.produce(.of(5, 0))
        _ = log.produce(.of(9, 0))
        log.commitAll()
        let bytes = Array(log.state.snapshot().readableBytesView)
        for place in bytes.indices {
            #expect(throws: CoordinationError.self) {
                try ProducerState(snapshot: ByteBuffer(bytes: bytes[..<place]))
            }
            var flipped = bytes
            flipped[place] ^= 0x10
            #expect(throws: CoordinationError.self) {
                try ProducerState(snapshot: ByteBuffer(bytes: flipped))
            }
            for value in [0, 6, 0x7F, 0xFF] as [UInt8] where place < bytes.count - 4 {
                var hostile = Array(bytes.dropLast(4))
                hostile[place] = value
                var buffer = ByteBuffer(bytes: hostile)
                buffer.writeInteger(crc32c(hostile), endianness: .little)
                if let state = try? ProducerState(snapshot: buffer) {
                    state.checkInvariants()
                    _ = state.check(.of(5, 1))
                }
            }
        }
    }

    @Test(
        "Transactions' fields are in the format already: an open one keeps its producer for ever (IDEM-7)"
    )
    func transactionFields() throws {
        var entry = ProducerEntry(epoch: 1, batches: [], lastIndex: 1, lastAppendTime: 0)
        entry.transactionStart = 17
        entry.coordinatorEpoch = 4
        let limits = ProducerLimits(expirationMillis: 10, maximumProducerCount: 8)
        let state = ProducerState(
            limits: limits,
            appliedIndex: 1,
            appendTime: 1000,
            entries: [(7, entry)]
        )
        #expect(state.producerCount == 1)
        let restored = try ProducerState(snapshot: state.snapshot(), limits: limits)
        #expect(restored.entries.map(\.entry) == [entry])
        #expect(
            restored.check(.of(7, epoch: 1, 1)) == .refused(.outOfOrderSequenceNumber),
            "an epoch without a batch begins at 0"
        )
        #expect(restored.check(.of(7, epoch: 1, 0)) == .append)
    }
}

/// An allocator that expectations may change.
private final class Allocator {
    var value = ProducerIDAllocator()

    func take() -> ProducerID? { value.take() }
    func shouldAsk() -> Bool { value.shouldAsk() }
    func accept(_ block: ProducerIDBlock) { value.accept(block) }
    func askFailed() { value.askFailed() }
    var remainingCount: Int { value.remainingCount }
}

@Suite("Producer ids of a broker")
struct ProducerIDAllocatorTests {
    @Test(
        "Ids come from blocks, each once; the next block is asked for when a tenth is left (PID-1)"
    )
    func blocks() {
        let allocator = Allocator()
        #expect(allocator.take() == nil)
        #expect(allocator.shouldAsk())
        #expect(!allocator.shouldAsk(), "once per block")
        allocator.accept(ProducerIDBlock(start: 5000, count: 1000))
        var ids: [ProducerID?] = []
        for taken in 0..<1000 {
            if taken == 900 {
                #expect(allocator.shouldAsk())
                allocator.accept(ProducerIDBlock(start: 9000, count: 1000))
            } else {
                #expect(!allocator.shouldAsk())
            }
            ids.append(allocator.take())
        }
        #expect(ids == (5000..<6000).map { ProducerID($0) })
        #expect(allocator.take() == 9000)
        #expect(allocator.remainingCount == 999)
    }

    @Test("A block that did not come is asked for again")
    func failure() {
        let allocator = Allocator()
        #expect(allocator.shouldAsk())
        allocator.askFailed()
        #expect(allocator.take() == nil)
        #expect(allocator.shouldAsk())
    }
}
