import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// Fetch (1): records out of logs. SEMANTICS section 2.
extension Shard {
    func handle(_ request: FetchRequest, _ context: RequestContext) {
        let replicaID = context.version >= 15 ? request.replicaState.replicaId : request.replicaId
        // Our replicas do not fetch: a number from 0 on would be a follower of some other broker (FETCH-1).
        guard replicaID < 0, let isolation = IsolationLevel(rawValue: request.isolationLevel) else {
            return context.respond(FetchOperation.refusal(.invalidRequest, request, context))
        }
        switch openSession(request, context) {
        case .failure(let refusal):
            context.respond(FetchOperation.refusal(refusal.code, request, context))
        case .success(let scope):
            FetchOperation(request, isolation, scope, context, on: self).start()
        }
    }

    /// What a request asks for, and the session it does so in.
    ///
    /// - Source: SEMANTICS rules SESS-1 to SESS-7.
    private func openSession(_ request: FetchRequest, _ context: RequestContext) -> Result<
        FetchScope, Refusal
    > {
        let usesTopicIDs = context.version >= 13
        let now = environment.clock.now
        if request.sessionEpoch <= 0 || context.version < 7 {
            if request.sessionId != 0 { sessions.remove(request.sessionId) }
            let parts = FetchScope.parts(of: request, usesTopicIDs: usesTopicIDs)
            guard request.sessionEpoch == 0, context.version >= 7, !parts.isEmpty,
                let session = sessions.open(usesTopicIDs: usesTopicIDs, now: now)
            else { return .success(FetchScope(session: nil, isIncremental: false, parts: parts)) }
            for part in parts { session.update(part) }
            return .success(FetchScope(session: session, isIncremental: false, parts: parts))
        }
        guard let session = sessions.session(request.sessionId) else {
            return .failure(
                Refusal(.fetchSessionIdNotFound, "session \(request.sessionId) is not known")
            )
        }
        guard session.usesTopicIDs == usesTopicIDs else {
            return .failure(
                Refusal(.fetchSessionTopicIdError, "the session names topics the other way")
            )
        }
        guard session.nextEpoch == request.sessionEpoch else {
            return .failure(
                Refusal(.invalidFetchSessionEpoch, "expected epoch \(session.nextEpoch)")
            )
        }
        session.advanceEpoch()
        session.lastUsed = now
        for part in FetchScope.parts(of: request, usesTopicIDs: usesTopicIDs) {
            session.update(part)
        }
        session.forget(FetchScope.forgotten(in: request, usesTopicIDs: usesTopicIDs))
        guard session.count > 0 else {
            sessions.remove(session.id)
            return .success(FetchScope(session: nil, isIncremental: true, parts: []))
        }
        return .success(FetchScope(session: session, isIncremental: true, parts: session.requests))
    }
}

/// The partitions of one fetch.
struct FetchScope {
    var session: FetchSession?
    var isIncremental: Bool
    var parts: [FetchPartitionRequest]

    static func parts(of request: FetchRequest, usesTopicIDs: Bool) -> [FetchPartitionRequest] {
        request.topics.flatMap { topic in
            topic.partitions.map { partition in
                FetchPartitionRequest(
                    topic: usesTopicIDs ? .id(topic.topicId) : .name(topic.topic),
                    partition: partition.partition,
                    fetchOffset: Offset(partition.fetchOffset),
                    maxByteCount: Int(max(0, partition.partitionMaxBytes)),
                    currentLeaderEpoch: partition.currentLeaderEpoch,
                    lastFetchedEpoch: partition.lastFetchedEpoch
                )
            }
        }
    }

    static func forgotten(in request: FetchRequest, usesTopicIDs: Bool) -> Set<FetchPartitionKey> {
        var keys: Set<FetchPartitionKey> = []
        for topic in request.forgottenTopicsData {
            for partition in topic.partitions {
                keys.insert(
                    FetchPartitionKey(
                        topic: usesTopicIDs ? .id(topic.topicId) : .name(topic.topic),
                        partition: partition
                    )
                )
            }
        }
        return keys
    }
}

/// One fetch request until its answer: read, and while there is too little, wait and read again.
final class FetchOperation {
    private unowned let shard: Shard
    private let context: RequestContext
    private let scope: FetchScope
    private let isolation: IsolationLevel
    private let minByteCount: Int
    private let maxByteCount: Int
    private let deadline: Instant
    private let inflates: Bool
    /// The rack that the consumer stands in, if it says so.
    private let rack: String?
    private var watches: [CallHandle] = []
    private var timer: TimerQueue.ID?
    private var isWaiting = false
    /// The room for the answer that is being read; nil where there is none.
    private var room: Int?
    /// The place among those who wait for room.
    private var roomWaiter: UInt64?

    init(
        _ request: FetchRequest,
        _ isolation: IsolationLevel,
        _ scope: FetchScope,
        _ context: RequestContext,
        on shard: Shard
    ) {
        self.shard = shard
        self.context = context
        self.scope = scope
        self.isolation = isolation
        minByteCount = Int(max(0, request.minBytes))
        maxByteCount = min(Int(max(0, request.maxBytes)), shard.config.maximumFetchByteCount)
        deadline = shard.environment.clock.now + .milliseconds(Int(max(0, request.maxWaitMs)))
        inflates = context.connection.software?.readsLZ4 != true
        rack = context.version >= 11 && !request.rackId.isEmpty ? request.rackId : nil
    }

