import FlotillaCoordination
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// The check of one produced batch, and its compression: done on the shard when it is short, on a worker when not.
struct BatchCheck: Sendable {
    var rules: BatchRules
    var records: ByteBuffer?
    var version: Int16
    var now: Timestamp

    func perform(using compressor: Compressor, _ decompressor: Decompressor) -> Result<
        RecordBatch, BatchRefusal
    > {
        do throws(BatchRefusal) {
            return .success(
                try rules.admit(
                    records,
                    now: now,
                    acceptsZstd: version >= 7,
                    using: compressor,
                    decompressor
                )
            )
        } catch {
            return .failure(error)
        }
    }
}

extension BatchRules {
    /// What a topic's settings demand of a batch.
    init(_ config: TopicConfig) {
        self.init()
        maximumByteCount = config.maximumMessageByteCount
        segmentByteCount = config.segmentByteCount
        requiresKeys = config.cleanupPolicy.contains(.compact)
        usesLogAppendTime = config.timestampType == .logAppendTime
        timestampBeforeMax = config.timestampBeforeMaximumMillis
        timestampAfterMax = config.timestampAfterMaximumMillis
        compression =
            switch config.compression {
            case .auto: .auto
            case .producer: .producer
            case .uncompressed: .fixed(.none, level: nil)
            case .gzip: .fixed(.gzip, level: Int(config.gzipLevel))
            case .snappy: .fixed(.snappy, level: nil)
            case .lz4: .fixed(.lz4, level: Int(config.lz4Level))
            case .zstd: .fixed(.zstd, level: Int(config.zstdLevel))
            }
    }
}

extension ProduceReply {
    /// A batch that broke a rule.
    static func refused(_ refusal: BatchRefusal) -> ProduceReply {
        var reply = ProduceReply.refused(refusal.errorCode, refusal.description)
        reply.recordErrors = refusal.recordErrors.map { record in
            RecordError(batchIndex: Int32(clamping: record.batchIndex), message: record.message)
        }
        return reply
    }
}

extension LogConfiguration {
    /// What a topic's settings ask of its logs.
    init(_ config: TopicConfig) {
        self.init(
            segmentByteCount: config.segmentByteCount,
            segmentMillis: config.segmentMillis,
            retention: RetentionPolicy(config)
        )
    }
}

extension RetentionPolicy {
    /// What a topic keeps; without `delete` in its cleanup policy, everything.
    init(_ config: TopicConfig) {
        guard config.cleanupPolicy.contains(.delete) else {
            self.init()
            return
        }
        self.init(millis: config.retentionMillis, byteCount: config.retentionByteCount)
    }
}
