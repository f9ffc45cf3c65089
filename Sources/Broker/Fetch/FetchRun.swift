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
    ///
    /// - Parameters:
    ///   - afterLoad: whether what that one needs has come into memory.
    ///   - isProven: whether that one's replica has made sure that it leads.
    func advance(afterLoad: Bool = false, isProven: Bool = false) {
        var isAfterLoad = afterLoad
        var isProven = isProven
        while replies.count < call.items.count {
            let item = call.items[replies.count]
            guard let partition = shard.partition(item.partition) else {
                replies.append(
                    .refused(
                        shard.absence(of: item.partition),
                        hint: shard.hint(for: item.partition)
                    )
                )
                continue
            }
            switch partition.read(
                item,
                call,
                budget: call.maxByteCount - byteCount,
                isFirst: byteCount == 0 && call.allowsOversizedFirst,
                afterLoad: isAfterLoad,
                isProven: isProven
            ) {
            case .ready(let slice, var reply):
                let room = call.maxByteCount - byteCount
                byteCount += slice?.byteCount ?? 0
                guard let slice, let job = rewrite(of: slice, room: room) else {
                    reply.parts = slice?.parts ?? []
                    reply.byteCount = slice?.byteCount ?? 0
                    replies.append(reply)
                    isAfterLoad = false
                    isProven = false
                    continue
                }
                byteCount -= slice.byteCount
                return perform(job, reply)
            case .load(let load, let log):
                shard.workers.run({ load.perform() }) { [isProven] loaded in
                    do throws(StorageError) {
                        try log.finish(loaded)
                        self.advance(afterLoad: true, isProven: isProven)
                    } catch {
                        self.replies.append(.refused(error.readErrorCode))
                        self.advance()
                    }
                }
                return
            case .unproven:
                return partition.confirmLeading { error in
                    if let error { self.replies.append(.refused(error, hint: partition.hint)) }
                    self.advance(isProven: error == nil)
                }
            }
        }
        completion(replies)
    }

    /// What has to be done to the records before this client may have them; nil for nothing, as nearly always.
    private func rewrite(of slice: FetchSlice, room: Int) -> RewriteJob? {
        let inflates = slice.containsBrokerCompressed && call.inflates
        guard inflates || !call.allowsZstd else { return nil }
        return RewriteJob(
            parts: slice.parts,
            inflates: inflates,
            allowsZstd: call.allowsZstd,
            maximumByteCount: room
        )
    }

    private func perform(_ job: RewriteJob, _ reply: FetchReply) {
        shard.workers.run({ job.perform() }) { result in
            var reply = reply
            switch result {
            case .records(let bytes):
                reply.parts = [.memory(bytes)]
                reply.byteCount = bytes.readableBytes
                self.byteCount += bytes.readableBytes
            case .refused(let error):
                reply = .refused(error)
            }
            self.replies.append(reply)
            self.advance()
        }
    }
}

/// Looks through batches for a client that does not read every codec: the broker's own lz4 is undone, and zstd is refused
/// to versions of Fetch that do not know it (FETCH-14).
struct RewriteJob: Sendable {
    var parts: [FetchPart]
    /// Whether lz4 batches become plain ones.
    var inflates: Bool
    /// Whether zstd batches may pass.
    var allowsZstd: Bool
    /// What the client may get, but for the first batch: inflated records are many times as large.
    var maximumByteCount: Int

    /// What the client gets.
    enum Outcome: Sendable {
        case records(ByteBuffer)
        case refused(ErrorCode)
    }

    func perform() -> Outcome {
        let decompressor = Decompressor()
        var output = ByteBuffer()
        do throws(RecordsError) {
            // A batch may lie in two parts, head and body.
            var input = ByteBuffer()
            for part in parts { input.writeImmutableBuffer(part.bytes) }
            while let batch = try RecordBatch.next(from: &input, isChecksumTrusted: true) {
                let codec = batch.header.attributes.codec
                guard codec != .zstd || allowsZstd else {
                    return .refused(.unsupportedCompressionType)
                }
                let sent =
                    codec == .lz4 && inflates
                    ? try batch.inflated(
                        using: decompressor,
                        limit: BatchRules.defaultUnfoldedLimit
                    ) : batch
                let byteCount = output.readableBytes + sent.bytes.readableBytes
                guard output.readableBytes == 0 || byteCount <= maximumByteCount else { break }
                output.writeImmutableBuffer(sent.bytes)
            }
            return .records(output)
        } catch {
            return .refused(.corruptMessage)
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
