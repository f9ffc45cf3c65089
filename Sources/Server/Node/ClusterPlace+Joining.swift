import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Logging
import NIOCore
import NIOPosix

/// How a broker comes into a cluster that is there already, and how a broker of that cluster lets it in.
extension ClusterPlace {
    /// Registers with a cluster, and takes down the place that it gave: from then on this directory belongs there.
    static func join(
        _ invitation: ClusterInvitation,
        _ admission: Admission,
        _ board: FormationBoard,
        _ logger: Logger
    ) async throws {
        let outcome = try await admission.perform(through: invitation.through)
        guard outcome.clusterID == invitation.clusterID else {
            throw FormationRefusal.otherCluster(
                own: invitation.clusterID,
                other: outcome.clusterID,
                at: invitation.through[0].address
            )
        }
        try board.establish(
            .member(
                ClusterMembership(
                    clusterID: outcome.clusterID,
                    epoch: outcome.metadataMember.epoch,
                    founders: invitation.founders
                )
            )
        )
        logger.info("joined the cluster", metadata: .of([.value: outcome.clusterID]))
        guard outcome.renewedPartitionCount > 0 else { return }
        logger.warning(
            "this broker is a new member of its partitions; what its former directory held is copied again",
            metadata: .of([.count: outcome.renewedPartitionCount])
        )
        guard !outcome.lostPartitions.isEmpty else { return }
        logger.error(
            "partitions have no quorum without the former directory of this broker",
            metadata: .of([.reason: outcome.lostPartitions.joined(separator: ", ")])
        )
    }

    /// Sends the controller a command about this broker, through a broker of the cluster.
    static func petition(
        _ address: NetworkAddress,
        _ body: ByteBuffer,
        _ registration: BrokerRegistration,
        _ board: FormationBoard,
        on group: MultiThreadedEventLoopGroup
    ) async throws -> PeerHelloAnswer {
        let settings = PeerSettings()
        let hello = PeerHello(
            purpose: .petition,
            broker: registration.id,
            incarnation: registration.incarnation,
            clusterID: board.clusterID,
            body: body
        )
        return try await PeerProbe.ask(
            address,
            hello,
            // The broker's own time limit passes first, so that it can say why.
            timeout: settings.petitionTimeout + .seconds(1),
            on: group,
            settings: settings
        )
    }

    /// Has the controller decide what a broker asks about itself.
    static func decide(
        _ hello: PeerHello,
        _ accepted: PeerHelloAnswer,
        _ receivers: PeerReceivers,
        on eventLoop: any EventLoop
    ) -> EventLoopFuture<PeerHelloAnswer> {
        var answer = accepted
        do {
            let command = try MetadataCommand(decoding: hello.body)
            guard isAboutItself(command, hello) else {
                answer.verdict = .refused(
                    "a broker can only ask to be registered, and whether it is"
                )
                return eventLoop.makeSucceededFuture(answer)
            }
            guard let (home, shard) = receivers.first else {
                answer.verdict = .notYet("it is still starting")
                return eventLoop.makeSucceededFuture(answer)
            }
            let decided = home.makePromise(of: ByteBuffer.self)
            home.execute {
                shard.value.decide(command) { reply in
                    decided.completeWith(Result { try reply.encoded() })
                }
            }
            return decided.futureResult.map { [answer] body in
                var answer = answer
                answer.body = body
                return answer
            }
        } catch {
            answer.verdict = .refused("a petition that cannot be read: \(error)")
            return eventLoop.makeSucceededFuture(answer)
        }
    }

    private static func isAboutItself(_ command: MetadataCommand, _ hello: PeerHello) -> Bool {
        switch command {
        case .registerBroker(let registration):
            registration.id == hello.broker && registration.incarnation == hello.incarnation
        case .findMember(let broker, _): broker == hello.broker && !hello.clusterID.isEmpty
        default: false
        }
    }
}