    /// An answer that concerns the whole request; versions without a place for it tell it of every partition (GEN-3).
    static func refusal(
        _ error: ErrorCode,
        _ request: FetchRequest,
        _ context: RequestContext
    ) -> FetchResponse {
        guard context.version < 7 else { return FetchResponse(errorCode: error.rawValue) }
        return FetchResponse(
            responses: request.topics.map { topic in
                FetchResponse.FetchableTopicResponse(
                    topic: topic.topic,
                    partitions: topic.partitions.map { partition in
                        FetchResponse.PartitionData(
                            partitionIndex: partition.partition,
                            errorCode: error.rawValue,
                            highWatermark: -1
                        )
                    }
                )
            }
        )
    }

    func start() {
        read()
    }

    // MARK: Reading

    private func read() {
        room = shard.takeAnswerRoom(upTo: wantedByteCount)
        // Without room until the deadline the answer tells how the partitions stand, and has no records.
        if room == nil, mayWait { return waitForRoom() }
        let now = shard.environment.clock.now
        let items: [Result<FetchCall.Item, Settled<FetchReply>>] = scope.parts.map { part in
            switch resolve(part) {
            case .success(let partition):
                .success(
                    FetchCall.Item(
                        partition: partition,
                        fetchOffset: part.fetchOffset,
                        maxByteCount: part.maxByteCount,
                        currentLeaderEpoch: part.currentLeaderEpoch,
                        lastFetchedEpoch: part.lastFetchedEpoch,
                        mayBeSentOn: rack != nil
                            && context.connection.redirects.allows(partition, now: now)
                    )
                )
            case .failure(let refusal):
                .failure(Settled(answer: .refused(refusal.code)))
            }
        }
        shard.scatter(items, partition: \.partition, call: { self.call($0) }) { reply in
            if case .fetch(let replies) = reply { replies } else { nil }
        } then: { replies in
            self.judge(replies)
        }
    }

    private func call(_ items: [FetchCall.Item]) -> ShardCall {
        .fetch(
            FetchCall(
                isolation: isolation,
                rack: rack,
                maxByteCount: room ?? 0,
                allowsOversizedFirst: room != nil,
                inflates: inflates,
                allowsZstd: context.version >= 10,
                items: items
            )
        )
    }

    /// What the client takes at most.
    private var wantedByteCount: Int {
        min(maxByteCount, scope.parts.reduce(0) { $0 + $1.maxByteCount })
    }

    private func giveBackRoom() {
        shard.giveBackAnswerRoom(room ?? 0)
        room = nil
    }

    private func resolve(_ part: FetchPartitionRequest) -> Result<TopicPartition, Refusal> {
        switch part.topic {
        case .name(let name): shard.resolve(name, part.partition)
        case .id(let id): shard.resolve(id, part.partition)
        }
    }

    // MARK: Waiting

    /// Answers when there is enough, an error, or no time left (FETCH-6); else waits for more.
    private func judge(_ replies: [FetchReply]) {
        let byteCount = replies.reduce(0) { $0 + $1.byteCount }
        let isSettled = replies.contains { reply in
            reply.error != .noError || reply.divergingEpoch != nil
                || reply.preferredReadReplica >= 0
        }
        // Who was given less than it asked for need not wait for what is there already.
        let isShortened = byteCount > 0 && (room ?? 0) < wantedByteCount
        guard byteCount < minByteCount, !isSettled, !isShortened, !replies.isEmpty, mayWait else {
            return finish(replies)
        }
        giveBackRoom()
        wait(replies)
    }

    private var mayWait: Bool {
        shard.environment.clock.now < deadline && !shard.isStopping
            && !context.connection.isDraining
    }

    private func beginWaiting() {
        isWaiting = true
        context.connection.endWaiting = { self.wake() }
        timer = shard.schedule(after: deadline - shard.environment.clock.now) { self.wake() }
    }

    private func waitForRoom() {
        beginWaiting()
        roomWaiter = shard.sessions.answers.wait { self.wake() }
    }

    private func wait(_ replies: [FetchReply]) {
        beginWaiting()
        var byShard: [[FetchWatch]] = Array(repeating: [], count: shard.settings.shardCount)
        for (part, reply) in zip(scope.parts, replies) {
            guard case .success(let partition) = resolve(part) else { continue }
            let end = isolation == .readCommitted ? reply.lastStableOffset : reply.highWatermark
            byShard[shard.settings.shard(of: partition)].append(
                FetchWatch(
                    partition: partition,
                    isolation: isolation,
                    hasRack: rack != nil,
                    knownEnd: end
                )
            )
        }
        for place in byShard.indices where !byShard[place].isEmpty && isWaiting {
            watches.append(shard.ask(place, .watch(byShard[place])) { _ in self.wake() })
        }
    }

