package import FlotillaModel

/// What a batch's header says about its producer.
package struct ProducerBatch: Hashable, Sendable {
    /// The producer; at least 0.
    package var producer: ProducerID
    /// The producer's epoch.
    package var epoch: Int16
    /// The first record's sequence number; at least 0.
    package var baseSequence: Int32
    /// The last record's offset minus the first's, as the header has it; at least 0.
    package var lastOffsetDelta: Int32
    /// Whether the batch belongs to a transaction.
    package var isTransactional: Bool

    /// States a header's facts.
    package init(
        producer: ProducerID,
        epoch: Int16,
        baseSequence: Int32,
        lastOffsetDelta: Int32,
        isTransactional: Bool = false
    ) {
        self.producer = producer
        self.epoch = epoch
        self.baseSequence = baseSequence
        self.lastOffsetDelta = lastOffsetDelta
        self.isTransactional = isTransactional
    }

    /// The last record's sequence number; after 2147483647 comes 0.
    ///
    /// - Source: SEMANTICS rule IDEM-4.
    package var lastSequence: Int32 {
        ProducerSequence.advance(baseSequence, by: lastOffsetDelta)
    }
}

/// The numbers of a producer's records: 31 bits that wrap to 0.
package enum ProducerSequence {
    /// Whether a number comes after another, by less than half of all numbers.
    package static func isAhead(_ sequence: Int32, of other: Int32) -> Bool {
        let distance = (Int64(sequence) - Int64(other)) & Int64(Int32.max)
        return distance > 0 && distance < Int64(Int32.max) / 2
    }

    /// The number `count` records further on.
    static func advance(_ sequence: Int32, by count: Int32) -> Int32 {
        Int32(truncatingIfNeeded: (Int64(sequence) + Int64(count)) & Int64(Int32.max))
    }
}

/// What the leader does with a batch.
package enum ProducerVerdict: Hashable, Sendable {
    /// It is the next one: append it.
    case append
    /// It is committed already: answer with the original's offset and timestamp, append nothing.
    case duplicate(baseOffset: Offset, timestamp: Timestamp)
    /// It is appended and not committed yet: wait until this entry is, then check again. When the entry is dropped instead, the client
    /// retries.
    case inFlightDuplicate(of: LogIndex)
    /// It is refused.
    case refused(ErrorCode)
}

/// How much a partition remembers of its producers; equal on all replicas, since it decides what is in the replicated state.
package struct ProducerLimits: Hashable, Sendable {
    /// How long an idle producer is remembered, by the time of appends.
    package var expirationMillis: Int64
    /// How many producers are remembered; beyond it those idle longest are forgotten, an eighth at a time.
    package var maximumProducerCount: Int

    /// States the limits.
    package init(expirationMillis: Int64, maximumProducerCount: Int) {
        precondition(
            expirationMillis > 0 && maximumProducerCount >= 8,
            "a partition remembers some producers for some time"
        )
        self.expirationMillis = expirationMillis
        self.maximumProducerCount = maximumProducerCount
    }

    /// A day, as in Kafka, and 32,768 producers, which fill 6 MiB at most.
    package static let standard = ProducerLimits(
        expirationMillis: 86_400_000,
        maximumProducerCount: 32_768
    )
}
