import DequeModule
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import NIOCore

/// Sends a producer's batches.
///
/// Lives on the client's event loop.
///
/// Order: the batches of a partition go out one after the other, with up to five requests on their way to a
/// broker. When one comes back it returns to its place in the partition's queue, the partition rests until
/// all others on their way came back too, and then they are repeated in order with the sequence numbers they
/// had, by which the broker recognizes repeats (KIP-98).
///
/// Whether a batch that came back is in the log is not known, so it keeps its number until the broker
/// answers for it. Numbers change only where a partition's oldest batch is refused as out of order: what
/// follows is not in the log then either, since a partition's batches go to one broker at a time.
final class Sender {
    let core: Core
    let accumulator: Accumulator
    let configuration: ProducerConfiguration
    private let onDelivery: (@Sendable (DeliveryReport) -> Void)?
    let compressor = Compressor()
    var lanes: [SendLane] = []
    private var destinations: [BrokerID: Destination] = [:]
    private var unknownTopics: [String: NIODeadline] = [:]
    private var partitionCounts: [String: Int] = [:]
    /// Given to partitions that have none, or whose own is of no more use.
    var identity = Identity.unknown
    private var timer: Scheduled<Void>?
    private var timerDeadline: NIODeadline?
    private var isRefreshing = false
    private var isRefreshDue = false
    private var refreshedAt = NIODeadline.now()
    private var refreshAfter = NIODeadline.uptimeNanoseconds(0)
    private var refreshBackoff: Backoff
    var identityAfter = NIODeadline.uptimeNanoseconds(0)
    var identityBackoff: Backoff
    private var isClosed = false

    /// What is known of the way to a broker.
    private struct Destination {
        var connection: Connection?
        var isConnecting = false
        var inFlight = 0
        var notBefore = NIODeadline.uptimeNanoseconds(0)
        var backoff: Backoff
    }

    init(
        core: Core,
        accumulator: Accumulator,
        configuration: ProducerConfiguration,
        onDelivery: (@Sendable (DeliveryReport) -> Void)?
    ) {
        self.core = core
        self.accumulator = accumulator
        self.configuration = configuration
        self.onDelivery = onDelivery
        refreshBackoff = Backoff(core.configuration)
        identityBackoff = Backoff(core.configuration)
    }

    func close() {
        isClosed = true
        timer?.cancel()
    }

    // MARK: The pump

    /// Does everything that can be done now, and sets the timer for the rest.
    func pump() {
        guard !isClosed else { return }
        for topic in accumulator.beginWalk() where unknownTopics[topic] == nil {
            unknownTopics[topic] = .now() + TimeAmount(configuration.topicTimeout)
            isRefreshDue = true
            refreshAfter = .uptimeNanoseconds(0)
        }
        let now = NIODeadline.now()
        expireQueued(now)
        var nextLinger: NIODeadline?
        if configuration.isIdempotent { identify(now) }
        repeat {
            let walk = accumulator.walk(
                now: now,
                oldest: now - TimeAmount(configuration.deliveryTimeout)
            ) { id in
                wantsMore(lanes[id], now)
            }
            for (id, draft) in walk.expired { expire(draft, of: lanes[id]) }
            for (id, draft) in walk.ready { lanes[id].queue.append(seal(draft, of: lanes[id])) }
            nextLinger = walk.nextLinger
        } while sendRound(now)
        refreshIfDue(now)
        schedule(now, nextLinger)
    }

    /// Whether a partition's next batch could leave at once.
    private func wantsMore(_ lane: SendLane, _ now: NIODeadline) -> Bool {
        guard lane.queue.isEmpty, lane.isSendable(now),
            !configuration.isIdempotent || canNumber(lane)
        else { return false }
        guard let leader = lane.leader else {
            isRefreshDue = true
            return false
        }
        let destination = destinations[leader]
        return destination.map {
            $0.inFlight < configuration.maximumInFlight && $0.notBefore <= now
        } ?? true
    }

    /// Sends one request to each broker that has something and may take it; false where there was none.
    private func sendRound(_ now: NIODeadline) -> Bool {
        var ready: [BrokerID: [SendLane]] = [:]
        for lane in lanes where !lane.queue.isEmpty && lane.isSendable(now) {
            guard let leader = lane.leader else {
                isRefreshDue = true
                continue
            }
            ready[leader, default: []].append(lane)
        }
        var hasSent = false
        for (broker, lanes) in ready where send(lanes, to: broker, now) { hasSent = true }
        return hasSent
    }

