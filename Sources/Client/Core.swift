import FlotillaKafkaWire
import FlotillaModel
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
        /// Each member of a group too, so that its heartbeats stand behind nobody.
        case group(member: Int)
        /// What waits at the coordinator until all members have joined.
        case join(member: Int)
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
    private var clusterID: String?
    private(set) var topics: [String: ClusterMetadata.Topic] = [:]
    /// Addresses that kept us waiting the last time; others are asked first.
    private var slow: Set<BrokerAddress> = []
    /// Why the last connection that did not come about failed.
    private var lastFailure: ClientError?
    private var hasToldWaiting = false

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
                    let failure = ClientError.unreachable(
                        brokers: [key.address],
                        reason: ClientError.reason(error),
                        isRefusal: ClientError.isRefusal(error)
                    )
                    self.settle(key, .failure(failure))
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
            slow.remove(key.address)
            connection.onClose = { [weak self] reason in
                if case .requestTimedOut = reason { self?.noteSlow(key.address) }
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
            lastFailure = error
        }
        for waiter in waiters { waiter(result) }
    }

    /// Remembers that an address kept us waiting.
    func noteSlow(_ address: BrokerAddress) {
        slow.insert(address)
    }

    /// A completion that is told `failure` where nothing else comes by the deadline; what comes later is dropped.
    private func bounded<Value>(
        by deadline: NIODeadline?,
        _ failure: @escaping () -> ClientError,
        _ complete: @escaping Completion<Value>
    ) -> Completion<Value> {
        guard let deadline else { return complete }
        var isOver = false
        let timer = loop.assumeIsolated().scheduleTask(deadline: deadline) {
            guard !isOver else { return }
            isOver = true
            complete(.failure(failure()))
        }
        return { result in
            timer.cancel()
            guard !isOver else { return }
            isOver = true
            complete(result)
        }
    }

    // MARK: Waiting

    /// What is waited for, in words; told to `onWait` once, by the first call that takes long.
    func tellWaiting() {
        guard !hasToldWaiting, !isClosed, let tell = configuration.onWait else { return }
        hasToldWaiting = true
        tell(waitText)
    }

    private var waitText: String {
        var asked: [String] = []
        var pending: Set<BrokerAddress> = []
        for (key, link) in links {
            switch link {
            case .connecting: pending.insert(key.address)
            case .ready(let connection):
                guard let api = connection.awaitedAPI else { continue }
                asked.append("waiting for \(key.address) to answer \(api.name)")
            }
        }
        if let text = asked.min() { return text }
        if pending.isEmpty, let lastFailure {
            let reason = ConnectionSearch.reason(lastFailure)
            return "waiting for a broker at \(ClientError.list(configuration.brokers)): \(reason)"
        }
        let names = ClientError.list(pending.sorted { $0.description < $1.description })
        return "waiting for " + (names.isEmpty ? "the cluster" : "\(names) to answer")
    }

    // MARK: Requests

    /// Whom a request is for.
    enum Target: Hashable, Sendable {
        case anyone
        case controller
        case broker(BrokerID)
    }

    /// Sends a request, built for the version that both sides speak, and hands over the answer.
    ///
    /// `deadline`: when connecting and answering must be over; without it only the answer has its `timeout`.
    func send<Request: KafkaRequest>(
        to target: Target,
        for purpose: Purpose = .control,
        limit: Int16 = .max,
        timeout: TimeAmount? = nil,
        by deadline: NIODeadline? = nil,
        _ make: @escaping (Int16) -> Request,
        complete: @escaping Completion<Request.Response>
    ) {
        withConnection(to: target, for: purpose, by: deadline) { result in
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
                let timeout = timeout ?? self.requestTimeout
                connection.send(
                    make(version),
                    version: version,
                    timeout: deadline.map { min(timeout, $0 - .now()) } ?? timeout,
                    complete: complete
                )
            }
        }
    }

    private func withConnection(
        to target: Target,
        for purpose: Purpose,
        by deadline: NIODeadline?,
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
                return withConnection(to: address, for: purpose, by: deadline, complete)
            }
            // Known by id only: who it is must be asked first.
            return refreshMetadata(topics: [], allowsCreation: false, by: deadline) { result in
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
                self.withConnection(to: address, for: purpose, by: deadline, complete)
            }
        }
        if target == .controller {
            return refreshMetadata(topics: [], allowsCreation: false, by: deadline) { result in
                if let error = result.failure { return complete(.failure(error)) }
                let target = self.controller.map { Target.broker($0) } ?? .anyone
                self.withConnection(to: target, for: purpose, by: deadline, complete)
            }
        }
        search(for: purpose, by: deadline, complete)
    }

    private func withConnection(
        to address: BrokerAddress,
        for purpose: Purpose,
        by deadline: NIODeadline?,
        _ complete: @escaping Completion<Connection>
    ) {
        let late = {
            ClientError.unreachable(brokers: [address], reason: "no answer in time")
        }
        withConnection(to: address, for: purpose, bounded(by: deadline, late, complete))
    }

    private func search(
        for purpose: Purpose,
        by deadline: NIODeadline?,
        _ complete: @escaping Completion<Connection>
    ) {
        ConnectionSearch(self, candidates(), for: purpose, complete).start(by: deadline)
    }

    /// Every address that may answer: connected first, then those of the cluster, then those we started with; of these
    /// the ones that kept us waiting come last.
    private func candidates() -> [BrokerAddress] {
        var seen: Set<BrokerAddress> = []
        let known = brokers.values.shuffled() + configuration.brokers.shuffled()
        let all = known.filter { seen.insert($0).inserted }
        let quick = all.filter { !isConnected($0) && !slow.contains($0) }
        return all.filter(isConnected) + quick
            + all.filter { !isConnected($0) && slow.contains($0) }
    }

    private func isConnected(_ address: BrokerAddress) -> Bool {
        guard case .ready(let connection) = links[LinkKey(address: address, purpose: .control)]
        else { return false }
        return connection.isOpen
    }

    // MARK: Metadata

    /// Asks a broker about the cluster and about `topics` (nil: about all), and remembers the answer.
    func refreshMetadata(
        topics names: [String]?,
        allowsCreation: Bool,
        by deadline: NIODeadline? = nil,
        complete: @escaping Completion<ClusterMetadata>
    ) {
        let make: (Int16) -> MetadataRequest = { version in
            MetadataRequest(
                topics: names?.map { MetadataRequest.MetadataRequestTopic(name: $0) },
                // Older brokers create by their own rules and have no field for it.
                allowAutoTopicCreation: version < 4 || allowsCreation
            )
        }
        send(to: .anyone, by: deadline, make) { result in
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
        if let known = clusterID, let told = metadata.clusterID, known != told { topics = [:] }
        clusterID = metadata.clusterID ?? clusterID
        for topic in metadata.topics {
            topics[topic.name] = topics[topic.name].map { topic.keepingNewer($0) } ?? topic
        }
    }

    /// Notes where a broker is that another one has named.
    func note(_ broker: BrokerID, at address: BrokerAddress) {
        brokers[broker] = address
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
