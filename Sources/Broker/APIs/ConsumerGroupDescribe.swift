import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ConsumerGroupDescribe (69): every group that is asked for is in the answer. SEMANTICS rule CGD-1.
extension Shard {
    func handle(_ request: ConsumerGroupDescribeRequest, _ context: RequestContext) {
        // A large group that is asked for again and again is described once.
        var seen: Set<String> = []
        let names = request.groupIds.filter { seen.insert($0).inserted }
        askCoordinators(names.map { ($0, .describeConsumer) }) { [unowned self] answers in
            context.respond(
                ConsumerGroupDescribeResponse(
                    groups: zip(names, answers).map { group, answer in
                        switch answer {
                        case .describedConsumer(let group): .init(group, self.image)
                        case .error(let error): .init(absent: group, error)
                        default: preconditionFailure("a description is answered as one")
                        }
                    }
                )
            )
        }
    }
}

extension ConsumerGroupDescribeResponse.DescribedGroup {
    fileprivate init(_ group: ConsumerGroupDescription, _ image: MetadataImage) {
        let state = group.state
        // What members are on their way from may be topics that nobody wants any more.
        let name = { (id: TopicID) in state.topics[id]?.name ?? image.topic(id)?.name }
        self.init(
            groupId: group.name,
            groupState: group.phase.rawValue,
            groupEpoch: state.epoch,
            assignmentEpoch: state.targetEpoch,
            assignorName: group.assignor,
            members: state.members.sorted { $0.key < $1.key }.map { id, member in
                .init(
                    memberId: id,
                    instanceId: member.subscription.instanceID,
                    rackId: member.subscription.rack,
                    memberEpoch: member.current.epoch,
                    clientId: member.subscription.clientID,
                    clientHost: member.subscription.clientHost,
                    subscribedTopicNames: member.subscription.topics,
                    subscribedTopicRegex: member.subscription.pattern,
                    assignment: .init(member.current.assigned, named: name),
                    targetAssignment: .init(member.target, named: name),
                    memberType: member.subscription.classic == nil ? 1 : 0
                )
            }
        )
    }

    fileprivate init(absent group: String, _ error: ErrorCode) {
        self.init(
            errorCode: error.rawValue,
            errorMessage: error == .groupIdNotFound
                ? "there is no group \(group) of the consumer protocol" : nil,
            groupId: group
        )
    }
}

extension ConsumerGroupDescribeResponse.Assignment {
    /// Topics that are gone have no name, and are left out.
    fileprivate init(_ partitions: Set<TopicPartition>, named name: (TopicID) -> String?) {
        self.init(
            topicPartitions: partitions.byTopic.compactMap { topic, partitions in
                name(topic).map { name in
                    .init(topicId: topic, topicName: name, partitions: partitions)
                }
            }
        )
    }
}