    private func send(_ lanes: [SendLane], to broker: BrokerID, _ now: NIODeadline) -> Bool {
        let destination = destinations[broker] ?? Destination(backoff: Backoff(core.configuration))
        destinations[broker] = destination
        guard destination.inFlight < configuration.maximumInFlight, destination.notBefore <= now
        else { return false }
        guard let connection = destination.connection, connection.isOpen else {
            connect(to: broker)
            return false
        }
        guard let version = connection.version(of: ProduceRequest.self, limit: 12), version >= 3
        else {
            let error = ClientError.unsupported(api: "Produce", broker: connection.address)
            for lane in lanes {
                while let batch = lane.queue.popFirst() { fail(batch, of: lane, error) }
            }
            return false
        }
        var batches: [(SendLane, OutBatch)] = []
        var byteCount = 0
        // Start elsewhere each time, so that no partition waits behind the others.
        let start = lanes.count > 1 ? Int.random(in: 0..<lanes.count) : 0
        for index in lanes.indices {
            let lane = lanes[(start + index) % lanes.count]
            guard let batch = lane.queue.first else { continue }
            let size = batch.batch.byteCount
            if !batches.isEmpty, byteCount + size > configuration.maximumRequestByteCount {
                continue
            }
            lane.queue.removeFirst()
            batches.append((lane, batch))
            byteCount += size
        }
        guard !batches.isEmpty else { return false }
        transmit(batches, over: connection, version: version, to: broker)
        return true
    }

    private func transmit(
        _ batches: [(SendLane, OutBatch)],
        over connection: Connection,
        version: Int16,
        to broker: BrokerID
    ) {
        let request = makeRequest(batches)
        destinations[broker]?.inFlight += 1
        for (lane, _) in batches {
            lane.inFlight += 1
            lane.route = broker
        }
        guard configuration.acks == .none else {
            return connection.send(request, version: version, timeout: core.requestTimeout) {
                result in
                self.conclude(batches, at: broker, result.map { $0 })
            }
        }
        connection.sendUnanswered(request, version: version) { result in
            self.conclude(batches, at: broker, result.map { nil })
        }
    }

    /// `result`: nil stands for an answer that is not expected.
    private func conclude(
        _ batches: [(SendLane, OutBatch)],
        at broker: BrokerID,
        _ result: Result<ProduceResponse?, ClientError>
    ) {
        destinations[broker]?.inFlight -= 1
        for (lane, _) in batches { lane.inFlight -= 1 }
        settle(batches, result)
        for (lane, _) in batches where lane.inFlight == 0 { lane.isResting = false }
        pumpSoon()
    }

    private func makeRequest(_ batches: [(SendLane, OutBatch)]) -> ProduceRequest {
        var topics: [ProduceRequest.TopicProduceData] = []
        var places: [String: Int] = [:]
        for (lane, batch) in batches {
            let part = ProduceRequest.PartitionProduceData(
                index: lane.partition.index,
                records: Records(batch.batch.bytes)
            )
            if let place = places[lane.partition.topic] {
                topics[place].partitionData.append(part)
            } else {
                places[lane.partition.topic] = topics.count
                topics.append(.init(name: lane.partition.topic, partitionData: [part]))
            }
        }
        return ProduceRequest(
            transactionalId: nil,
            acks: configuration.acks.rawValue,
            timeoutMs: Int32(clamping: core.requestTimeout.nanoseconds / 1_000_000),
            topicData: topics
        )
    }

    private func connect(to broker: BrokerID) {
        guard destinations[broker]?.isConnecting == false else { return }
        guard let address = core.brokers[broker] else {
            isRefreshDue = true
            return
        }
        destinations[broker]?.isConnecting = true
        core.withConnection(to: address, for: .produce) { result in
            self.destinations[broker]?.isConnecting = false
            switch result {
            case .success(let connection):
                self.destinations[broker]?.connection = connection
                self.destinations[broker]?.backoff.reset()
            case .failure(let error):
                if let pause = self.destinations[broker]?.backoff.next() {
                    self.destinations[broker]?.notBefore = .now() + TimeAmount(pause)
                }
                self.isRefreshDue = true
                for lane in self.lanes where lane.leader == broker { lane.lastError = error }
            }
            self.pumpSoon()
        }
    }

    /// Pumps in the next turn of the loop: a callback may come from within a pump.
    func pumpSoon() {
        core.loop.assumeIsolated().execute { self.pump() }
    }

    // MARK: Answers

