import FlotillaClient

/// What is done to a cluster while it is measured; read from a file, see `bench/README.md`.
struct Workload: Sendable {
    /// How many records a second are offered, by all producers together.
    enum Pace: Hashable, Sendable {
        /// As many as are taken.
        case flatOut
        /// Records a second, whatever happens.
        case fixed(Double)
        /// A share of what a short run flat out reaches.
        case share(Double)
    }

    /// What happens to a broker while it is measured.
    struct Fault: Hashable, Sendable {
        enum Kind: String, CaseIterable, Sendable {
            case killLeader = "kill-leader"
            case pauseLeader = "pause-leader"
            case stopLeader = "stop-leader"
        }

        let kind: Kind
        /// Since the measured time began.
        let time: Span
        /// How long it lasts: then the broker is started, or goes on.
        let length: Span
    }

    var name: String
    var description = ""
    var topicCount = 1
    var partitionCount = 1
    /// Nil: three, or as many as there are brokers.
    var replicaCount: Int?
    var recordByteCount = 1024
    var payload = PayloadKind.random
    var isKeyed = false
    var pace = Pace.flatOut
    /// Of each topic.
    var producerCount = 1
    /// Of each topic.
    var groupCount = 1
    /// Of each group.
    var consumerCount = 1
    var acks = AcksName(.all)
    var codec = CompressionName(.none)
    var isIdempotent = true
    var batchByteCount = 256 << 10
    var linger = Span(.milliseconds(5))
    var inFlight = 5
    /// Consumers wait until so many bytes have been acknowledged.
    var backlogByteCount = 0
    var warmup = Span(.seconds(5))
    var duration = Span(.seconds(30))
    var topicSettings: [String: String] = [:]
    var faults: [Fault] = []

    /// Whether a producer waits for each record's acknowledgement before it sends the next.
    var isOneAtATime: Bool { inFlight == 1 && linger.duration == .zero && batchByteCount == 1 }

    /// Whether a value has room for the time at which it was due.
    var carriesTime: Bool { recordByteCount >= MemoryLayout<UInt64>.size }

    /// How a producer of this workload is set.
    var producer: ProducerConfiguration {
        var settings = ProducerConfiguration()
        settings.acks = acks.value
        settings.compression = codec.value
        settings.linger = linger.duration
        settings.batchByteCount = batchByteCount
        settings.maximumInFlight = inFlight
        settings.isIdempotent = isIdempotent
        settings.maximumRecordByteCount = max(
            settings.maximumRecordByteCount,
            recordByteCount + 1024
        )
        return settings
    }
}
