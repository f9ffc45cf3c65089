import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// Metadata (3): brokers, topics, leaders; topics are created on the way where that is allowed. SEMANTICS section 4.1.
extension Shard {
    func handle(_ request: MetadataRequest, _ context: RequestContext) {
        let missing = topicsToCreate(request, context.version)
        guard !missing.isEmpty else { return respond(request, context) }
        create(missing.map { TopicRequest(name: $0) }) { [unowned self] invalidNames in
            self.respond(request, context, invalidNames)
        }
    }

    /// Creates topics and waits until their partitions have leaders.
    ///
    /// `action`: told the names that no topic may have beside those there are (GEN-5). What else went wrong shows as
    /// a topic that is not known, which clients ask for again.
    private func create(_ topics: [TopicRequest], then action: @escaping (Set<String>) -> Void) {
        ask(0, .metadata(.createTopics(topics, validateOnly: false))) { [unowned self] reply in
            guard case .metadata(.topics(let outcomes)) = reply else { return action([]) }
            let invalid = outcomes.filter { outcome in
                guard case .failure(let refusal) = outcome.result else { return false }
                return refusal.code == .invalidTopicException
            }
            // For a topic that was refused nobody needs to wait; one that somebody else has just made will be led.
            let coming = outcomes.filter { outcome in
                if case .failure(let refusal) = outcome.result {
                    refusal.code == .topicAlreadyExists
                } else {
                    true
                }
            }
            self.waitForLeaders(of: coming.map(\.name)) { action(Set(invalid.map(\.name))) }
        }
    }

    /// Waits until this shard knows a leader for every partition of the topics, or for as long as it makes sense.
    func waitForLeaders(of names: [String], then action: @escaping () -> Void) {
        wait(atMost: settings.leaderWait) { [unowned self] in
            names.allSatisfy { name in
                guard let topic = self.image.topic(named: name) else { return false }
                return topic.partitions.indices.allSatisfy { number in
                    let partition = TopicPartition(topic: topic.id, partition: Int32(number))
                    return self.leadership.leader(of: partition)?.leader != nil
                }
            }
        } then: {
            action()
        }
    }

    /// The names that a request would have created: never for "all topics", never by id (META-7).
    private func topicsToCreate(_ request: MetadataRequest, _ version: Int16) -> [String] {
        guard config.isAutoCreateEnabled, version < 4 || request.allowAutoTopicCreation else {
            return []
        }
        var seen: Set<String> = []
        return (request.topics ?? []).compactMap { topic in
            guard topic.topicId == .zero, let name = topic.name, TopicName.isValid(name),
                seen.insert(name).inserted
            else {
                return nil
            }
            return image.topic(named: name) == nil && !TopicName.isInternal(name) ? name : nil
        }
    }

    private func respond(
        _ request: MetadataRequest,
        _ context: RequestContext,
        _ invalidNames: Set<String> = []
    ) {
        var response = MetadataResponse(
            brokers: brokers(as: context).map { broker in
                .init(
                    nodeId: broker.id.rawValue,
                    host: broker.address.host,
                    port: Int32(broker.address.port),
                    rack: broker.rack
                )
            },
            clusterId: image.clusterID,
            controllerId: settings.broker.rawValue
        )
        let isAll = context.version == 0 ? (request.topics ?? []).isEmpty : request.topics == nil
        if isAll {
            response.topics = image.topics.map { describe($0.value) }
        } else {
            response.topics = (request.topics ?? []).map {
                describe($0, context.version, invalidNames)
            }
        }
        context.respond(response)
    }

    private func describe(
        _ wanted: MetadataRequest.MetadataRequestTopic,
        _ version: Int16,
        _ invalidNames: Set<String>
    ) -> MetadataResponse.MetadataResponseTopic {
        if wanted.topicId != .zero {
            guard let topic = image.topic(wanted.topicId) else {
                return .init(
                    errorCode: ErrorCode.unknownTopicId.rawValue,
                    name: version >= 12 ? nil : "",
                    topicId: wanted.topicId
                )
            }
            return describe(topic)
        }
        let name = wanted.name ?? ""
        guard TopicName.isValid(name), !invalidNames.contains(name) else {
            return .init(errorCode: ErrorCode.invalidTopicException.rawValue, name: name)
        }
        guard let topic = image.topic(named: name) else {
            return .init(errorCode: ErrorCode.unknownTopicOrPartition.rawValue, name: name)
        }
        return describe(topic)
    }

    private func describe(_ topic: TopicImage) -> MetadataResponse.MetadataResponseTopic {
        .init(
            name: topic.name,
            topicId: topic.id,
            isInternal: topic.isInternal,
            partitions: topic.partitions.enumerated().map { number, partition in
                let place = placement(
                    of: TopicPartition(topic: topic.id, partition: Int32(number)),
                    partition
                )
                return .init(
                    errorCode: place.error.rawValue,
                    partitionIndex: Int32(number),
                    leaderId: place.leader,
                    leaderEpoch: place.epoch,
                    replicaNodes: place.replicas,
                    isrNodes: place.inSync,
                    offlineReplicas: place.offline
                )
            }
        )
    }

    /// Where a partition is, as clients are told.
    struct Placement {
        var error: ErrorCode
        var leader: Int32
        var epoch: Int32
        var replicas: [Int32]
        var inSync: [Int32]
        var offline: [Int32]
    }

    /// Where a partition is, and who leads it (META-5, META-6).
    func placement(of id: TopicPartition, _ partition: PartitionImage) -> Placement {
        let hint = hint(for: id)
        // As in Kafka, all that have data are named while a partition moves; one that is still coming is not in sync.
        var brokers = partition.brokers
        for member in partition.removing where !brokers.contains(member.broker) {
            brokers.append(member.broker)
        }
        let coming = partition.adding.map(\.broker)
        return Placement(
            error: hint.leader < 0 ? .leaderNotAvailable : .noError,
            leader: hint.leader,
            // Never a smaller one than before, also while nobody leads (META-6).
            epoch: max(hint.epoch, leadership.leader(of: id)?.term.leaderEpoch ?? -1),
            replicas: brokers.map(\.rawValue),
            inSync: brokers.filter { isReachable($0) && !coming.contains($0) }.map(\.rawValue),
            offline: brokers.filter { !isReachable($0) }.map(\.rawValue)
        )
    }

    /// A broker as clients are told of it.
    struct KnownBroker {
        var id: BrokerID
        var address: NetworkAddress
        var rack: String?
    }

    /// The brokers with the addresses that this client can use (META-2): those that answer, or all that are registered.
    func brokers(as context: RequestContext, isWithSilent: Bool = false) -> [KnownBroker] {
        image.brokers.filter { isWithSilent || isReachable($0.key) }.map { id, registration in
            if id == settings.broker {
                let address: NetworkAddress =
                    switch settings.advertised {
                    case .asReached: context.connection.sink.localAddress
                    case .fixed(let address): address
                    }
                return KnownBroker(id: id, address: address, rack: registration.rack)
            }
            return KnownBroker(id: id, address: registration.kafkaAddress, rack: registration.rack)
        }
    }
}

extension RequestContext {
    /// How this client reaches the leaders that it is sent to; nothing for the usual answer that sends it nowhere.
    ///
    /// - Source: KIP-951.
    func endpoints(hinted hints: [LeaderHint]) -> [Shard.KnownBroker] {
        guard hints.contains(where: { $0.leader >= 0 }) else { return [] }
        return connection.shard.brokers(as: self).filter { broker in
            hints.contains { $0.leader == broker.id.rawValue }
        }
    }
}