    private func settle(
        _ batches: [(SendLane, OutBatch)],
        _ result: Result<ProduceResponse?, ClientError>
    ) {
        switch result {
        case .failure(let error):
            isRefreshDue = true
            for (lane, batch) in batches {
                if error.isRetriable {
                    retry(batch, of: lane, error)
                } else {
                    fail(batch, of: lane, error)
                }
            }
        case .success(nil):
            for (lane, batch) in batches { succeed(batch, of: lane, baseOffset: nil) }
        case .success(let response?):
            var answers: [NamedPartition: ProduceResponse.PartitionProduceResponse] = [:]
            for topic in response.responses {
                for partition in topic.partitionResponses {
                    answers[NamedPartition(topic: topic.name, index: partition.index)] = partition
                }
            }
            for (lane, batch) in batches {
                if let answer = answers[lane.partition] {
                    settle(batch, of: lane, answer)
                } else {
                    fail(
                        batch,
                        of: lane,
                        .malformedResponse("Produce does not answer for \(lane.partition)")
                    )
                }
            }
        }
    }

    private func settle(
        _ batch: OutBatch,
        of lane: SendLane,
        _ answer: ProduceResponse.PartitionProduceResponse
    ) {
        let message = answer.errorMessage ?? answer.recordErrors.first?.batchIndexErrorMessage
        guard
            let error = ClientError(
                code: answer.errorCode,
                subject: lane.partition.description,
                message: message
            ),
            case .refused(let code, _, _) = error
        else {
            lane.backoff.reset()
            return succeed(
                batch,
                of: lane,
                baseOffset: answer.baseOffset < 0 ? nil : Offset(answer.baseOffset)
            )
        }
        switch code {
        case .duplicateSequenceNumber where configuration.isIdempotent:
            succeed(batch, of: lane, baseOffset: nil)
        case .outOfOrderSequenceNumber where configuration.isIdempotent,
            .unknownProducerId where configuration.isIdempotent,
            .invalidProducerEpoch where configuration.isIdempotent:
            // Behind a batch that came back, or is still on its way to another broker, it waits for that.
            if lane.outstanding.first === batch { lane.isSpent = true }
            retry(batch, of: lane, error)
        case .notLeaderOrFollower, .unknownTopicOrPartition, .leaderNotAvailable,
            .fencedLeaderEpoch,
            .unknownLeaderEpoch, .kafkaStorageError:
            isRefreshDue = true
            retry(batch, of: lane, error)
        default:
            if code.isRetriable {
                retry(batch, of: lane, error)
            } else {
                fail(batch, of: lane, error)
            }
        }
    }

    /// Puts a batch back to its place.
    private func retry(_ batch: OutBatch, of lane: SendLane, _ error: ClientError) {
        if !lane.isResting {
            lane.notBefore = .now() + TimeAmount(lane.backoff.next())
            lane.isResting = lane.inFlight > 0
        }
        lane.lastError = error
        let place = lane.queue.firstIndex { $0.order > batch.order } ?? lane.queue.endIndex
        lane.queue.insert(batch, at: place)
    }

    private func succeed(_ batch: OutBatch, of lane: SendLane, baseOffset: Offset?) {
        lane.forget(batch)
        finish(batch.draft, of: lane.partition, baseOffset: baseOffset, error: nil)
    }

    private func fail(_ batch: OutBatch, of lane: SendLane, _ error: ClientError) {
        lane.forget(batch)
        finish(batch.draft, of: lane.partition, baseOffset: nil, error: error)
    }

    private func finish(
        _ draft: Draft,
        of partition: NamedPartition,
        baseOffset: Offset?,
        error: ClientError?
    ) {
        for (index, waiter) in draft.waiters {
            if let error {
                waiter.resume(returning: .failure(error))
            } else {
                let offset = baseOffset.map { $0 + Int64(index) }
                waiter.resume(
                    returning: .success(RecordMetadata(partition: partition, offset: offset))
                )
            }
        }
        onDelivery?(
            DeliveryReport(
                partition: partition,
                tags: draft.tags,
                baseOffset: baseOffset,
                error: error
            )
        )
        accumulator.release(byteCount: draft.heldByteCount, recordCount: draft.tags.count)
    }

    // MARK: Time

    private func expireQueued(_ now: NIODeadline) {
        for lane in lanes {
            while let batch = lane.queue.first, batch.deadline <= now {
                lane.queue.removeFirst()
                fail(batch, of: lane, deliveryTimedOut(lane))
            }
        }
    }

    private func expire(_ draft: Draft, of lane: SendLane) {
        finish(draft, of: lane.partition, baseOffset: nil, error: deliveryTimedOut(lane))
    }

    private func deliveryTimedOut(_ lane: SendLane) -> ClientError {
        .deliveryTimedOut(
            partition: lane.partition,
            reason: lane.lastError?.description ?? "no answer"
        )
    }

