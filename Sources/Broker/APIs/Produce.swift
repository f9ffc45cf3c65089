import DequeModule
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Produce (0): batches into logs. SEMANTICS section 1.
extension Shard {
    func handle(_ request: ProduceRequest, _ context: RequestContext) {
        // Versions 0 to 2 are announced for old librdkafka, which never sends them; they are refused (CLIENTS 3.1).
        guard context.version >= 3 else { return context.connection.close(.unsupportedRequest) }
        let run = ProduceRun(
            request,
            context,
            deadline: environment.clock.now + .milliseconds(Int(max(0, request.timeoutMs)))
        )
        guard let acks = Acks(rawValue: request.acks) else {
            return run.finish { _ in .refused(.invalidRequiredAcks, "acks is -1, 0 or 1") }
        }
        var questions: [[ProduceCall.Item]] = Array(repeating: [], count: settings.shardCount)
        var places: [[Int]] = Array(repeating: [], count: settings.shardCount)
        for (place, part) in run.parts.enumerated() {
            switch resolve(part, request, context.version) {
            case .success(let partition):
                let shard = settings.shard(of: partition)
                questions[shard].append(
                    ProduceCall.Item(partition: partition, records: part.records)
                )
                places[shard].append(place)
            case .failure(let refusal):
                run.put(.refused(refusal.code, refusal.message), at: place)
            }
        }
        for shard in questions.indices where !questions[shard].isEmpty {
            let call = ProduceCall(
                acks: acks,
                version: context.version,
                isTransactional: request.transactionalId != nil,
                items: questions[shard]
            )
            let asked = places[shard]
            ask(shard, .produce(call)) { reply in
                guard case .produce(let replies) = reply else {
                    preconditionFailure("a produce is answered as one")
                }
                for (place, reply) in zip(asked, replies) { run.put(reply, at: place) }
                run.finishIfComplete()
            }
        }
        run.finishIfComplete()
        if !run.isFinished { produceDeadlines.add(run, on: self) }
    }

    private func resolve(
        _ part: ProduceRun.Part,
        _ request: ProduceRequest,
        _ version: Int16
    ) -> Result<TopicPartition, Refusal> {
        if request.transactionalId != nil {
            return .failure(
                Refusal(.transactionalIdAuthorizationFailed, "transactions are not served yet")
            )
        }
        let topic = version >= 13 ? image.topic(part.topicID) : image.topic(named: part.topicName)
        if topic?.isInternal == true {
            return .failure(
                Refusal(.invalidTopicException, "internal topics are written by the broker only")
            )
        }
        return version >= 13
            ? resolve(part.topicID, part.partition) : resolve(part.topicName, part.partition)
    }
}

/// One produce request until its answer.
final class ProduceRun {
    /// One partition's part of the request.
    struct Part {
        var topicName: String
        var topicID: TopicID
        var partition: Int32
        var records: ByteBuffer?
    }

    let parts: [Part]
    let deadline: Instant
    private(set) var isFinished = false
    private let context: RequestContext
    private let acks: Int16
    private let topicSizes: [Int]
    private var replies: [ProduceReply?]
    private var missing: Int

    init(_ request: ProduceRequest, _ context: RequestContext, deadline: Instant) {
        self.context = context
        self.deadline = deadline
        acks = request.acks
        topicSizes = request.topicData.map(\.partitionData.count)
        parts = request.topicData.flatMap { topic in
            topic.partitionData.map { partition in
                Part(
                    topicName: topic.name,
                    topicID: topic.topicId,
                    partition: partition.index,
                    records: partition.records?.buffer
                )
            }
        }
        replies = Array(repeating: nil, count: parts.count)
        missing = parts.count
    }

    func put(_ reply: ProduceReply, at place: Int) {
        guard !isFinished else { return }
        precondition(replies[place] == nil, "a batch is answered once")
        replies[place] = reply
        missing -= 1
    }

    func finishIfComplete() {
        guard missing == 0 else { return }
        finish { _ in preconditionFailure("every batch has its answer") }
    }

