import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Answers to what requests ask of the partitions that live on this shard.
extension Shard {
    /// Answers a call, at once or later; `completion` is called once, unless the call is taken back.
    func answer(
        _ call: ShardCall,
        for origin: ForeignCall,
        then completion: @escaping (ShardReply) -> Void
    ) {
        switch call {
        case .produce(let call):
            produce(call, then: completion)
        case .fetch(let call):
            FetchRun(call, on: self) { completion(.fetch($0)) }.advance()
        case .watch(let watches):
            watch(watches, for: origin, then: completion)
        case .listOffsets(let calls):
            gather(calls) { call, done in
                guard let partition = self.partition(call.partition) else {
                    return done(ListOffsetsReply(error: self.absence(of: call.partition)))
                }
                partition.listOffsets(call, then: done)
            } then: {
                completion(.listOffsets($0))
            }
        case .epochEnds(let calls):
            completion(
                .epochEnds(
                    calls.map { call in
                        self.partition(call.partition)?.epochEnd(call)
                            ?? EpochEndReply(error: self.absence(of: call.partition))
                    }
                )
            )
        case .deleteRecords(let calls):
            gather(calls) { call, done in
                guard let partition = self.partition(call.partition) else {
                    return done(DeleteRecordsReply(error: self.absence(of: call.partition)))
                }
                partition.deleteRecords(before: call.offset, then: done)
            } then: {
                completion(.deleteRecords($0))
            }
        case .logSizes(let wanted):
            completion(.logSizes(logSizes(wanted)))
        case .producers(let wanted):
            completion(
                .producers(
                    wanted.map {
                        self.partition($0)?.describeProducers()
                            ?? ProducersReply(error: self.absence(of: $0))
                    }
                )
            )
        case .groups(let calls): answer(calls, then: completion)
        case .listGroups: completion(.listGroups(groupListings))
        case .groupCommits: completion(.groupCommits(groupCommits))
        case .positions(let calls): positions(calls) { completion(.positions($0)) }
        case .metadata(let command, let patience):
            perform(command, within: patience) { completion(.metadata($0)) }
        case .metadataIsDurable(let index):
            guard let metadata else { preconditionFailure("the metadata log is on shard 0") }
            metadata.whenDurable(upTo: index) { completion(.barrier) }
        case .metadataIsWhole:
            // Without its log nothing of the metadata is known here, so nothing waits for it.
            metadata?.whenWhole { completion(.barrier) }
        case .transfer(let transfer):
            perform(transfer) { completion(.transfer($0)) }
        case .peer(let broker, let question):
            send(question, to: broker) { completion(.peer($0)) }
        case .barrier:
            completion(.barrier)
        }
    }

    private func produce(_ call: ProduceCall, then completion: @escaping (ShardReply) -> Void) {
        gather(call.items) { item, done in
            guard let partition = self.partition(item.partition) else {
                return done(
                    .refused(
                        self.absence(of: item.partition),
                        hint: self.hint(for: item.partition)
                    )
                )
            }
            partition.produce(call, item.records, then: done)
        } then: {
            completion(.produce($0))
        }
    }

    private func watch(
        _ watches: [FetchWatch],
        for origin: ForeignCall,
        then completion: @escaping (ShardReply) -> Void
    ) {
        nextWatchID += 1
        let id = nextWatchID
        var isDone = false
        let finish = { [unowned self] (tells: Bool) in
            guard !isDone else { return }
            isDone = true
            self.cancellations[origin] = nil
            for watch in watches { self.partition(watch.partition)?.unwatch(id) }
            if tells { completion(.watch) }
        }
        cancellations[origin] = { finish(false) }
        for watch in watches where !isDone {
            guard let partition = partition(watch.partition) else { return finish(true) }
            partition.watch(watch, id: id) { finish(true) }
        }
    }

    private func logSizes(_ wanted: [TopicPartition]?) -> [LogSize] {
        (wanted ?? allPartitions.map(\.id)).map { id in
            guard let partition = partition(id) else {
                return LogSize(partition: id, byteCount: 0, error: .unknownTopicOrPartition)
            }
            return LogSize(
                partition: id,
                byteCount: partition.replica.log.segmentByteCount
                    + Int64(partition.replica.log.unsegmentedByteCount)
            )
        }
    }

    /// Does something for each item, each in its own time, and collects the answers in the order of the items.
    func gather<Item, Answer>(
        _ items: [Item],
        _ work: (Item, @escaping (Answer) -> Void) -> Void,
        then completion: @escaping ([Answer]) -> Void
    ) {
        // One item is by far the commonest, and costs no collection.
        if items.count == 1 { return work(items[0]) { completion([$0]) } }
        let gathering = Gathering<Answer>(count: items.count, completion)
        for (place, item) in items.enumerated() {
            work(item) { gathering.put($0, at: place) }
        }
        gathering.finishIfComplete()
    }
}

/// Answers that arrive in any order and are told together.
final class Gathering<Answer> {
    private var answers: [Answer?]
    private var missing: Int
    private var completion: (([Answer]) -> Void)?

    init(count: Int, _ completion: @escaping ([Answer]) -> Void) {
        answers = Array(repeating: nil, count: count)
        missing = count
        self.completion = completion
    }

    /// Takes an answer; each place gets one.
    func put(_ answer: Answer, at place: Int) {
        precondition(answers[place] == nil, "a place is answered once")
        answers[place] = answer
        missing -= 1
        finishIfComplete()
    }

    /// Tells at once when nothing is missing, as for no items at all.
    func finishIfComplete() {
        guard missing == 0, let completion else { return }
        self.completion = nil
        completion(answers.compactMap { $0 })
    }
}
