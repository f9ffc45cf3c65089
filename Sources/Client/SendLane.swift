import DequeModule
import FlotillaModel
import FlotillaRecords
import NIOCore

/// One partition as the sender sees it.
final class SendLane {
    let partition: NamedPartition
    var leader: BrokerID?
    /// Batches to send, oldest first.
    var queue: Deque<OutBatch> = []
    /// Batches to send and on their way, oldest first: no broker has answered for them for good.
    var outstanding: [OutBatch] = []
    /// How many batches were sealed.
    var sealedCount = 0
    /// Batches on their way.
    var inFlight = 0
    /// A batch came back while others were on their way: nothing leaves before they all came back.
    var isResting = false
    var notBefore = NIODeadline.uptimeNanoseconds(0)
    /// Under which name the batches are numbered.
    var identity: ProducerIdentity?
    /// The broker does not go on with this identity: another follows when nothing is on its way.
    var isSpent = false
    var nextSequence: Int32 = 0
    var backoff: Backoff
    var lastError: ClientError?

    init(partition: NamedPartition, backoff: Backoff) {
        self.partition = partition
        self.backoff = backoff
    }

    func isSendable(_ now: NIODeadline) -> Bool {
        !isResting && !isSpent && notBefore <= now
    }

    func advanceSequence(by count: Int) {
        nextSequence = RecordBatchHeader.sequence(nextSequence, advancedBy: Int32(count))
    }
}

/// A sealed batch.
final class OutBatch {
    let draft: Draft
    var batch: RecordBatch
    /// The how-manieth of its partition it is.
    let order: Int
    let deadline: NIODeadline

    init(draft: Draft, batch: RecordBatch, order: Int, deadline: NIODeadline) {
        self.draft = draft
        self.batch = batch
        self.order = order
        self.deadline = deadline
    }
}
