import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ConsumerGroupHeartbeat (68): answered when what it changed is durable on a majority. SEMANTICS section 6.1.
extension Shard {
    func handle(_ request: ConsumerGroupHeartbeatRequest, _ context: RequestContext) {
        guard config.isConsumerProtocolServed else {
            return refuse(.unsupportedVersion, "the consumer protocol is switched off", context)
        }
        if let fault = request.fault(context.version) {
            return refuse(.invalidRequest, fault, context)
        }
        var memberID = request.memberId
        // Before version 1 the coordinator gives the id.
        if memberID.isEmpty { memberID = MemberID.suffix(using: &random) }
        let heartbeat = ConsumerHeartbeat(
            memberID: memberID,
            epoch: request.memberEpoch,
            instanceID: request.instanceId,
            rack: request.rackId,
            rebalanceTimeoutMillis: request.rebalanceTimeoutMs == -1
                ? nil : request.rebalanceTimeoutMs,
            topics: request.subscribedTopicNames,
            pattern: request.subscribedTopicRegex,
            assignor: request.serverAssignor,
            owned: request.topicPartitions.map { topics in
                Set(topics.map { ($0.topicId, $0.partitions) })
            },
            clientID: context.shortClientID,
            clientHost: context.clientHost
        )
        askCoordinator(of: request.groupId, .consumerHeartbeat(heartbeat)) { [unowned self] in
            switch $0 {
            case .heartbeat(let answer):
                context.respond(
                    ConsumerGroupHeartbeatResponse(
                        answer,
                        intervalMillis: GroupConfig.heartbeatMillis(
                            in: self.image.configs(ofGroup: request.groupId),
                            within: self.config.groupConfigBounds
                        ) ?? self.config.consumerHeartbeatMillis
                    )
                )
            case .refused(let refusal): self.refuse(refusal.code, refusal.message, context)
            case .error(let error): self.refuse(error, nil, context)
            default: preconditionFailure("a heartbeat is answered as one")
            }
        }
    }

    private func refuse(_ error: ErrorCode, _ message: String?, _ context: RequestContext) {
        context.respond(
            ConsumerGroupHeartbeatResponse(errorCode: error.rawValue, errorMessage: message)
        )
    }
}

extension RequestContext {
    /// What the client calls itself, as far as it is kept.
    var shortClientID: String {
        var name = clientID ?? ""
        while name.utf8.count > GroupCoordinator.idPrefixByteLimit { name.removeLast() }
        return name
    }
}

extension ConsumerGroupHeartbeatRequest {
    /// What is wrong with it, whatever the group; nil when nothing is.
    ///
    /// - Source: SEMANTICS rules CG-1 and CG-2.
    fileprivate func fault(_ version: Int16) -> String? {
        if groupId.isEmpty { return "the group has no name" }
        if instanceId == "" { return "a static name is empty" }
        if rackId == "" { return "a rack's name is empty" }
        if memberEpoch < CurrentAssignment.awayEpoch { return "\(memberEpoch) is no member epoch" }
        if memberId.isEmpty, version >= 1 || memberEpoch != 0 { return "the member has no id" }
        if memberEpoch == CurrentAssignment.awayEpoch, instanceId == nil {
            return "only a static member may be away for a while"
        }
        let words = [memberId, instanceId ?? "", rackId ?? "", serverAssignor ?? ""]
        let subscription = subscribedTopicNames ?? []
        let byteCount = subscription.reduce(subscribedTopicRegex?.utf8.count ?? 0) {
            $0 + $1.utf8.count
        }
        guard words.allSatisfy({ $0.utf8.count <= GroupCoordinator.wordByteLimit }),
            subscription.allSatisfy({ $0.utf8.count <= GroupCoordinator.wordByteLimit }),
            subscription.count <= GroupCoordinator.topicLimit,
            byteCount <= GroupCoordinator.metadataByteLimit
        else { return "a name is too long, or there are too many of them" }
        guard memberEpoch == 0 else { return nil }
        if rebalanceTimeoutMs < 0 { return "a member that joins names its rebalance timeout" }
        if topicPartitions?.isEmpty != true { return "a member that joins owns no partitions" }
        let hasPattern = subscribedTopicRegex.map { !$0.isEmpty } ?? false
        if subscribedTopicNames == nil, !hasPattern { return "a member that joins names topics" }
        return nil
    }
}

extension ConsumerGroupHeartbeatResponse {
    fileprivate init(_ answer: ConsumerHeartbeatAnswer, intervalMillis: Int32) {
        self.init(
            memberId: answer.memberID,
            memberEpoch: answer.epoch,
            heartbeatIntervalMs: intervalMillis,
            assignment: answer.assignment.map { partitions in
                .init(
                    topicPartitions: partitions.byTopic.map {
                        .init(topicId: $0, partitions: $1)
                    }
                )
            }
        )
    }
}
