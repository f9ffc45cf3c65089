import DequeModule
import FlotillaModel
import FlotillaRecords
import Glibc
import NIOCore
import Synchronization

/// What a waiting `send` is told.
typealias SendContinuation = CheckedContinuation<Result<RecordMetadata, ClientError>, Never>

/// A batch that still grows, or waits to be sent.
// Sendable because it belongs to the accumulator, under its lock, until the sender takes it out for good.
final class Draft: @unchecked Sendable {
    var builder: RecordBatchBuilder
    var tags: [UInt64] = []
    var waiters: [(index: Int, continuation: SendContinuation)] = []
    let start: NIODeadline
    /// What it counts against the producer's buffer.
    var heldByteCount = 0

    init(builder: RecordBatchBuilder, start: NIODeadline) {
        self.builder = builder
        self.start = start
    }
}

/// Where callers of any thread put records, and the sender takes batches: all under one lock.
///
/// The lock is held for the encoding of one record (about 100 ns), or for one walk over the partitions.
/// Nothing is awaited and no callback is called under it.
final class Accumulator: Sendable {
    /// A record whose topic is not known yet.
    private struct Waiting {
        var record: ProducerRecord
        var tag: UInt64
        var waiter: SendContinuation?
        var byteCount: Int
        var start: NIODeadline
    }

    /// One partition's batches.
    private final class Lane {
        var open: Draft?
        var full: Deque<Draft> = []
    }

    /// One topic's partitions; none before its metadata came.
    private final class Topic {
        var lanes: [Lane] = []
        var sticky = 0
        /// What went to the sticky partition since it was chosen.
        var stickyByteCount = 0
        var waiting: [Waiting] = []
    }

    private struct State {
        var topics: [String: Topic] = [:]
        var lanes: [Lane] = []
        var unknown: [String] = []
        var heldByteCount = 0
        var outstandingCount = 0
        var flushCount = 0
        var isWakePending = false
        var isClosed = false
        var roomWaiters: [CheckedContinuation<Void, Never>] = []
        var flushWaiters: [CheckedContinuation<Void, Never>] = []
    }

    private let configuration: ProducerConfiguration
    private let state = Mutex(State())

    init(_ configuration: ProducerConfiguration) {
        self.configuration = configuration
    }

    // MARK: Callers

    /// Takes a record; true where the sender must be woken.
    ///
    /// - Throws: `.bufferFull`, `.recordTooLarge`, `.noSuchPartition`, `.closed`; the record is then not taken.
    func append(_ record: ProducerRecord, tag: UInt64, waiter: SendContinuation?)
        throws(ClientError) -> Bool
    {
        let headers = record.headers.map { RecordHeader(name: $0.name, value: $0.value) }
        let byteCount = RecordBatchBuilder.maximumByteCount(
            key: record.key,
            value: record.value,
            headers: headers
        )
        let limit = configuration.maximumRecordByteCount
        guard byteCount - 64 <= limit else {
            throw .recordTooLarge(byteCount: byteCount, limit: limit)
        }
        return try state.withLock { (state) throws(ClientError) in
            guard !state.isClosed else { throw .closed }
            guard
                state.heldByteCount == 0
                    || state.heldByteCount + byteCount <= configuration.bufferByteCount
            else {
                throw .bufferFull
            }
            var isWakeNeeded = true
            if let topic = state.topics[record.topic], !topic.lanes.isEmpty {
                isWakeNeeded = try place(record, headers, tag, waiter, byteCount, in: topic)
            } else {
                wait(record, tag, waiter, byteCount, &state)
            }
            state.heldByteCount += byteCount
            state.outstandingCount += 1
            guard isWakeNeeded, !state.isWakePending else { return false }
            state.isWakePending = true
            return true
        }
    }

    private func wait(
        _ record: ProducerRecord,
        _ tag: UInt64,
        _ waiter: SendContinuation?,
        _ byteCount: Int,
        _ state: inout State
    ) {
        let topic = state.topics[record.topic] ?? Topic()
        if topic.waiting.isEmpty {
            state.topics[record.topic] = topic
            state.unknown.append(record.topic)
        }
        topic.waiting.append(
            Waiting(record: record, tag: tag, waiter: waiter, byteCount: byteCount, start: .now())
        )
    }

