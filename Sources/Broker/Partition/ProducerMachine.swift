import FlotillaCoordination
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// The producers of a partition as its state machine: rebuilt from the log on every replica.
final class ProducerMachine: ReplicatedStateMachine {
    var state: ProducerState
    private let limits: ProducerLimits

    init(limits: ProducerLimits) {
        self.limits = limits
        state = ProducerState(limits: limits)
    }

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        guard snapshot.readableBytes > 0 else {
            state = ProducerState(limits: limits)
            return
        }
        do throws(CoordinationError) {
            state = try ProducerState(snapshot: snapshot, limits: limits)
        } catch {
            throw .unusableEntry(index: .zero, description: error.description)
        }
    }

    func apply(_ entry: LogEntry) throws(ReplicationError) {
        let frame = entry.frame
        guard frame.kind == .data else {
            return state.advance(to: frame.index, appendTime: frame.appendTime)
        }
        let header: RecordBatchHeader
        do throws(RecordsError) {
            header = try entry.batchHeader()
        } catch {
            throw .unusableEntry(index: frame.index, description: error.description)
        }
        guard let batch = ProducerBatch(header) else {
            return state.advance(to: frame.index, appendTime: frame.appendTime)
        }
        state.apply(
            batch,
            at: frame.index,
            baseOffset: frame.baseOffset,
            timestamp: header.maxTimestamp,
            appendTime: frame.appendTime
        )
    }

    func snapshot() -> ByteBuffer { state.snapshot() }

    func leadershipBegan() {}

    func leadershipEnded() { state.dropUncommitted() }
}

extension ProducerBatch {
    /// What a batch says of its producer; nil for a batch without one.
    init?(_ header: RecordBatchHeader) {
        guard header.hasProducerID else { return nil }
        self.init(
            producer: header.producerID,
            epoch: header.producerEpoch,
            baseSequence: header.baseSequence,
            lastOffsetDelta: header.lastOffsetDelta,
            isTransactional: header.attributes.isTransactional
        )
    }
}
