package import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel
import Synchronization

package import struct NIOCore.ByteBuffer

/// What this broker tells of itself in hellos, and `cluster.json` behind it: durable before told.
package final class FormationBoard: Sendable {
    private struct Content {
        var card: FormationCard
        var encoded: ByteBuffer
    }

    // Guards a card of some hundred bytes, which changes a few times in a broker's life.
    private let content: Mutex<Content>
    private let directory: String
    private let disk: any Disk

    /// Shows what the directory says.
    ///
    /// - Parameters:
    ///   - card: this broker, with the state that was read from `directory`.
    ///   - directory: where `cluster.json` is kept.
    ///   - disk: where that is.
    /// - Throws: `CoordinationError` when a setting of this broker is too long to be told.
    package init(
        _ card: FormationCard,
        directory: String,
        disk: any Disk
    ) throws(CoordinationError) {
        try card.checkBounds()
        content = Mutex(Content(card: card, encoded: card.encoded()))
        self.directory = directory
        self.disk = disk
    }

    /// This broker as others are told of it.
    package var card: FormationCard {
        content.withLock { $0.card }
    }

    /// The card as the body of a hello or of its answer.
    package var body: ByteBuffer {
        content.withLock { $0.encoded }
    }

    /// The cluster as hellos name it: empty before this broker belongs to one, or has met one.
    package var clusterID: String {
        card.state.clusterID ?? ""
    }

    /// Makes a state durable, and then tells it; called from one task at a time, never on a shard.
    package func establish(_ state: FormationState) throws {
        var card = card
        guard state != card.state else { return }
        card.state = state
        try card.checkBounds()
        let identity = ClusterIdentity(
            broker: card.broker,
            incarnation: card.incarnation,
            state: state
        )
        guard let identity else { preconditionFailure("no directory becomes empty again") }
        try identity.write(in: directory, disk: disk)
        let encoded = card.encoded()
        content.withLock { [card] content in
            content = Content(card: card, encoded: encoded)
        }
    }

    /// Why a link from this broker is not taken, as a sentence; nil when it may be.
    ///
    /// Questions are always answered: who asks decides by the card.
    package func refusal(
        ofLinkFrom broker: BrokerID,
        incarnation: BrokerIncarnation,
        clusterID: String
    ) -> String? {
        let card = card
        guard broker != card.broker else {
            return incarnation == card.incarnation
                ? "this is broker \(broker) itself"
                : "broker \(broker) is this one; give each broker its own node.id"
        }
        let own = card.state.clusterID ?? ""
        // Founders link up before their cluster has an id.
        guard own.isEmpty || clusterID.isEmpty || own == clusterID else {
            return "this is a broker of cluster \(own), not of \(clusterID)"
        }
        return nil
    }
}
