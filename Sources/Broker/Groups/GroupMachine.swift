import FlotillaCoordination
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// The groups of a partition of `__consumer_offsets` as its state machine: a new leader knows them without reading anything.
final class GroupMachine: ReplicatedStateMachine {
    private(set) var table = GroupTable()

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        guard snapshot.readableBytes > 0 else {
            table = GroupTable()
            return
        }
        do throws(CoordinationError) {
            table = try GroupTable(snapshot: snapshot)
        } catch {
            throw .unusableEntry(index: .zero, description: error.description)
        }
    }

    func apply(_ entry: LogEntry) throws(ReplicationError) {
        let index = entry.frame.index
        guard entry.frame.kind == .data else { return table.advance(to: index) }
        table.apply(
            try GroupBatch.facts(in: entry),
            at: index,
            appendTime: entry.frame.appendTime
        )
    }

    func snapshot() -> ByteBuffer { table.snapshot() }

    func leadershipBegan() {}

    func leadershipEnded() {}
}
