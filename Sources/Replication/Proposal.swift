package import FlotillaModel
package import FlotillaRecords

/// Something a leader shall append, and whom to tell what became of it.
package struct Proposal {
    /// What the entry holds.
    package enum Content {
        /// Records.
        case batch(RecordBatch)
        /// The log shall start here.
        case startOffset(Offset)
        /// A new segment shall begin, though nothing is written.
        case roll
    }

    /// When `completion` is called.
    package enum Durability {
        /// When the leader has it on its own disk.
        case leader
        /// When as many replicas as the group asks for have it on disk, and it is applied.
        case quorum
    }

    package var content: Content
    package var durability: Durability
    package var completion: (Result<PlacedEntry, ReplicationError>) -> Void

    /// Something to append.
    package init(
        _ content: Content,
        durability: Durability,
        completion: @escaping (Result<PlacedEntry, ReplicationError>) -> Void
    ) {
        self.content = content
        self.durability = durability
        self.completion = completion
    }

    /// The size that counts against Raft's windows.
    var byteCount: Int {
        switch content {
        case .batch(let batch): Frame.byteCount + batch.byteCount
        case .startOffset: Frame.byteCount + MemoryLayout<Int64>.size
        case .roll: Frame.byteCount
        }
    }
}

/// Where a proposal landed.
package struct PlacedEntry: Hashable, Sendable {
    /// The entry's position in the log.
    package var position: LogPosition
    /// Its first record's offset; for entries without records the next offset.
    package var baseOffset: Offset
    /// The leader's time when it appended the entry.
    package var appendTime: Timestamp
}
