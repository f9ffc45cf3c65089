import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// DescribeLogDirs (35): how much this broker holds of each partition. SEMANTICS rule ADM-4.
extension Shard {
    func handle(_ request: DescribeLogDirsRequest, _ context: RequestContext) {
        let wanted: [TopicPartition]? = request.topics.map { topics in
            topics.flatMap { topic in
                topic.partitions.compactMap { number in try? resolve(topic.topic, number).get() }
            }
        }
        let questions: [(shard: Int, partitions: [TopicPartition]?)] = (0..<settings.shardCount)
            .compactMap { shard in
                guard let wanted else { return (shard, nil) }
                let here = wanted.filter { settings.shard(of: $0) == shard }
                return here.isEmpty ? nil : (shard, here)
            }
        let gathering = Gathering<[LogSize]>(count: questions.count) { [unowned self] sizes in
            self.respond(sizes.flatMap { $0 }, context)
        }
        for (place, question) in questions.enumerated() {
            ask(question.shard, .logSizes(question.partitions)) { reply in
                guard case .logSizes(let sizes) = reply else {
                    preconditionFailure("sizes are answered with sizes")
                }
                gathering.put(sizes, at: place)
            }
        }
        gathering.finishIfComplete()
    }

    private func respond(_ sizes: [LogSize], _ context: RequestContext) {
        var result = DescribeLogDirsResponse.DescribeLogDirsResult(logDir: settings.dataDirectory)
        for size in sizes.sorted(by: { $0.partition < $1.partition }) where size.error == .noError {
            guard let topic = image.topic(size.partition.topic) else { continue }
            if result.topics.last?.name != topic.name {
                result.topics.append(.init(name: topic.name))
            }
            result.topics[result.topics.count - 1].partitions.append(
                .init(partitionIndex: size.partition.partition, partitionSize: size.byteCount)
            )
        }
        if context.version >= 4 {
            result.totalBytes = space?.totalByteCount ?? -1
            result.usableBytes = space?.freeByteCount ?? -1
        }
        context.respond(DescribeLogDirsResponse(results: [result]))
    }
}
