import DequeModule
import FlotillaModel
import FlotillaRecords
import NIOCore

/// One partition as the sender sees it.
final class SendLane {
    let partition: NamedPartition
    private let isIdempotent: Bool
    var leader: BrokerID?
    /// Batches to send, oldest first.
    var queue: Deque<OutBatch> = []
    /// Of an idempotent producer: batches to send and on their way, oldest first.
    var outstanding: Deque<OutBatch> = []
    /// How many batches were sealed.
    var sealedCount = 0
    /// Batches on their way.
    var inFlight = 0
    /// Where they are on their way to.
    var route: BrokerID?
    /// A batch came back while others were on their way: nothing leaves before they all came back.
    var isResting = false
    var notBefore = NIODeadline.uptimeNanoseconds(0)
    /// Under which name the batches are numbered.
    var identity: ProducerIdentity?
    /// The broker does not go on with this identity: the next one follows when nothing is on its way.
    var isSpent = false
    var nextSequence: Int32 = 0
    var backoff: Backoff
    var lastError: ClientError?

    init(partition: NamedPartition, isIdempotent: Bool, backoff: Backoff) {
        self.partition = partition
        self.isIdempotent = isIdempotent
        self.backoff = backoff
    }

    /// Whether a batch may leave.
    ///
    /// Those of an idempotent producer are at one broker at a time: a new leader that does not know the producer
    /// would take a later one as its first.
    func isSendable(_ now: NIODeadline) -> Bool {
        guard !isResting, !isSpent, notBefore <= now else { return false }
        return !isIdempotent || inFlight == 0 || route == leader
    }

    /// A broker has answered for a batch, or it is given up.
    func forget(_ batch: OutBatch) {
        guard let place = outstanding.firstIndex(where: { $0 === batch }) else { return }
        outstanding.remove(at: place)
    }

    func advanceSequence(by count: Int) {
        nextSequence = RecordBatchHeader.sequence(nextSequence, advancedBy: Int32(count))
    }
}

/// A sealed batch.
final class OutBatch {
    let draft: Draft
    var batch: RecordBatch
    /// Its place among the partition's batches, from 1.
    let order: Int
    let deadline: NIODeadline

    init(draft: Draft, batch: RecordBatch, order: Int, deadline: NIODeadline) {
        self.draft = draft
        self.batch = batch
        self.order = order
        self.deadline = deadline
    }
}
