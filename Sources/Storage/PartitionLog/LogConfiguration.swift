/// What a topic's settings ask of a partition's log; replaceable while the log is open.
package struct LogConfiguration: Hashable, Sendable {
    /// The size of `.log` from which the leader begins another segment (`segment.bytes`).
    package var segmentByteCount: Int
    /// The age in milliseconds, by append time, from which it does (`segment.ms`).
    package var segmentMillis: Int64
    /// What retention keeps.
    package var retention: RetentionPolicy

    /// States a topic's values; the defaults are the house's (128 MiB, seven days, kept for ever).
    package init(
        segmentByteCount: Int = 128 << 20,
        segmentMillis: Int64 = 604_800_000,
        retention: RetentionPolicy = RetentionPolicy()
    ) {
        precondition(
            segmentByteCount > 0 && segmentByteCount <= Int(Int32.max),
            "segment.bytes is a positive Int32"
        )
        self.segmentByteCount = segmentByteCount
        self.segmentMillis = segmentMillis
        self.retention = retention
    }

    /// The number of entries from which the leader begins another segment whatever its bytes:
    /// `.frames` stays at 64 MiB.
    package static let maximumSegmentEntryCount = 1 << 20
}

/// What retention keeps of a log; nil is for ever, or without bound.
package struct RetentionPolicy: Hashable, Sendable {
    /// Milliseconds since the append time of a segment's last entry (`retention.ms`).
    package var millis: Int64?
    /// Bytes of all segments' `.log` files (`retention.bytes`).
    package var byteCount: Int64?

    /// States a policy.
    package init(millis: Int64? = nil, byteCount: Int64? = nil) {
        self.millis = millis
        self.byteCount = byteCount
    }
}