    /// Nobody waits any longer: what has no answer yet timed out, though it may still be committed.
    func expire() {
        finish { _ in
            .refused(
                .requestTimedOut,
                "the batch was not acknowledged in time; it may still be committed"
            )
        }
    }

    /// Answers, with `substitute` where a reply is missing.
    func finish(_ substitute: (Int) -> ProduceReply) {
        guard !isFinished else { return }
        isFinished = true
        let replies = replies.enumerated().map { place, reply in reply ?? substitute(place) }
        guard acks != 0 else { return finishUnacknowledged(replies) }
        context.respond(response(replies))
    }

    /// With acks=0 the only sign of a failure is the end of the connection (PROD-2).
    private func finishUnacknowledged(_ replies: [ProduceReply]) {
        context.respondNothing()
        guard replies.contains(where: { $0.error != .noError }) else { return }
        context.connection.close(.unacknowledgedFailure)
    }

    private func response(_ replies: [ProduceReply]) -> ProduceResponse {
        var response = ProduceResponse()
        var next = 0
        for size in topicSizes where size > 0 {
            let first = parts[next]
            response.responses.append(
                ProduceResponse.TopicProduceResponse(
                    name: first.topicName,
                    topicId: first.topicID,
                    partitionResponses: (next..<next + size).map {
                        partitionResponse(replies[$0], parts[$0].partition)
                    }
                )
            )
            next += size
        }
        if context.version >= 10 {
            response.nodeEndpoints = context.endpoints(hinted: replies.map(\.hint)).map { broker in
                ProduceResponse.NodeEndpoint(
                    nodeId: broker.id.rawValue,
                    host: broker.address.host,
                    port: Int32(broker.address.port),
                    rack: broker.rack
                )
            }
        }
        return response
    }

    private func partitionResponse(
        _ reply: ProduceReply,
        _ partition: Int32
    ) -> ProduceResponse.PartitionProduceResponse {
        var response = ProduceResponse.PartitionProduceResponse(
            index: partition,
            errorCode: reply.error.rawValue,
            baseOffset: reply.baseOffset.rawValue,
            logAppendTimeMs: reply.logAppendTime.rawValue,
            logStartOffset: reply.logStartOffset.rawValue
        )
        if context.version >= 8 {
            response.errorMessage = reply.message
            response.recordErrors = reply.recordErrors.map { error in
                ProduceResponse.BatchIndexAndErrorMessage(
                    batchIndex: error.batchIndex,
                    batchIndexErrorMessage: error.message
                )
            }
        }
        if context.version >= 10 {
            response.currentLeader = .init(
                leaderId: reply.hint.leader,
                leaderEpoch: reply.hint.epoch
            )
        }
        return response
    }
}

/// The produce requests that wait, so that each ends with its timeout.
///
/// Nearly all are answered within milliseconds; a timer for each would leave a heap of dead timers behind. They stand in
/// a line instead, looked through once a second.
struct ProduceDeadlines {
    /// How much later than its timeout a request may be answered.
    static let interval = Duration.seconds(1)

    private var runs = Deque<ProduceRun>()
    private var isScheduled = false

    mutating func add(_ run: ProduceRun, on shard: Shard) {
        while let first = runs.first, first.isFinished { runs.removeFirst() }
        runs.append(run)
        guard !isScheduled else { return }
        isScheduled = true
        shard.schedule(after: Self.interval) { [unowned shard] in
            shard.produceDeadlines.expire(on: shard)
        }
    }

    private mutating func expire(on shard: Shard) {
        isScheduled = false
        runs.removeAll(where: \.isFinished)
        let now = shard.environment.clock.now
        let due = runs.filter { $0.deadline <= now }
        runs.removeAll { $0.deadline <= now }
        for run in due { run.expire() }
        guard !runs.isEmpty else { return }
        isScheduled = true
        shard.schedule(after: Self.interval) { [unowned shard] in
            shard.produceDeadlines.expire(on: shard)
        }
    }
}
