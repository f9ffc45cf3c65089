import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel

/// FindCoordinator (10): the broker that leads a group's partition of `__consumer_offsets`. SEMANTICS section 5.1.
extension Shard {
    func handle(_ request: FindCoordinatorRequest, _ context: RequestContext) {
        let keys = context.version >= 4 ? request.coordinatorKeys : [request.key]
        guard request.keyType == Self.groupKeyType else {
            return respond(keys.map { unsupported($0, type: request.keyType) }, context)
        }
        withGroupTopic { [unowned self] in
            self.waitForCoordinators(of: keys) { [unowned self] in
                let brokers = self.brokers(as: context)
                self.respond(keys.map { self.coordinator(of: $0, brokers) }, context)
            }
        }
    }

    /// Goes on when somebody coordinates the groups, or when that takes too long.
    ///
    /// After a failover that is sooner than a client asks again that was told "nobody": librdkafka waits for half a second or a whole one.
    private func waitForCoordinators(of groups: [String], then action: @escaping () -> Void) {
        let partitions = Set(groups.compactMap { groupPartition(of: $0) })
        wait(atMost: settings.coordinatorWait) { [unowned self] in
            partitions.allSatisfy { self.hint(for: $0) != .unknown }
        } then: {
            action()
        }
    }

    private static let groupKeyType: Int8 = 0

    private func unsupported(_ key: String, type: Int8) -> FindCoordinatorResponse.Coordinator {
        let isKnown = (1...2).contains(type)
        return .init(
            key: key,
            nodeId: -1,
            host: "",
            port: -1,
            errorCode: (isKnown ? ErrorCode.coordinatorNotAvailable : .invalidRequest).rawValue,
            errorMessage: isKnown
                ? "this broker coordinates consumer groups only"
                : "\(type) is no type of coordinator"
        )
    }

    private func coordinator(
        of group: String,
        _ brokers: [KnownBroker]
    ) -> FindCoordinatorResponse.Coordinator {
        let leader = groupPartition(of: group).map { hint(for: $0).leader } ?? -1
        guard let broker = brokers.first(where: { $0.id.rawValue == leader }) else {
            return .init(
                key: group,
                nodeId: -1,
                host: "",
                port: -1,
                errorCode: ErrorCode.coordinatorNotAvailable.rawValue,
                errorMessage: "nobody coordinates the group at the moment; ask again"
            )
        }
        return .init(
            key: group,
            nodeId: leader,
            host: broker.address.host,
            port: Int32(broker.address.port),
            errorMessage: nil
        )
    }

    private func respond(
        _ coordinators: [FindCoordinatorResponse.Coordinator],
        _ context: RequestContext
    ) {
        guard context.version < 4, let only = coordinators.first else {
            return context.respond(FindCoordinatorResponse(coordinators: coordinators))
        }
        context.respond(
            FindCoordinatorResponse(
                errorCode: only.errorCode,
                errorMessage: only.errorMessage,
                nodeId: only.nodeId,
                host: only.host,
                port: only.port
            )
        )
    }
}
