import FlotillaKafkaWire
import FlotillaModel
import Glibc
import Logging
import NIOCore
import NIOPosix

/// The heart of a client: its connections, and what it knows of the cluster.
///
/// Lives on one event loop.
final class Core {
    /// What a connection is for.
    ///
    /// A fetch waits at the broker and answers keep their order, so it must not stand before
    /// anything else.
    enum Purpose: Hashable {
        case control
        case produce
        /// Each consumer has connections of its own.
        case fetch(consumer: Int)
    }

    private struct LinkKey: Hashable {
        var address: BrokerAddress
        var purpose: Purpose
    }

    private enum Link {
        case connecting(waiters: [Completion<Connection>])
        case ready(Connection)
    }

    let loop: any EventLoop
    let configuration: ClientConfiguration
    let logger: Logger
    private(set) var isClosed = false
    private var links: [LinkKey: Link] = [:]
    private(set) var brokers: [BrokerID: BrokerAddress] = [:]
    private(set) var controller: BrokerID?
    private(set) var topics: [String: ClusterMetadata.Topic] = [:]

    init(loop: any EventLoop, configuration: ClientConfiguration, logger: Logger) {
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
    }

    /// Ends every connection; nothing can be sent afterwards.
    func close() {
        isClosed = true
        let all = links
        links = [:]
        for link in all.values {
            switch link {
            case .ready(let connection): connection.close(.closed)
            case .connecting(let waiters): for waiter in waiters { waiter(.failure(.closed)) }
            }
        }
    }

    /// Ends the connections of one purpose.
    func close(_ purpose: Purpose) {
        for (key, link) in links where key.purpose == purpose {
            links[key] = nil
            switch link {
            case .ready(let connection): connection.close(.closed)
            case .connecting(let waiters): for waiter in waiters { waiter(.failure(.closed)) }
            }
        }
    }

    var requestTimeout: TimeAmount {
        TimeAmount(configuration.requestTimeout)
    }

    // MARK: Connections

    /// Hands over the connection to an address, which is made where there is none.
    func withConnection(
        to address: BrokerAddress,
        for purpose: Purpose,
        _ complete: @escaping Completion<Connection>
    ) {
        guard !isClosed else { return complete(.failure(.closed)) }
        let key = LinkKey(address: address, purpose: purpose)
        switch links[key] {
        case .ready(let connection) where connection.isOpen:
            complete(.success(connection))
        case .connecting(let waiters):
            links[key] = .connecting(waiters: waiters + [complete])
        case .ready, nil:
            links[key] = .connecting(waiters: [complete])
            connect(key)
        }
    }

