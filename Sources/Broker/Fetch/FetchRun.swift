import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// One pass over the partitions that a fetch names on one shard.
///
/// What is in memory is gathered at once. Where bytes have to come from the disk first, a worker brings them into memory
/// and the pass goes on where it stopped.
final class FetchRun {
    private let call: FetchCall
    private unowned let shard: Shard
    private let completion: ([FetchReply]) -> Void
    private var replies: [FetchReply] = []
    private var byteCount = 0

    init(_ call: FetchCall, on shard: Shard, then completion: @escaping ([FetchReply]) -> Void) {
        self.call = call
        self.shard = shard
        self.completion = completion
        replies.reserveCapacity(call.items.count)
    }

    /// Reads on, from the first partition without a reply.
    func advance(afterLoad: Bool = false) {
        var isAfterLoad = afterLoad
        while replies.count < call.items.count {
            let item = call.items[replies.count]
            guard let partition = shard.partition(item.partition) else {
                replies.append(.refused(.unknownTopicOrPartition))
                continue
            }
            switch partition.read(
                item,
                call,
                budget: call.maxByteCount - byteCount,
                isFirst: byteCount == 0,
                afterLoad: isAfterLoad
            ) {
            case .ready(let slice, var reply):
                byteCount += slice?.byteCount ?? 0
                guard let slice, slice.containsBrokerCompressed, call.inflates else {
                    reply.parts = slice?.parts ?? []
                    reply.byteCount = slice?.byteCount ?? 0
                    replies.append(reply)
                    isAfterLoad = false
                    continue
                }
                return inflate(slice, reply)
            case .load(let load, let log):
                shard.workers.run({ load.perform() }) { loaded in
                    do throws(StorageError) {
                        try log.finish(loaded)
                        self.advance(afterLoad: true)
                    } catch {
                        self.replies.append(.refused(error.readErrorCode))
                        self.advance()
                    }
                }
                return
            }
        }
        completion(replies)
    }

    /// Undoes the broker's own compression for a client that may not know lz4.
    private func inflate(_ slice: FetchSlice, _ reply: FetchReply) {
        let job = InflateJob(parts: slice.parts)
        shard.workers.run({ job.perform() }) { result in
            var reply = reply
            switch result {
            case .success(let bytes):
                reply.parts = [.memory(bytes)]
                reply.byteCount = bytes.readableBytes
            case .failure:
                reply = .refused(.corruptMessage)
            }
            self.replies.append(reply)
            self.advance()
        }
    }
}

/// Rewrites lz4 batches as plain ones.
struct InflateJob: Sendable {
    var parts: [FetchPart]

    func perform() -> Result<ByteBuffer, RecordsError> {
        let decompressor = Decompressor()
        var output = ByteBuffer()
        do throws(RecordsError) {
            // A batch may lie in two parts, head and body.
            var input = ByteBuffer()
            for part in parts { input.writeImmutableBuffer(part.bytes) }
            while let batch = try RecordBatch.next(from: &input, isChecksumTrusted: true) {
                let plain =
                    batch.header.attributes.codec == .lz4
                    ? try batch.inflated(
                        using: decompressor,
                        limit: BatchRules.defaultUnfoldedLimit
                    ) : batch
                output.writeImmutableBuffer(plain.bytes)
            }
            return .success(output)
        } catch {
            return .failure(error)
        }
    }
}

extension FetchPart {
    /// The part's bytes in memory.
    var bytes: ByteBuffer {
        switch self {
        case .memory(let buffer): buffer
        case .segment(let reader, let range): reader.buffer(range)
        }
    }
}
