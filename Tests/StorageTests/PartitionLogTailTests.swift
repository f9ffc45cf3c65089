import FlotillaModel
import FlotillaRecords
import FlotillaSimulation
import Testing

@testable import FlotillaStorage

import struct NIOCore.ByteBuffer

@Suite("The tail in memory")
struct PartitionLogTailTests {
    private func makeLog(_ number: Int32, _ resources: LogResources) -> PartitionLog {
        let partition = TopicPartition(topic: TopicID(high: 7, low: 9), partition: number)
        return PartitionLog.create(
            group: GroupID(partition: partition, epoch: CreationEpoch(1)),
            directory: "data",
            resources: resources,
            configuration: LogConfiguration()
        )
    }

    private func flush(_ log: PartitionLog) throws {
        while let write = log.nextWrite(minimumByteCount: 1) { try log.finish(write.perform()) }
    }

    @Test("stays within its budget over many logs, as soon as segments have the entries")
    func budget() throws {
        let budget = TailBudget(byteCount: 1 << 20)
        let resources = LogResources(disk: MemoryDisk(), tail: budget, segments: SegmentCache())
        let logs = (0..<5).map { makeLog($0, resources) }
        var makers = Array(repeating: EntryMaker(), count: 5)
        for round in 0..<200 {
            let number = round % 5
            logs[number].append([
                makers[number].data(valueByteCount: round % 2 == 0 ? 8_000 : 30_000)
            ])
            logs[number].commit(upTo: logs[number].lastIndex)
            try flush(logs[number])
            #expect(budget.pinnedByteCount <= 1 << 20)
        }
        for log in logs { #expect(log.window.isEmpty || log.window.firstIndex > LogIndex(1)) }
    }

    @Test("one entry that cannot go does not keep its chunk, and is still there")
    func stuckEntry() throws {
        let budget = TailBudget(byteCount: 1 << 20)
        let resources = LogResources(disk: MemoryDisk(), tail: budget, segments: SegmentCache())
        let stuck = makeLog(0, resources)
        let busy = makeLog(1, resources)
        var stuckMaker = EntryMaker()
        var busyMaker = EntryMaker()
        let entry = stuckMaker.data(valueByteCount: 77)
        stuck.append([entry])
        for _ in 0..<1_000 {
            busy.append([busyMaker.data(valueByteCount: 5_000)])
            busy.commit(upTo: busy.lastIndex)
            try flush(busy)
        }
        #expect(budget.pinnedByteCount <= 1 << 20)
        #expect(areEqual(stuck.window[LogIndex(1)].entry, entry))
        stuck.commit(upTo: LogIndex(1))
        try flush(stuck)
        #expect(stuck.pendingByteCount == 0)
    }

    @Test("holds all that is not in segments, whatever the budget")
    func unwritten() throws {
        let fixture = LogFixture(tailByteCount: 0)
        PartitionLogTests.mixed(fixture, count: 200)
        #expect(fixture.log.window.firstIndex == LogIndex(1))
        #expect(try fixture.readAll(from: .zero) == fixture.expectedBytes(from: .zero))
        #expect(fixture.log.journalSuffix()?.count == 200)
        try fixture.commit()
        try fixture.write()
        #expect(fixture.log.window.isEmpty)
        #expect(fixture.log.journalSuffix() == nil)
        try fixture.sync()
        #expect(fixture.log.journalSuffix()?.isEmpty == true)
    }

    @Test(
        "copies small batches away from the block that they came in, and counts the block of a large one once"
    )
    func pinnedBlocks() throws {
        let budget = TailBudget(byteCount: 64 << 20)
        let resources = LogResources(disk: MemoryDisk(), tail: budget, segments: SegmentCache())
        let log = makeLog(0, resources)
        var maker = EntryMaker()
        var block = ByteBuffer()
        let sizes = [100, 20_000, 30_000]
        var plain: [LogEntry] = []
        for size in sizes {
            let entry = maker.data(valueByteCount: size)
            entry.write(into: &block)
            plain.append(entry)
        }
        block.reserveCapacity(1 << 20)
        let received = try sizes.map { _ in try LogEntry(parsing: &block) }
        log.append([received[0]])
        #expect(budget.pinnedByteCount == TailChunk.byteCapacity)
        log.append([received[1]])
        #expect(budget.pinnedByteCount == TailChunk.byteCapacity + (1 << 20) + Frame.byteCount)
        log.append([received[2]])
        #expect(budget.pinnedByteCount == TailChunk.byteCapacity + (1 << 20) + 2 * Frame.byteCount)
        for (number, entry) in plain.enumerated() {
            #expect(areEqual(log.window[LogIndex(UInt64(number) + 1)].entry, entry))
        }
    }

    @Test("a chunk is filled behind slices that are still in use, and leaves them as they are")
    func chunkSlices() {
        let chunk = TailChunk()
        let window = TailWindow(lastIndex: .zero)
        var slices: [ByteBuffer] = []
        for number in 0..<100 {
            let body = ByteBuffer(repeating: UInt8(number), count: 1_000)
            let position = chunk.append(
                head: ByteBuffer(),
                body: body,
                index: LogIndex(UInt64(number) + 1),
                of: window
            )
            slices.append(chunk.slice(position..<position + 1_000))
        }
        for (number, slice) in slices.enumerated() {
            #expect(slice == ByteBuffer(repeating: UInt8(number), count: 1_000))
        }
        #expect(chunk.holders.count == 1)
        #expect(!chunk.hasRoom(for: TailChunk.byteCapacity))
    }

    @Test("the cache keeps its bound, spares what is not synced, and reopens what it closed")
    func segmentCache() throws {
        let fixture = LogFixture(tailByteCount: 0, maximumOpenCount: 3)
        for number in 0..<20 {
            fixture.append { $0.data(flags: number % 2 == 0 ? .firstOfSegment : []) }
        }
        try fixture.commit()
        try fixture.write()
        #expect(fixture.log.segmentCount == 10)
        for offset in 0..<20 {
            #expect(
                try fixture.readAll(from: Offset(Int64(offset)), maxByteCount: 1)
                    == fixture.expectedBytes(from: Offset(Int64(offset)))
            )
            #expect(fixture.resources.segments.openCount <= 3)
        }
    }
}
