import FlotillaModel

/// The partitions of a shard: by id, and in an order that does not depend on hashing.
struct PartitionTable {
    /// All of them, by id.
    private(set) var ordered: [Partition] = []
    private var byID: [TopicPartition: Partition] = [:]

    subscript(id: TopicPartition) -> Partition? { byID[id] }

    /// Adds a partition whose id no other one has.
    mutating func insert(_ partition: Partition) {
        precondition(byID[partition.id] == nil, "a partition is open once")
        byID[partition.id] = partition
        ordered.insert(partition, at: place(of: partition.id))
    }

    /// Removes a partition, if it is there.
    mutating func remove(_ id: TopicPartition) {
        guard byID.removeValue(forKey: id) != nil else { return }
        ordered.remove(at: place(of: id))
    }

    /// The first place whose id is not below `id`.
    private func place(of id: TopicPartition) -> Int {
        var low = 0
        var high = ordered.count
        while low < high {
            let middle = (low + high) / 2
            if ordered[middle].id < id { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

/// Raft's time, for those partitions that need it.
extension Shard {
    /// Has a partition called at each tick, until it wants that no longer.
    ///
    /// Most groups rest most of the time: to visit 1,500 quiet ones ten times a second was most of what an idle broker did.
    /// A broker that is a cluster of itself keeps no time.
    func wake(_ partition: Partition) {
        guard settings.isClustered, !partition.isAwake else { return }
        partition.isAwake = true
        awakePartitions.append(partition)
    }

    /// One unit of Raft's time has passed for those that are awake.
    func tickPartitions() {
        let ticked = awakePartitions
        awakePartitions.removeAll(keepingCapacity: true)
        for partition in ticked {
            partition.isAwake = false
            guard partition.wantsTicks else { continue }
            partition.tick()
            if partition.wantsTicks { wake(partition) }
        }
    }
}