    private func connect(_ key: LinkKey) {
        let connection = Connection(address: key.address, clientID: configuration.clientID)
        let bound = NIOLoopBound(connection, eventLoop: loop)
        let timeout = TimeAmount(configuration.connectTimeout)
        ClientBootstrap(group: loop)
            .connectTimeout(timeout)
            .channelOption(.socketOption(.so_keepalive), value: 1)
            .channelOption(.tcpOption(.tcp_nodelay), value: 1)
            .channelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: 4096,
                    initial: 65_536,
                    maximum: 1 << 20
                )
            )
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try channel.pipeline.syncOperations.addHandler(bound.value)
                }
            }
            .connect(host: key.address.host, port: key.address.port)
            .assumeIsolated()
            .whenComplete { result in
                switch result {
                case .failure(let error):
                    let reason = Self.reason(error)
                    self.settle(key, .failure(.unreachable(brokers: [key.address], reason: reason)))
                case .success:
                    connection.negotiate(timeout: self.requestTimeout) { negotiated in
                        if case .failure(let error) = negotiated { connection.close(error) }
                        self.settle(key, negotiated.map { connection })
                    }
                }
            }
    }

    private func settle(_ key: LinkKey, _ result: Result<Connection, ClientError>) {
        guard case .connecting(let waiters) = links[key] else {
            if case .success(let connection) = result { connection.close(.closed) }
            return
        }
        switch result {
        case .success(let connection):
            links[key] = .ready(connection)
            connection.onClose = { [weak self] reason in
                self?.logger.debug(
                    "connection closed",
                    metadata: ["broker": "\(key.address)", "reason": "\(reason)"]
                )
                if case .ready(let current) = self?.links[key], current === connection {
                    self?.links[key] = nil
                }
            }
        case .failure(let error):
            logger.debug(
                "connection failed",
                metadata: ["broker": "\(key.address)", "reason": "\(error)"]
            )
            links[key] = nil
        }
        for waiter in waiters { waiter(result) }
    }

    /// A connection error in few words.
    private static func reason(_ error: any Error) -> String {
        if let system = error as? IOError {
            // Safe: the text is static, or a thread's own, and copied at once.
            return unsafe String(cString: strerror(system.errnoCode))
        }
        guard let failure = error as? NIOConnectionError else { return "\(error)" }
        if let last = failure.connectionErrors.last { return reason(last.error) }
        return failure.dnsAError.map { "\($0)" } ?? "the name has no address"
    }

    // MARK: Requests

    /// Whom a request is for.
    enum Target: Hashable, Sendable {
        case anyone
        case controller
        case broker(BrokerID)
    }

    /// Sends a request, built for the version that both sides speak, and hands over the answer.
    func send<Request: KafkaRequest>(
        to target: Target,
        for purpose: Purpose = .control,
        limit: Int16 = .max,
        timeout: TimeAmount? = nil,
        _ make: @escaping (Int16) -> Request,
        complete: @escaping Completion<Request.Response>
    ) {
        withConnection(to: target, for: purpose) { result in
            switch result {
            case .failure(let error): complete(.failure(error))
            case .success(let connection):
                guard let version = connection.version(of: Request.self, limit: limit) else {
                    let error = ClientError.unsupported(
                        api: Request.apiKey.name,
                        broker: connection.address
                    )
                    return complete(.failure(error))
                }
                connection.send(
                    make(version),
                    version: version,
                    timeout: timeout ?? self.requestTimeout,
                    complete: complete
                )
            }
        }
    }

    private func withConnection(
        to target: Target,
        for purpose: Purpose,
        _ complete: @escaping Completion<Connection>
    ) {
        let wanted: BrokerID?
        switch target {
        case .anyone: wanted = nil
        case .controller: wanted = controller
        case .broker(let id): wanted = id
        }
        if let wanted {
            if let address = brokers[wanted] {
                return withConnection(to: address, for: purpose, complete)
            }
            // Known by id only: who it is must be asked first.
            return refreshMetadata(topics: [], allowsCreation: false) { result in
                // Each broker names itself as the controller, and another one than before may have answered.
                let wanted = target == .controller ? self.controller ?? wanted : wanted
                guard case .success = result, let address = self.brokers[wanted] else {
                    let error = ClientError.refused(
                        .brokerNotAvailable,
                        subject: "broker \(wanted)",
                        message: nil
                    )
                    return complete(.failure(result.failure ?? error))
                }
                self.withConnection(to: address, for: purpose, complete)
            }
        }
        if target == .controller {
            return refreshMetadata(topics: [], allowsCreation: false) { result in
                if let error = result.failure { return complete(.failure(error)) }
                let target = self.controller.map { Target.broker($0) } ?? .anyone
                self.withConnection(to: target, for: purpose, complete)
            }
        }
        tryAll(candidates(), for: purpose, reason: nil, complete)
    }

    /// Every address that may answer: connected first, then those of the cluster, then those we started with.
    private func candidates() -> [BrokerAddress] {
        var seen: Set<BrokerAddress> = []
        let known = brokers.values.shuffled() + configuration.brokers.shuffled()
        let all = known.filter { seen.insert($0).inserted }
        return all.filter(isConnected) + all.filter { !isConnected($0) }
    }

    private func isConnected(_ address: BrokerAddress) -> Bool {
        guard case .ready(let connection) = links[LinkKey(address: address, purpose: .control)]
        else { return false }
        return connection.isOpen
    }

    private func tryAll(
        _ addresses: [BrokerAddress],
        for purpose: Purpose,
        reason: String?,
        _ complete: @escaping Completion<Connection>
    ) {
        guard let address = addresses.first else {
            let error = ClientError.unreachable(
                brokers: configuration.brokers,
                reason: reason ?? "none given"
            )
            return complete(.failure(error))
        }
        withConnection(to: address, for: purpose) { result in
            switch result {
            case .success, .failure(.closed): complete(result)
            case .failure(let error):
                var text = error.description
                if case .unreachable(_, let inner) = error { text = inner }
                self.tryAll(Array(addresses.dropFirst()), for: purpose, reason: text, complete)
            }
        }
    }

    // MARK: Metadata

    /// Asks a broker about the cluster and about `topics` (nil: about all), and remembers the answer.
    func refreshMetadata(
        topics names: [String]?,
        allowsCreation: Bool,
        complete: @escaping Completion<ClusterMetadata>
    ) {
        let make: (Int16) -> MetadataRequest = { version in
            MetadataRequest(
                topics: names?.map { MetadataRequest.MetadataRequestTopic(name: $0) },
                // Older brokers create by their own rules and have no field for it.
                allowAutoTopicCreation: version < 4 || allowsCreation
            )
        }
        send(to: .anyone, make) { result in
            complete(
                result.map { response in
                    let metadata = ClusterMetadata(response)
                    self.learn(metadata)
                    return metadata
                }
            )
        }
    }

    private func learn(_ metadata: ClusterMetadata) {
        if !metadata.brokers.isEmpty {
            brokers = Dictionary(metadata.brokers.map { ($0.id, $0.address) }) { $1 }
        }
        controller = metadata.controller
        for topic in metadata.topics { topics[topic.name] = topic }
    }

    /// Forgets where a topic's partitions are led, so that the next look asks again.
    func forget(topic: String) {
        topics[topic] = nil
    }

    /// Who leads a partition as far as is known.
    func leader(of partition: NamedPartition) -> BrokerID? {
        guard let topic = topics[partition.topic], topic.error == .noError else { return nil }
        let index = Int(partition.index)
        if topic.partitions.indices.contains(index),
            topic.partitions[index].index == partition.index
        {
            return topic.partitions[index].leader
        }
        return topic.partitions.first { $0.index == partition.index }?.leader
    }
}

extension Result {
    /// The error, if it is one.
    var failure: Failure? {
        guard case .failure(let error) = self else { return nil }
        return error
    }
}
