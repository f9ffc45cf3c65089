import FlotillaBroker
import FlotillaCoordination
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
    /// An election or a start may take as long without a question.
    private static let patience = Duration.seconds(1)
    /// The time between two rounds of questions.
    private static let pause = Duration.seconds(5)

    private let member: GroupMember
    private let home: Place
    private let logger: Logger
    private let ask: Admission.Ask

    /// Prepares the watch.
    ///
    /// - Parameters:
    ///   - member: the broker's place in the metadata's group.
    ///   - home: shard 0.
    ///   - logger: told of questions that got no answer.
    ///   - ask: petitions the broker at an address.
    init(_ member: GroupMember, home: Place, logger: Logger, ask: @escaping Admission.Ask) {
        self.member = member
        self.home = home
        self.logger = logger
        self.ask = ask
    }

    /// Watches until the task is cancelled.
    ///
    /// - Throws: `StartError.removed` once a leader says so, and `CancellationError`.
    func run() async throws -> Never {
        let clock = ContinuousClock()
        var heard = clock.now
        var asked: ContinuousClock.Instant?
        while true {
            try await Task.sleep(for: Self.tick)
            let (hears, peers) = try await home.eventLoop.submit { [home] in
                (home.shard.value.hearsMetadataLeader, home.shard.value.peerAddresses)
            }.get()
            let now = clock.now
            if hears { heard = now }
            guard now - heard >= Self.patience, asked.map({ now - $0 >= Self.pause }) ?? true
            else { continue }
            for peer in peers {
                guard let found = try await place(through: peer) else { continue }
                guard found == member else { throw StartError.removed(member.broker.rawValue) }
                break
            }
            asked = clock.now
        }
    }

    /// The broker's place in the metadata's group as its leader knows it, no member being one; nil when that was not to be had.
    private func place(through peer: PeerAddress) async throws -> GroupMember?? {
        do {
            let body = try MetadataCommand.findMember(member.broker).encoded()
            let answer = try await ask(peer.address, body)
            guard answer.verdict == .accepted,
                case .member(let found) = try MetadataReply(decoding: answer.body)
            else { return nil }
            return .some(found)
        } catch {
            try Task.checkCancellation()
            logger.debug(
                "no answer to whether this broker still belongs to the cluster",
                metadata: .of([.peer: "\(peer.broker)", .error: "\(error)"])
            )
            return nil
        }
    }
}
