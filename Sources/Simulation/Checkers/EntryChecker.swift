import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// Committed entries are the same on all replicas, in memory and on disk, and in the end so is what they made of them.
final class EntryChecker {
    private unowned let world: World
    /// The checksums of committed entries; each covers all before it.
    private var committed: [TopicPartition: [LogIndex: UInt32]] = [:]

    init(world: World) {
        self.world = world
    }

    /// Compares what is committed and at hand with what others have there.
    ///
    /// - Parameters:
    ///   - replica: one that has its log.
    ///   - index: where to go on.
    /// - Returns: where to go on the next time.
    func compare(_ replica: Replica, from index: LogIndex) -> LogIndex {
        let partition = replica.group.partition
        let log = replica.log
        var next = max(index, log.firstIndex)
        while next <= log.commitIndex {
            if let checksum = log.frame(at: next)?.checksum {
                let known = committed[partition, default: [:]].updateValue(checksum, forKey: next)
                if let known, known != checksum {
                    world.violate(
                        "\(partition): entry \(next) is committed with two contents, one of them on \(replica.member)"
                    )
                }
            }
            next = next.next
        }
        return next
    }

    // MARK: The end of a run

    /// Compares all entries of all replicas, from wherever they lie, when everything has come to rest.
    ///
    /// - Returns: what a replica cannot read yet or has in another form, since its broker has still to find that out and to get it back
    ///   from others; nil when all are equal.
    func damageAtEnd(_ replicas: [Replica]) -> String? {
        var known: [TopicPartition: [LogIndex: Content]] = [:]
        var difference: String?
        for replica in replicas {
            let partition = replica.group.partition
            let committed = committed[partition] ?? [:]
            if let last = committed.keys.max(), last > replica.log.lastIndex {
                return
                    "\(partition) ends at \(replica.log.lastIndex) on \(replica.member), and entry \(last) was committed"
            }
            do {
                try forEachEntry(of: replica.log) { entry in
                    if let checksum = committed[entry.frame.index], checksum != entry.frame.checksum
                    {
                        difference =
                            "\(partition): entry \(entry.frame.index) of \(replica.member) is not what was committed there"
                    }
                    let content = Content(entry)
                    let other = known[partition]?[entry.frame.index]
                    if let other, other != content {
                        difference =
                            "\(partition): entry \(entry.frame.index) of \(replica.member) is not what another replica has there"
                    }
                    known[partition, default: [:]][entry.frame.index] = content
                }
            } catch {
                return "\(replica.member) cannot read its log of \(partition): \(error)"
            }
        }
        return difference
    }

    /// The frame and a batch's head as they are, and the rest by checksum.
    private struct Content: Equatable {
        var frameAndHead: ByteBuffer
        var body: UInt32

        init(_ entry: LogEntry) {
            frameAndHead = entry.frameAndHead
            body = CRC32C.checksum(entry.body)
        }
    }

    private func forEachEntry(
        of log: PartitionLog,
        _ body: (LogEntry) -> Void
    ) throws(StorageError) {
        var next = log.firstIndex
        var isLoaded = false
        while next <= log.lastIndex {
            switch try log.entries(
                from: next,
                maxByteCount: 1 << 20,
                maxCount: 1_024,
                afterLoad: isLoaded
            ) {
            case .ready(let entries):
                entries.forEach(body)
                next = entries.last?.frame.index.next ?? next
                isLoaded = false
            case .load(let load):
                try log.finish(load.perform())
                isLoaded = true
            }
        }
    }

    /// Compares what the entries made of the state machines.
    func compareStates(_ replicas: [Replica]) {
        var first: [TopicPartition: Replica] = [:]
        for replica in replicas {
            let partition = replica.group.partition
            guard let other = first[partition] else {
                first[partition] = replica
                continue
            }
            if replica.machine.snapshot() != other.machine.snapshot() {
                world.violate(
                    "\(partition): \(other.member) and \(replica.member) applied the same entries and came to different states"
                )
            }
        }
    }
}