    /// Something happened, or the time is up: reads once more.
    private func wake() {
        guard isWaiting else { return }
        isWaiting = false
        context.connection.endWaiting = nil
        if let timer { shard.timers.cancel(timer) }
        if let roomWaiter { shard.sessions.answers.forget(roomWaiter) }
        roomWaiter = nil
        for watch in watches { shard.cancel(watch) }
        watches.removeAll()
        read()
    }

    // MARK: Answering

    private func finish(_ replies: [FetchReply]) {
        var response = FetchResponse(sessionId: scope.session?.id ?? 0)
        var externals: [(SegmentReader, Range<Int>)] = []
        let limit = room ?? 0
        var budget = limit
        var isFirst = true
        for (part, reply) in zip(scope.parts, replies) {
            // Shards filled their shares without knowing of each other: what is over the limit is left for next time.
            let fits = reply.byteCount <= budget || isFirst
            let byteCount = fits ? reply.byteCount : 0
            guard shouldTell(part, reply, byteCount) else { continue }
            var data = partitionData(part, reply)
            if fits { data.records = records(reply, &externals) }
            if byteCount > 0 {
                budget -= byteCount
                isFirst = false
            }
            if reply.preferredReadReplica >= 0, case .success(let partition) = resolve(part) {
                context.connection.redirects.note(partition, now: shard.environment.clock.now)
            }
            append(data, part.topic, to: &response)
        }
        shard.counters.bytesOut += limit - budget
        if context.version >= 16 {
            response.nodeEndpoints = context.endpoints(hinted: replies.map(\.hint)).map { broker in
                FetchResponse.NodeEndpoint(
                    nodeId: broker.id.rawValue,
                    host: broker.address.host,
                    port: Int32(broker.address.port),
                    rack: broker.rack
                )
            }
        }
        context.respond(response) { token in
            let (reader, range) = externals[token]
            return reader.output(range)
        }
        giveBackRoom()
    }

    private func shouldTell(_ part: FetchPartitionRequest, _ reply: FetchReply, _ byteCount: Int)
        -> Bool
    {
        guard let session = scope.session else { return true }
        let key = FetchPartitionKey(topic: part.topic, partition: part.partition)
        if byteCount > 0 { session.noteData(key) }
        let told = FetchSession.Told(
            highWatermark: reply.highWatermark,
            logStartOffset: reply.logStartOffset,
            wasError: reply.error != .noError
        )
        let isWorthTelling = session.shouldTell(
            key,
            told,
            hasNews: byteCount > 0 || reply.divergingEpoch != nil || reply.preferredReadReplica >= 0
        )
        return isWorthTelling || !scope.isIncremental
    }

    private func partitionData(_ part: FetchPartitionRequest, _ reply: FetchReply)
        -> FetchResponse.PartitionData
    {
        var data = FetchResponse.PartitionData(
            partitionIndex: part.partition,
            errorCode: reply.error.rawValue,
            highWatermark: reply.highWatermark.rawValue,
            lastStableOffset: reply.lastStableOffset.rawValue,
            logStartOffset: reply.logStartOffset.rawValue,
            abortedTransactions: isolation == .readCommitted ? [] : nil
        )
        if context.version >= 11 { data.preferredReadReplica = reply.preferredReadReplica }
        if context.version >= 12 {
            if let end = reply.divergingEpoch {
                data.divergingEpoch = .init(epoch: end.epoch, endOffset: end.endOffset)
            }
            data.currentLeader = .init(leaderId: reply.hint.leader, leaderEpoch: reply.hint.epoch)
        }
        return data
    }

    /// The records as parts: what is in memory, and ranges of files that leave without passing through memory.
    private func records(_ reply: FetchReply, _ externals: inout [(SegmentReader, Range<Int>)])
        -> Records
    {
        var records = Records()
        for part in reply.parts {
            switch part {
            case .memory(let bytes):
                records.append(.bytes(bytes))
            case .segment(let reader, let range)
            where range.count < Self.smallestFileRange || reader.logDescriptor == nil:
                records.append(.bytes(reader.buffer(range)))
            case .segment(let reader, let range):
                externals.append((reader, range))
                records.append(.external(token: externals.count - 1, byteCount: range.count))
            }
        }
        return records
    }

    /// From this size on a range of a file leaves by sendfile; below, the call costs more than the copy.
    static let smallestFileRange = 32 << 10

    private func append(
        _ data: FetchResponse.PartitionData,
        _ topic: FetchTopicKey,
        to response: inout FetchResponse
    ) {
        switch topic {
        case .name(let name):
            if response.responses.last?.topic != name {
                response.responses.append(.init(topic: name))
            }
        case .id(let id):
            if response.responses.last?.topicId != id {
                response.responses.append(.init(topicId: id))
            }
        }
        response.responses[response.responses.count - 1].partitions.append(data)
    }
}

extension SegmentReader {
    /// A range of the segment's log on its way to a socket.
    func output(_ range: Range<Int>) -> OutputPart {
        guard let descriptor = logDescriptor else { return .bytes(buffer(range)) }
        return .file(
            descriptor: descriptor,
            position: Int64(range.lowerBound),
            byteCount: range.count,
            owner: self
        )
    }
}