    /// Puts a record into its partition's batch; true where the sender should look: a batch began, or is full.
    private func place(
        _ record: ProducerRecord,
        _ headers: [RecordHeader],
        _ tag: UInt64,
        _ waiter: SendContinuation?,
        _ byteCount: Int,
        in topic: Topic
    ) throws(ClientError) -> Bool {
        var index = topic.sticky
        if let explicit = record.partition {
            guard topic.lanes.indices.contains(Int(explicit)) else {
                throw .noSuchPartition(NamedPartition(topic: record.topic, index: explicit))
            }
            index = Int(explicit)
        } else if let key = record.key {
            index = Int(Partitioner.partition(forKey: key, count: topic.lanes.count))
        }
        let lane = topic.lanes[index]
        var isWakeNeeded = false
        if let open = lane.open, open.builder.byteCount + byteCount > configuration.batchByteCount {
            lane.full.append(open)
            lane.open = nil
            isWakeNeeded = true
        }
        let draft: Draft
        if let open = lane.open {
            draft = open
        } else {
            draft = makeDraft()
            lane.open = draft
            isWakeNeeded = true
        }
        if let waiter { draft.waiters.append((draft.builder.count, waiter)) }
        draft.tags.append(tag)
        draft.heldByteCount += byteCount
        draft.builder.append(
            key: record.key,
            value: record.value,
            headers: headers,
            timestamp: record.timestamp ?? WallClock.now()
        )
        if draft.builder.byteCount >= configuration.batchByteCount {
            lane.full.append(draft)
            lane.open = nil
            isWakeNeeded = true
        }
        if record.key == nil, record.partition == nil, stick(topic, byteCount) {
            // Nothing comes after for long: what the batch lacks to its size is not worth the linger.
            if let open = lane.open {
                lane.full.append(open)
                lane.open = nil
            }
            isWakeNeeded = true
        }
        return isWakeNeeded
    }

    /// Counts what went to the sticky partition, and chooses another one after a batch's worth.
    ///
    /// - Returns: whether it chose another one.
    private func stick(_ topic: Topic, _ byteCount: Int) -> Bool {
        topic.stickyByteCount += byteCount
        guard topic.stickyByteCount >= configuration.batchByteCount, topic.lanes.count > 1 else {
            return false
        }
        topic.stickyByteCount = 0
        let step = Int.random(in: 1..<topic.lanes.count)
        topic.sticky = (topic.sticky + step) % topic.lanes.count
        return true
    }

    private func makeDraft() -> Draft {
        let builder = RecordBatchBuilder(
            codec: configuration.compression.codec,
            level: configuration.compressionLevel,
            capacity: min(configuration.batchByteCount, 16 << 10)
        )
        return Draft(builder: builder, start: .now())
    }

    /// Waits until a quarter of the buffer is free.
    func waitForRoom() async {
        await withCheckedContinuation { continuation in
            let isNow = state.withLock { state in
                guard !state.isClosed, state.heldByteCount > roomMark else { return true }
                state.roomWaiters.append(continuation)
                return false
            }
            if isNow { continuation.resume() }
        }
    }

    private var roomMark: Int {
        configuration.bufferByteCount / 4 * 3
    }

    /// Waits until everything taken so far was acknowledged or has failed.
    func flush(wake: () -> Void) async {
        await withCheckedContinuation { continuation in
            let isNow = state.withLock { state in
                guard state.outstandingCount > 0 else { return true }
                state.flushCount += 1
                state.flushWaiters.append(continuation)
                return false
            }
            if isNow { continuation.resume() } else { wake() }
        }
    }

    /// Takes no more records.
    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            defer { state.roomWaiters = [] }
            return state.roomWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    // MARK: The sender

    /// Starts a walk: wake-ups are needed again.
    ///
    /// Returns the topics that nobody knows yet.
    func beginWalk() -> [String] {
        state.withLock { state in
            state.isWakePending = false
            defer { state.unknown = [] }
            return state.unknown
        }
    }

