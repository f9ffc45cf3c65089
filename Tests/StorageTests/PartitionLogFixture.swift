import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation

import struct NIOCore.ByteBuffer

/// Makes entries as a leader does: each continues the one before.
struct EntryMaker {
    private(set) var lastIndex = LogIndex.zero
    private(set) var nextOffset = Offset.zero
    private(set) var checksum: UInt32 = 0
    var term = Term(1)
    var time = Timestamp(1_000)

    /// Goes on behind an entry; nil begins a log.
    mutating func follow(_ entry: LogEntry?) {
        lastIndex = entry?.frame.index ?? .zero
        nextOffset = entry?.frame.endOffset ?? .zero
        checksum = entry?.frame.checksum ?? 0
    }

    mutating func data(
        recordCount: Int = 1,
        valueByteCount: Int = 10,
        timestamp: Timestamp = Timestamp(1),
        flags: FrameFlags = []
    ) -> LogEntry {
        var builder = RecordBatchBuilder()
        for number in 0..<recordCount {
            var value = ByteBuffer()
            value.writeRepeatingByte(
                UInt8(truncatingIfNeeded: lastIndex.rawValue &+ UInt64(number)),
                count: valueByteCount
            )
            let recordTime =
                number == 0 ? timestamp : Timestamp(max(0, timestamp.rawValue - Int64(number)))
            builder.append(key: nil, value: value, timestamp: recordTime)
        }
        let entry = LogEntry.data(
            builder.build(using: Compressor()),
            index: lastIndex.next,
            term: term,
            baseOffset: nextOffset,
            appendTime: time,
            previousChecksum: checksum,
            flags: flags
        )
        follow(entry)
        return entry
    }

    mutating func control(
        _ kind: FlotillaRecords.EntryKind,
        payload: ByteBuffer = ByteBuffer(),
        flags: FrameFlags = []
    ) -> LogEntry {
        let entry = LogEntry.control(
            kind,
            payload: payload,
            index: lastIndex.next,
            term: term,
            nextOffset: nextOffset,
            appendTime: time,
            previousChecksum: checksum,
            flags: flags
        )
        follow(entry)
        return entry
    }
}

/// Stands in for the state machines: a digest of what was applied.
struct DigestMachine: Equatable {
    var appliedIndex = LogIndex.zero
    var digest: UInt32 = 0

    mutating func apply(_ entry: LogEntry) {
        precondition(entry.frame.index == appliedIndex.next, "entries are applied in order")
        appliedIndex = entry.frame.index
        digest = digest &* 31 &+ entry.frame.checksum
    }

    var snapshot: ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeInteger(appliedIndex.rawValue)
        buffer.writeInteger(digest)
        return buffer
    }

    init() {}

    init(_ snapshot: ByteBuffer) {
        var rest = snapshot
        appliedIndex = LogIndex(rest.readInteger() ?? 0)
        digest = rest.readInteger() ?? 0
    }
}

/// A log on a disk in memory, with the journal and the state machine that belong to it; jobs run at
/// once.
final class LogFixture {
    static let group = GroupID(
        partition: TopicPartition(topic: TopicID(high: 7, low: 9), partition: 3),
        epoch: CreationEpoch(1)
    )
    static let directory = PartitionLog.directory(of: group, in: "data")

    let disk: MemoryDisk
    /// What the log uses: the disk, or one that stands before it.
    let front: any Disk
    var tailByteCount: Int
    var maximumOpenCount: Int
    var configuration = LogConfiguration()
    private(set) var resources: LogResources
    private(set) var log: PartitionLog
    private(set) var machine = DigestMachine()
    /// What the last recovery said.
    private(set) var isEndKnown = true
    private(set) var isJournalVoid = false
    var maker = EntryMaker()
    /// Every entry of the log, from index 1 on.
    private(set) var entries: [LogEntry] = []
    /// What the journal still has.
    private(set) var journal: [LogEntry] = []

    init(
        disk: MemoryDisk = MemoryDisk(),
        front: (any Disk)? = nil,
        tailByteCount: Int = 64 << 20,
        maximumOpenCount: Int = 16
    ) {
        self.disk = disk
        self.front = front ?? disk
        self.tailByteCount = tailByteCount
        self.maximumOpenCount = maximumOpenCount
        resources = LogResources(
            disk: self.front,
            tail: TailBudget(byteCount: tailByteCount),
            segments: SegmentCache(maximumOpenCount: maximumOpenCount)
        )
        log = PartitionLog.create(
            group: Self.group,
            directory: "data",
            resources: resources,
            configuration: configuration
        )
    }

    static func path(_ name: String) -> String {
        "\(directory)/\(name)"
    }

    /// The paths of the replica's files with this ending.
    func paths(_ ending: String) -> [String] {
        disk.paths.filter { $0.hasPrefix(Self.directory + "/") && $0.hasSuffix(ending) }
    }

    // MARK: Entries

    @discardableResult
    func append(_ make: (inout EntryMaker) -> LogEntry) -> LogEntry {
        let entry = make(&maker)
        append([entry])
        return entry
    }

    func append(_ new: [LogEntry]) {
        log.append(new)
        entries += new
        journal += new
    }

    func truncate(from index: LogIndex) {
        log.truncate(from: index)
        entries.removeLast(entries.count - Int(index.rawValue) + 1)
        journal.removeAll { $0.frame.index >= index }
        maker.follow(entries.last)
    }

