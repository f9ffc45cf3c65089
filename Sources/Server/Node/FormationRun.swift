package import FlotillaCoordination
package import FlotillaEnvironment
package import Logging

package import struct NIOCore.ByteBuffer

/// Brings a broker into a cluster before its shards start: asks the seeds, keeps what was decided,
/// and says in the log whom it waits for.
package struct FormationRun: Sendable {
    /// Asks the broker at an address, and gives the body of its answer.
    ///
    /// It takes the body of the hello, ends within a second or so, and ends early when its task is
    /// cancelled. What it throws is told as the reason why nobody answered.
    package typealias Ask = @Sendable (NetworkAddress, ByteBuffer) async throws -> ByteBuffer

    /// How a broker goes on.
    package enum Result: Hashable, Sendable {
        /// Begin, or go on with, the metadata group of these founders; this broker is one of them.
        case found(FoundingList)
        /// Register with this cluster through one of these brokers.
        case join(ClusterInvitation)
        /// Go on as the member that it is.
        case resume(ClusterMembership)
    }

    private let board: FormationBoard
    private let logger: Logger
    private let progress: StartProgress
    private let ask: Ask

    /// Prepares the way into a cluster.
    ///
    /// - Parameters:
    ///   - board: this broker and its state, which the peer listener must be telling already.
    ///   - progress: told whom the broker waits for.
    ///   - logger: told the same, now and then.
    ///   - ask: dials a broker.
    package init(
        board: FormationBoard,
        progress: StartProgress = StartProgress(),
        logger: Logger,
        ask: @escaping Ask
    ) {
        self.board = board
        self.progress = progress
        self.logger = logger
        self.ask = ask
    }

    /// Runs until the broker knows where it belongs.
    ///
    /// - Returns: how to go on, and the named address under which this broker reached itself (nil
    ///   when it is none of those named): the best address to give to others.
    /// - Throws: `FormationRefusal` when the broker must not start, what the disk says when
    ///   `cluster.json` cannot be written, and `CancellationError`.
    package func perform() async throws -> (result: Result, namedAddress: NetworkAddress?) {
        var formation = ClusterFormation(board.card)
        let outcome = try await withThrowingTaskGroup(of: ClusterFormation.Input.self) { tasks in
            defer { tasks.cancelAll() }
            var report = WaitReport()
            var effects = formation.step(.started)
            while true {
                if let outcome = try carryOut(effects, &formation, &tasks) { return outcome }
                let waiting = formation.waiting
                progress.waits(for: waiting)
                if let sentence = report.due(waiting, at: .now) {
                    logger.info("waiting for the cluster", metadata: .of([.reason: sentence]))
                }
                guard let input = try await tasks.next() else {
                    preconditionFailure("a formation that goes on has asked somebody")
                }
                effects = formation.step(input)
            }
        }
        return (try end(outcome), formation.ownNamedAddress)
    }

    /// Performs effects in their order, and those that follow from what became durable.
    private func carryOut(
        _ effects: [ClusterFormation.Effect],
        _ formation: inout ClusterFormation,
        _ tasks: inout ThrowingTaskGroup<ClusterFormation.Input, any Error>
    ) throws -> ClusterFormation.Outcome? {
        for effect in effects {
            switch effect {
            case .ask(let address, let delay):
                tasks.addTask { try await answer(of: address, after: delay) }
            case .persist(let state):
                try board.establish(state)
                tell(state)
                let outcome = try carryOut(formation.step(.persisted), &formation, &tasks)
                if let outcome { return outcome }
            case .finish(let outcome):
                return outcome
            }
        }
        return nil
    }

    private func answer(
        of address: NetworkAddress,
        after delay: Duration
    ) async throws -> ClusterFormation.Input {
        if delay > .zero { try await Task.sleep(for: delay) }
        do {
            let body = try await ask(address, board.body)
            return .answered(address, try FormationCard(decoding: body))
        } catch {
            try Task.checkCancellation()
            return .silent(address, reason: "\(error)")
        }
    }

    private func tell(_ state: FormationState) {
        switch state {
        case .empty, .member:
            break
        case .agreed(let list):
            let founders = list.members.map { "\($0.broker)" }.joined(separator: ", ")
            logger.info(
                "agreed to found a cluster",
                metadata: .of([.reason: "brokers \(founders)"])
            )
        case .founded:
            logger.info("founding a cluster")
        case .joining(let clusterID):
            logger.info("joining a cluster", metadata: .of([.value: clusterID]))
        }
    }

    private func end(_ outcome: ClusterFormation.Outcome) throws(FormationRefusal) -> Result {
        switch outcome {
        case .found(let list): return .found(list)
        case .join(let invitation): return .join(invitation)
        case .resume(let membership): return .resume(membership)
        case .refuse(let refusal): throw refusal
        }
    }
}