    /// Makes a topic's partitions known, those that came later too, and files what waited for them.
    ///
    /// - Returns: the first new lane's number, and records for partitions that do not exist.
    func open(topic name: String, partitionCount: Int) -> (firstLaneID: Int, failures: [Failed]) {
        state.withLock { state in
            let topic = state.topics[name] ?? Topic()
            state.topics[name] = topic
            let firstLaneID = state.lanes.count
            let added = (topic.lanes.count..<max(topic.lanes.count, partitionCount)).map { _ in
                Lane()
            }
            topic.lanes += added
            topic.sticky = Int.random(in: topic.lanes.indices)
            state.lanes += added
            let waiting = topic.waiting
            topic.waiting = []
            var failures: [Failed] = []
            for one in waiting {
                let headers = one.record.headers.map {
                    RecordHeader(name: $0.name, value: $0.value)
                }
                do throws(ClientError) {
                    _ = try place(
                        one.record,
                        headers,
                        one.tag,
                        one.waiter,
                        one.byteCount,
                        in: topic
                    )
                } catch {
                    failures.append(Failed(one.record, one.tag, one.waiter, one.byteCount, error))
                }
            }
            return (firstLaneID, failures)
        }
    }

    /// A record that never reached a partition.
    struct Failed: Sendable {
        let partition: NamedPartition
        let tag: UInt64
        let waiter: SendContinuation?
        let byteCount: Int
        let error: ClientError

        init(
            _ record: ProducerRecord,
            _ tag: UInt64,
            _ waiter: SendContinuation?,
            _ byteCount: Int,
            _ error: ClientError
        ) {
            partition = NamedPartition(topic: record.topic, index: record.partition ?? -1)
            self.tag = tag
            self.waiter = waiter
            self.byteCount = byteCount
            self.error = error
        }
    }

    /// Gives up on what waits for a topic.
    func abandon(topic name: String, _ error: ClientError) -> [Failed] {
        state.withLock { state in
            guard let topic = state.topics[name] else { return [] }
            defer {
                topic.waiting = []
                if topic.lanes.isEmpty { state.topics[name] = nil }
            }
            return topic.waiting.map { Failed($0.record, $0.tag, $0.waiter, $0.byteCount, error) }
        }
    }

    /// What a walk found.
    struct Walk {
        /// Batches to send.
        var ready: [(laneID: Int, draft: Draft)] = []
        /// Batches that waited too long.
        var expired: [(laneID: Int, draft: Draft)] = []
        /// When the next open batch has waited long enough.
        var nextLinger: NIODeadline?
    }

    /// Takes at most one batch of each partition that `wants` one, and every batch that began before `oldest`.
    func walk(now: NIODeadline, oldest: NIODeadline, wants: (Int) -> Bool) -> Walk {
        state.withLock { state in
            var walk = Walk()
            let linger: TimeAmount =
                state.flushCount > 0 || state.isClosed ? .zero : TimeAmount(configuration.linger)
            for (id, lane) in state.lanes.enumerated() {
                while let draft = lane.full.first, draft.start < oldest {
                    walk.expired.append((id, draft))
                    lane.full.removeFirst()
                }
                if let draft = lane.open, lane.full.isEmpty, draft.start < oldest {
                    walk.expired.append((id, draft))
                    lane.open = nil
                }
                guard !lane.full.isEmpty || lane.open != nil else { continue }
                guard wants(id) else { continue }
                if let draft = lane.full.popFirst() {
                    walk.ready.append((id, draft))
                } else if let draft = lane.open {
                    let due = draft.start + linger
                    if due <= now {
                        walk.ready.append((id, draft))
                        lane.open = nil
                    } else {
                        walk.nextLinger = min(walk.nextLinger ?? due, due)
                    }
                }
            }
            return walk
        }
    }

    /// Forgets records that were acknowledged or have failed, and wakes who waited for that.
    func release(byteCount: Int, recordCount: Int) {
        let waiters = state.withLock { state in
            state.heldByteCount -= byteCount
            state.outstandingCount -= recordCount
            precondition(
                state.heldByteCount >= 0 && state.outstandingCount >= 0,
                "records are released once"
            )
            var waiters: [CheckedContinuation<Void, Never>] = []
            if state.heldByteCount <= roomMark, !state.roomWaiters.isEmpty {
                waiters = state.roomWaiters
                state.roomWaiters = []
            }
            if state.outstandingCount == 0, !state.flushWaiters.isEmpty {
                waiters += state.flushWaiters
                state.flushWaiters = []
                state.flushCount = 0
            }
            return waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Whether nothing is held.
    var isEmpty: Bool {
        state.withLock { $0.outstandingCount == 0 }
    }
}

/// The time of day, for records that bring none.
enum WallClock {
    /// Milliseconds since 1970.
    static func now() -> Timestamp {
        var time = timespec()
        // Safe: the call writes one timespec, which lives until it returns.
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }
}