    /// Commits and applies up to `index`, or all.
    func commit(upTo index: LogIndex? = nil) throws {
        log.commit(upTo: index ?? log.lastIndex)
        try apply()
    }

    func apply() throws {
        while machine.appliedIndex < log.commitIndex {
            for entry in try readEntries(from: machine.appliedIndex.next)
            where entry.frame.index <= log.commitIndex {
                if entry.frame.flags.contains(.firstOfSegment) {
                    log.provideState(before: entry.frame.index, stateMachine: machine.snapshot)
                }
                if entry.frame.kind == .startOffset,
                    let offset = entry.body.getInteger(at: entry.body.readerIndex, as: Int64.self)
                {
                    log.advanceLogStart(to: Offset(offset))
                }
                machine.apply(entry)
            }
        }
    }

    /// Appends, commits and applies the entry by which a leader moves the log's start.
    func moveStart(to offset: Offset) throws {
        var payload = ByteBuffer()
        payload.writeInteger(offset.rawValue)
        append { $0.control(.startOffset, payload: payload) }
        try commit()
    }

    // MARK: Jobs

    /// Writes all that is committed.
    func write(minimumByteCount: Int = 1) throws {
        while let write = log.nextWrite(minimumByteCount: minimumByteCount) {
            try log.finish(write.perform())
        }
    }

    func sync() throws {
        while let sync = log.nextSync() {
            try log.finish(sync.perform())
        }
    }

    /// Lets the journal forget what is durable in segments.
    func releaseJournal(upTo index: LogIndex? = nil) {
        let limit = min(index ?? log.syncedIndex, log.syncedIndex)
        journal.removeAll { $0.frame.index <= limit }
    }

    /// Leaves a checkpoint at the log's end, as a clean stop does.
    func checkpoint() throws {
        log.provideState(before: log.commitIndex.next, stateMachine: machine.snapshot)
        try write()
        try sync()
    }

    // MARK: Starts

    var suffix: JournalSuffix {
        JournalSuffix(entries: journal)
    }

    /// Opens the log again on the same disk; the state machine replays.
    func reopen(_ journal: JournalSuffix?) throws {
        resources = LogResources(
            disk: front,
            tail: TailBudget(byteCount: tailByteCount),
            segments: SegmentCache(maximumOpenCount: maximumOpenCount)
        )
        let recovered = try LogRecovery(
            group: Self.group,
            directory: "data",
            disk: front,
            journal: journal
        ).perform()
        try take(recovered)
    }

    /// Takes over a log that was found, or shipped.
    func take(_ recovered: RecoveredLog) throws {
        isEndKnown = recovered.isEndKnown
        isJournalVoid = recovered.isJournalVoid
        log = PartitionLog(recovered, resources: resources, configuration: configuration)
        machine =
            log.recoveredState.mark.index == .zero
            ? DigestMachine() : DigestMachine(log.recoveredState.stateMachine)
    }

    /// Appends, commits and writes another log's entries, from which expectations are taken too.
    func follow(_ others: [LogEntry]) throws {
        log.append(others)
        try commit()
        try write()
        try sync()
    }

    // MARK: Reads

    func ready<Value>(_ ask: (Bool) throws -> LogRead<Value>) throws -> Value {
        var isAfterLoad = false
        while true {
            switch try ask(isAfterLoad) {
            case .ready(let value): return value
            case .load(let load):
                try log.finish(load.perform())
                isAfterLoad = true
            }
        }
    }

    func readEntries(from index: LogIndex, maxByteCount: Int = 1 << 20, maxCount: Int = 100) throws
        -> [LogEntry]
    {
        try ready { isAfterLoad in
            try log.entries(
                from: index,
                maxByteCount: maxByteCount,
                maxCount: maxCount,
                afterLoad: isAfterLoad
            )
        }
    }

    func read(
        from offset: Offset,
        upTo end: Offset? = nil,
        maxByteCount: Int = 1 << 20,
        allowOversizedFirst: Bool = true
    ) throws -> FetchSlice {
        try ready { isAfterLoad in
            try log.read(
                from: offset,
                upTo: end ?? log.logEndOffset,
                maxByteCount: maxByteCount,
                allowOversizedFirst: allowOversizedFirst,
                afterLoad: isAfterLoad
            )
        }
    }

    /// All batches from `offset` on that a consumer gets, in as many reads as it takes.
    func readAll(from start: Offset, maxByteCount: Int = 1 << 20) throws -> ByteBuffer {
        var bytes = ByteBuffer()
        var offset = start
        while offset < log.logEndOffset {
            let slice = try read(from: offset, maxByteCount: maxByteCount)
            precondition(!slice.isEmpty && slice.endOffset > offset, "a read makes progress")
            var joined = slice.joined()
            precondition(
                joined.readableBytes == slice.byteCount,
                "a slice has the bytes that it says"
            )
            bytes.writeBuffer(&joined)
            offset = slice.endOffset
        }
        return bytes
    }

    /// What `readAll` has to give.
    func expectedBytes(from start: Offset) -> ByteBuffer {
        var bytes = ByteBuffer()
        for entry in entries where entry.frame.kind == .data && entry.frame.endOffset > start {
            bytes.writeBytes(entry.payload.readableBytesSpan)
        }
        return bytes
    }
}

/// Whether two entries are the same to the last byte.
func areEqual(_ left: LogEntry, _ right: LogEntry) -> Bool {
    left.frame == right.frame && left.frameAndHead == right.frameAndHead && left.body == right.body
}