    private func schedule(_ now: NIODeadline, _ nextLinger: NIODeadline?) {
        guard !accumulator.isEmpty else { return }
        // Retries, timeouts and metadata need no finer clock than this.
        var next = now + .milliseconds(25)
        if let nextLinger { next = max(min(next, nextLinger), now) }
        if let timerDeadline, timerDeadline <= next, timerDeadline > now { return }
        timer?.cancel()
        timerDeadline = next
        timer = core.loop.assumeIsolated().scheduleTask(deadline: next) { [weak self] in
            self?.timerDeadline = nil
            self?.pump()
        }
    }

    // MARK: Metadata

    private func refreshIfDue(_ now: NIODeadline) {
        if refreshedAt + TimeAmount(core.configuration.metadataMaximumAge) <= now {
            isRefreshDue = true
        }
        guard isRefreshDue, !isRefreshing, refreshAfter <= now else { return }
        isRefreshing = true
        isRefreshDue = false
        let known = Set(lanes.map(\.partition.topic))
        let names = known.union(unknownTopics.keys).sorted()
        core.refreshMetadata(topics: names, allowsCreation: true) { result in
            self.isRefreshing = false
            self.refreshAfter = .now() + TimeAmount(self.refreshBackoff.next())
            switch result {
            case .success(let metadata):
                self.refreshedAt = .now()
                self.learn(metadata)
            case .failure(let error): self.postpone(error)
            }
            self.pumpSoon()
        }
    }

    private func learn(_ metadata: ClusterMetadata) {
        for lane in lanes { lane.leader = core.leader(of: lane.partition) }
        for topic in metadata.topics {
            guard let deadline = unknownTopics[topic.name] else {
                // Partitions were added.
                if topic.error == .noError, partitionCounts[topic.name] != nil { open(topic) }
                continue
            }
            if topic.error == .noError, !topic.partitions.isEmpty {
                unknownTopics[topic.name] = nil
                open(topic)
            } else if !topic.error.isRetriable || deadline <= .now() {
                let error = ClientError.refused(
                    topic.error,
                    subject: "topic \(topic.name)",
                    message: nil
                )
                abandon(topic.name, error)
            } else {
                isRefreshDue = true
            }
        }
        if lanes.allSatisfy({ $0.leader != nil }), unknownTopics.isEmpty { refreshBackoff.reset() }
    }

    /// Keeps waiting for the cluster, up to the delivery timeout.
    private func postpone(_ error: ClientError) {
        isRefreshDue = true
        for lane in lanes { lane.lastError = error }
        let patience =
            TimeAmount(configuration.deliveryTimeout) - TimeAmount(configuration.topicTimeout)
        for (topic, deadline) in unknownTopics
        where !error.isRetriable || deadline + patience <= .now() {
            abandon(topic, error)
        }
    }

    private func open(_ topic: ClusterMetadata.Topic) {
        let opened = accumulator.open(topic: topic.name, partitionCount: topic.partitions.count)
        precondition(opened.firstLaneID == lanes.count, "lanes are numbered alike on both sides")
        let known = partitionCounts[topic.name] ?? 0
        partitionCounts[topic.name] = max(known, topic.partitions.count)
        for index in known..<max(known, topic.partitions.count) {
            let partition = NamedPartition(topic: topic.name, index: Int32(index))
            let lane = SendLane(
                partition: partition,
                isIdempotent: configuration.isIdempotent,
                backoff: Backoff(core.configuration)
            )
            lane.leader = core.leader(of: partition)
            lanes.append(lane)
        }
        for failure in opened.failures { drop(failure) }
    }

    private func abandon(_ topic: String, _ error: ClientError) {
        unknownTopics[topic] = nil
        for failure in accumulator.abandon(topic: topic, error) { drop(failure) }
    }

    private func drop(_ failed: Accumulator.Failed) {
        failed.waiter?.resume(returning: .failure(failed.error))
        onDelivery?(
            DeliveryReport(
                partition: failed.partition,
                tags: [failed.tag],
                baseOffset: nil,
                error: failed.error
            )
        )
        accumulator.release(byteCount: failed.byteCount, recordCount: 1)
    }

    // MARK: Batches

    private func seal(_ draft: Draft, of lane: SendLane) -> OutBatch {
        lane.sealedCount += 1
        if configuration.isIdempotent { number(draft, of: lane) }
        let batch = OutBatch(
            draft: draft,
            batch: draft.builder.build(using: compressor),
            order: lane.sealedCount,
            deadline: draft.start + TimeAmount(configuration.deliveryTimeout)
        )
        if configuration.isIdempotent { lane.outstanding.append(batch) }
        return batch
    }
}
