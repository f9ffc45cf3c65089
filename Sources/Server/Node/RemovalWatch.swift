import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Logging
import NIOCore

/// Notices that the cluster has removed this broker.
///
/// The others do not call on a broker that they have removed, nor one that was removed while it was down. So a broker to which no leader of
/// the metadata speaks asks them whether it still belongs there. Only a leader's word counts: as long as none is to be found, the
/// broker goes on with what it knows.
struct RemovalWatch {
    /// How often the broker looks whether it hears the leader.
    private static let tick = Duration.milliseconds(500)

    private let member: GroupMember
    private let home: Place
    private let belongs: @Sendable () -> Bool
    private let logger: Logger
    private let ask: Admission.Ask

    /// Prepares the watch.
    ///
    /// - Parameters:
    ///   - member: the broker's place in the metadata's group.
    ///   - home: shard 0.
    ///   - belongs: whether the directory belongs to a cluster already.
    ///   - logger: told of questions that got no answer.
    ///   - ask: petitions the broker at an address.
    init(
        _ member: GroupMember,
        home: Place,
        belongs: @escaping @Sendable () -> Bool,
        logger: Logger,
        ask: @escaping Admission.Ask
    ) {
        self.member = member
        self.home = home
        self.belongs = belongs
        self.logger = logger
        self.ask = ask
    }

    /// Watches until the task is cancelled.
    ///
    /// - Throws: `StartError.removed` once a leader says so, and `CancellationError`.
    func run() async throws -> Never {
        let clock = ContinuousClock()
        var suspicion = RemovalSuspicion(now: clock.now)
        while true {
            try await Task.sleep(for: Self.tick)
            let (hears, peers, index) = try await home.eventLoop.submit { [home] in
                let shard = home.shard.value
                return (
                    shard.hearsMetadataLeader && shard.isNamed, shard.peerAddresses,
                    shard.metadataIndex
                )
            }.get()
            guard suspicion.shouldAsk(hears: hears, now: clock.now), belongs() else { continue }
            guard try await isRemoved(by: peers, knowing: index) else { continue }
            throw StartError.removed(member.broker.rawValue)
        }
    }

    /// Asks all at once, and waits no longer than for the first word of a leader.
    private func isRemoved(by peers: [PeerAddress], knowing index: LogIndex) async throws -> Bool {
        let body = try MetadataCommand.findMember(member.broker, appliedIndex: index).encoded()
        return try await withThrowingTaskGroup(of: RemovalWord.self) { words in
            for peer in peers {
                words.addTask { try await word(of: peer, body) }
            }
            defer { words.cancelAll() }
            for try await word in words where word != .silence {
                return word.proves(removalOf: member)
            }
            return false
        }
    }

    private func word(of peer: PeerAddress, _ body: ByteBuffer) async throws -> RemovalWord {
        do {
            return RemovalWord(try await ask(peer.address, body))
        } catch {
            try Task.checkCancellation()
            logger.debug(
                "no answer to whether this broker still belongs to the cluster",
                metadata: .of([.peer: "\(peer.broker)", .error: "\(error)"])
            )
            return .silence
        }
    }
}
