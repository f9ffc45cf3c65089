import DequeModule
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import NIOCore

/// Under which name a broker counts the batches that a producer writes to a partition.
struct ProducerIdentity: Equatable {
    var id: ProducerID
    var epoch: Int16
}

/// What numbers a producer's batches, so that the broker knows repeats.
///
/// A partition keeps its identity as long as its broker goes on with it, and then takes the next epoch of the
/// same id: what is still on its way under the old one is refused wherever it arrives (KIP-360). Other
/// partitions are not touched, for their batches may be in the log without an answer.
extension Sender {
    enum Identity {
        case unknown
        case asking
        case known(ProducerIdentity)
    }

    /// How many of a partition's latest batches a broker recognizes.
    ///
    /// - Source: KIP-98, `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`.
    static let recognizedBatchCount = 5

    /// Renumbers partitions whose identity is spent, and asks for an identity where there is none.
    func identify(_ now: NIODeadline) {
        for lane in lanes where lane.isSpent && lane.inFlight == 0 { renumber(lane) }
        if case .unknown = identity, identityAfter <= now { ask() }
    }

    /// Whether a new batch of the partition can have a number.
    ///
    /// The oldest batch without an answer must stay among those that the broker recognizes: were more
    /// appended behind it, its repeat would be refused as out of order though it is in the log.
    func canNumber(_ lane: SendLane) -> Bool {
        if let oldest = lane.outstanding.first {
            return lane.sealedCount - oldest.order + 1 < Self.recognizedBatchCount
        }
        if case .known = identity { return true }
        return lane.identity != nil
    }

    /// Gives a batch its number.
    func number(_ draft: Draft, of lane: SendLane) {
        if lane.identity == nil, case .known(let identity) = identity { lane.identity = identity }
        guard let identity = lane.identity else {
            preconditionFailure("a batch is sealed once it can be numbered")
        }
        draft.builder.producerID = identity.id
        draft.builder.producerEpoch = identity.epoch
        draft.builder.baseSequence = lane.nextSequence
        lane.advanceSequence(by: draft.builder.count)
    }

    /// Numbers everything that waits from 0 under the next epoch, or under a new id after the last one.
    private func renumber(_ lane: SendLane) {
        guard let spent = lane.identity else { return lane.isSpent = false }
        var next = ProducerIdentity(id: spent.id, epoch: spent.epoch &+ 1)
        if spent.epoch == .max {
            guard case .known(let current) = identity else { return }
            guard current.id != spent.id else { return identity = .unknown }
            next = current
        }
        lane.identity = next
        lane.isSpent = false
        lane.nextSequence = 0
        for batch in lane.queue {
            let sequence = lane.nextSequence
            batch.batch = batch.batch.rewritten { header in
                header.producerID = next.id
                header.producerEpoch = next.epoch
                header.baseSequence = sequence
            }
            lane.advanceSequence(by: Int(batch.batch.header.recordCount))
        }
    }

    private func ask() {
        identity = .asking
        let make: (Int16) -> InitProducerIdRequest = { _ in
            InitProducerIdRequest(transactionalId: nil, transactionTimeoutMs: Int32.max)
        }
        core.send(to: .anyone, make) { result in
            switch result.map({ ($0, ClientError(code: $0.errorCode, subject: "InitProducerId")) })
            {
            case .success((let response, nil)):
                self.identityBackoff.reset()
                self.identity = .known(
                    ProducerIdentity(
                        id: ProducerID(response.producerId),
                        epoch: response.producerEpoch
                    )
                )
            case .success((_, let error?)), .failure(let error):
                self.identity = .unknown
                self.identityAfter = .now() + TimeAmount(self.identityBackoff.next())
                for lane in self.lanes { lane.lastError = error }
            }
            self.pumpSoon()
        }
    }
}
