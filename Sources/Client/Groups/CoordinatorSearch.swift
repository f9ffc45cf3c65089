import FlotillaKafkaWire
import FlotillaModel
import NIOCore

extension KafkaClient {
    /// Asks who coordinates a group, once.
    ///
    /// - Throws: among others `.refused(.coordinatorNotAvailable, ...)`, which passes.
    func findCoordinator(of group: String) async throws(ClientError) -> BrokerID {
        let response = try await request(to: .anyone) { version in
            version >= 4
                ? FindCoordinatorRequest(coordinatorKeys: [group])
                : FindCoordinatorRequest(key: group)
        }
        let found =
            response.coordinators.first { $0.key == group }
            ?? .init(
                key: group,
                nodeId: response.nodeId,
                host: response.host,
                port: response.port,
                errorCode: response.errorCode,
                errorMessage: response.errorMessage
            )
        let message = found.errorMessage.flatMap { $0.isEmpty || $0 == "NONE" ? nil : $0 }
        if let error = ClientError(
            code: found.errorCode,
            subject: "group \(group)",
            message: message
        ) {
            throw error
        }
        let broker = BrokerID(found.nodeId)
        let address = BrokerAddress(host: found.host, port: Int(found.port))
        // The cluster may have told of it already; a new one is known from here.
        loop.execute { self.loopCore.note(broker, at: address) }
        return broker
    }

    /// Asks a group's coordinator, and the next one where it has moved.
    ///
    /// `code`: what in an answer may say that it has.
    func onCoordinator<Request: KafkaRequest>(
        of group: String,
        limit: Int16 = .max,
        _ make: @escaping @Sendable (Int16) -> Request,
        code: (Request.Response) -> Int16
    ) async throws(ClientError) -> Request.Response {
        try await retrying { () async throws(ClientError) in
            let coordinator = try await findCoordinator(of: group)
            let response = try await request(to: .broker(coordinator), limit: limit, make)
            let told = ErrorCode(rawValue: code(response)) ?? .unknownServerError
            switch told {
            case .coordinatorLoadInProgress, .coordinatorNotAvailable, .notCoordinator:
                throw .refused(told, subject: "group \(group)", message: nil)
            // Others are about something in the question; who asks judges them.
            default: return response
            }
        }
    }
}

extension GroupConsumer {
    /// Asks the coordinator, which is found where it is not known; a question that fails forgets it.
    func ask<Request: KafkaRequest>(
        isParked: Bool = false,
        limit: Int16 = .max,
        within patience: Duration,
        _ make: @escaping @Sendable (Int16) -> Request
    ) async throws(ClientError) -> Request.Response {
        do throws(ClientError) {
            let coordinator = try await knownCoordinator()
            return try await client.request(
                to: .broker(coordinator),
                for: isParked ? .join(member: number) : .group(member: number),
                limit: limit,
                within: patience,
                make
            )
        } catch {
            coordinator = nil
            throw error
        }
    }

    private func knownCoordinator() async throws(ClientError) -> BrokerID {
        if let coordinator { return coordinator }
        let found = try await client.findCoordinator(of: configuration.group)
        coordinator = found
        return found
    }

    /// Whether the same may go well later, perhaps with another coordinator.
    func isPassing(_ error: ClientError) -> Bool {
        if case .refused(.brokerNotAvailable, _, _) = error { return true }
        return error.isRetriable
    }

    /// How long one question to the coordinator may take.
    var patience: Duration {
        Swift.min(client.configuration.requestTimeout, configuration.sessionTimeout)
    }
}
