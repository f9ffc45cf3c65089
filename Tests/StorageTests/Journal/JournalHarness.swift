import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation

import struct NIOCore.ByteBuffer

/// The log of one group as a test writes it: every entry chains to the one before.
struct TestLog {
    let group: GroupID
    private(set) var entries: [LogEntry] = []
    var term = Term(1)

    init(_ group: GroupID) {
        self.group = group
    }

    /// Makes entries behind the log's end and returns them.
    mutating func append(_ sizes: [Int]) -> [LogEntry] {
        let made = sizes.map { size in
            let entry = makeEntry(byteCount: size)
            entries.append(entry)
            return entry
        }
        return made
    }

    /// Forgets entries from `index` on, as a follower does whose leader has others.
    mutating func cut(from index: LogIndex) {
        entries.removeAll { $0.frame.index >= index }
    }

    /// Forgets entries up to `index`, which lie in segments.
    mutating func release(upTo index: LogIndex) {
        if let last = entries.last(where: { $0.frame.index <= index }) {
            base = LogPosition(term: last.frame.term, index: last.frame.index)
            baseChecksum = last.frame.checksum
            entries.removeAll { $0.frame.index <= index }
        }
    }

    var base = LogPosition.zero
    var baseChecksum: UInt32 = 0

    var lastIndex: LogIndex {
        entries.last?.frame.index ?? base.index
    }

    var lastChecksum: UInt32 {
        entries.last?.frame.checksum ?? baseChecksum
    }

    /// Every third entry is a batch, the others are control entries.
    private func makeEntry(byteCount: Int) -> LogEntry {
        let index = lastIndex.next
        let payload = ByteBuffer(
            repeating: UInt8(truncatingIfNeeded: index.rawValue &* 7),
            count: byteCount
        )
        guard index.rawValue % 3 == 0 else {
            return .control(
                .snapshotMark,
                payload: payload,
                index: index,
                term: term,
                nextOffset: Offset(0),
                appendTime: Timestamp(1),
                previousChecksum: lastChecksum
            )
        }
        var builder = RecordBatchBuilder()
        builder.append(key: nil, value: payload, timestamp: Timestamp(5))
        return .data(
            builder.build(using: Compressor()),
            index: index,
            term: term,
            baseOffset: Offset(0),
            appendTime: Timestamp(1),
            previousChecksum: lastChecksum
        )
    }
}

/// A disk with a journal on it, and the few things tests do to it.
struct JournalHarness {
    static let directories = JournalDirectories(journal: "/data/journal", data: "/data")

    var disk = MemoryDisk()
    var configuration = JournalConfiguration()

    /// Files of 64 KiB, so that tests fill many of them.
    init(fileByteCount: Int = 64 << 10) {
        configuration.fileByteCount = fileByteCount
        configuration.liveByteLimit = 8 * fileByteCount
        configuration.demandByteCount = 2 * fileByteCount
        configuration.copyForwardByteCount = fileByteCount / 16
        configuration.roundByteCount = fileByteCount / 4
        configuration.stepByteCount = fileByteCount / 4
    }

    func open(pastPageCache: Bool = false) throws -> (Journal, JournalRecovery) {
        var random = SeededRandom(seed: 99)
        return try Journal.open(
            Self.directories,
            disk: disk,
            configuration: configuration,
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) },
            pastPageCache: pastPageCache
        )
    }

    /// What a start would find, without touching this disk.
    func recover(tampering: (MemoryDisk) -> Void = { _ in }) throws -> JournalRecovery {
        var copy = self
        copy.disk = disk.copy()
        tampering(copy.disk)
        return try copy.open().1
    }

    static func path(slot: Int) -> String {
        "/data/journal/0000000\(slot).journal"
    }

    /// Little-endian integers of a file.
    func number<Number: FixedWidthInteger>(_ path: String, at position: Int, as: Number.Type)
        -> Number
    {
        disk.contents(path).getInteger(at: position, endianness: .little, as: Number.self) ?? 0
    }
}

extension GroupID {
    /// A group for tests.
    static func test(_ number: Int, epoch: UInt64 = 1) -> GroupID {
        GroupID(
            partition: TopicPartition(
                topic: TopicID(high: 7, low: UInt64(number)),
                partition: Int32(number)
            ),
            epoch: CreationEpoch(epoch)
        )
    }
}

extension JournalSubmission {
    init(_ group: GroupID, _ records: [JournalRecord], ticket: UInt64 = 0) {
        self.init(shard: 0, group: group, ticket: ticket, records: records)
    }
}

extension HardState {
    static func test(_ term: UInt32, vote: Int32?) -> HardState {
        HardState(
            term: Term(term),
            votedFor: vote.map { GroupMember(broker: BrokerID($0), epoch: CreationEpoch(1)) }
        )
    }
}

extension JournalRecovery {
    subscript(group: GroupID) -> RecoveredGroup? {
        groups.first { $0.group == group }?.state
    }
}

extension [LogEntry] {
    /// What tells entries apart.
    var checksums: [UInt32] {
        map(\.frame.checksum)
    }
}
