import DequeModule
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import NIOCore

/// One partition as the sender sees it.
final class SendLane {
    let partition: NamedPartition
    var leader: BrokerID?
    /// Batches to send, oldest first.
    var queue: Deque<OutBatch> = []
    /// Batches on their way.
    var inFlight = 0
    /// A batch came back while others were on their way: nothing leaves before they all came back.
    var isResting = false
    var notBefore = NIODeadline.uptimeNanoseconds(0)
    var nextSequence: Int32 = 0
    var backoff: Backoff
    var lastError: ClientError?

    init(partition: NamedPartition, backoff: Backoff) {
        self.partition = partition
        self.backoff = backoff
    }

    func isSendable(_ now: NIODeadline) -> Bool {
        !isResting && notBefore <= now
    }

    func advanceSequence(by count: Int) {
        nextSequence = RecordBatchHeader.sequence(nextSequence, advancedBy: Int32(count))
    }
}

/// A sealed batch.
final class OutBatch {
    let draft: Draft
    var batch: RecordBatch
    /// Ascending in the order in which batches were sealed.
    let order: Int
    let deadline: NIODeadline
    /// Whether a broker may have it.
    var wasSent = false

    init(draft: Draft, batch: RecordBatch, order: Int, deadline: NIODeadline) {
        self.draft = draft
        self.batch = batch
        self.order = order
        self.deadline = deadline
    }
}

// MARK: The producer's identity

extension Sender {
    /// Whether batches can be numbered; asks for an identity where there is none.
    func hasIdentity(_ now: NIODeadline) -> Bool {
        switch identity {
        case .known: return true
        case .asking: return false
        case .spent:
            // Numbers of the old identity must not mix with those of the new one.
            guard lanes.allSatisfy({ $0.inFlight == 0 }) else { return false }
            identity = .unknown
            return hasIdentity(now)
        case .unknown:
            guard identityAfter <= now else { return false }
            ask()
            return false
        }
    }

    private func ask() {
        identity = .asking
        let make: (Int16) -> InitProducerIdRequest = { _ in
            InitProducerIdRequest(transactionalId: nil, transactionTimeoutMs: Int32.max)
        }
        core.send(to: .anyone, make) { result in
            switch result {
            case .success(let response) where response.errorCode == 0:
                self.identityBackoff.reset()
                self.adopt(ProducerID(response.producerId), epoch: response.producerEpoch)
            case .success(let response):
                self.identity = .unknown
                self.identityAfter = .now() + TimeAmount(self.identityBackoff.next())
                let error = ClientError(code: response.errorCode, subject: "InitProducerId")
                for lane in self.lanes { lane.lastError = error }
            case .failure(let error):
                self.identity = .unknown
                self.identityAfter = .now() + TimeAmount(self.identityBackoff.next())
                for lane in self.lanes { lane.lastError = error }
            }
            self.core.loop.assumeIsolated().execute { self.pump() }
        }
    }

    /// Numbers everything that waits from 0 under a new identity.
    private func adopt(_ id: ProducerID, epoch: Int16) {
        identity = .known(id, epoch: epoch)
        for lane in lanes {
            lane.nextSequence = 0
            for batch in lane.queue {
                let sequence = lane.nextSequence
                batch.batch = batch.batch.rewritten { header in
                    header.producerID = id
                    header.producerEpoch = epoch
                    header.baseSequence = sequence
                }
                lane.advanceSequence(by: Int(batch.batch.header.recordCount))
            }
        }
    }
}
