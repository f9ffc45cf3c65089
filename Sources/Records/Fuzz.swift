import FlotillaModel

import struct NIOCore.ByteBuffer

// What a fuzzer calls: every way into this target that bytes from outside can take. An error is
// fine; a trap, or a promise that does not hold, is the finding.

/// The most bytes that a fuzzed batch may unfold to; small, so that a run stays quick.
private let fuzzLimit = 1 << 16

/// Tries arbitrary bytes as a produced batch, as a fetched range and as compressed records.
package func fuzzBatchParser(_ bytes: RawSpan) {
    var input = ByteBuffer()
    input.writeBytes(bytes)
    fuzzUnfolding(bytes)
    fuzzRules(input)
    // With its CRC mended the batch reaches the code that a random change never would.
    if let mended = mendedBatch(input) {
        fuzzRules(mended)
        fuzzFetchedRange(mended)
    }
    fuzzFetchedRange(input)
}

/// Tries arbitrary bytes as a run of log entries; an entry that reads must write the same bytes.
package func fuzzFrameReader(_ bytes: RawSpan) {
    var input = ByteBuffer()
    input.writeBytes(bytes)
    fuzzEntries(input)
    if let mended = mendedEntry(input) {
        fuzzEntries(mended)
    }
}

private func fuzzUnfolding(_ bytes: RawSpan) {
    let decompressor = Decompressor()
    for codec in CompressionCodec.allCases {
        if let output = try? decompressor.decompress(bytes, as: codec, limit: fuzzLimit) {
            precondition(output.readableBytes <= fuzzLimit, "unfolding keeps to its bound")
        }
    }
}

private func fuzzRules(_ input: ByteBuffer) {
    let compressor = Compressor()
    let decompressor = Decompressor()
    var compacted = BatchRules()
    compacted.requiresKeys = true
    compacted.compression = .fixed(.zstd, level: 1)
    var stamping = BatchRules()
    stamping.usesLogAppendTime = true
    for var rules in [BatchRules(), compacted, stamping] {
        rules.unfoldedLimit = fuzzLimit
        _ = rules.wantsWorker(for: input)
        let now = Timestamp(1_700_000_000_000)
        guard let batch = try? rules.admit(input, now: now, using: compressor, decompressor) else {
            continue
        }
        let isSound = (try? RecordBatch(parsing: batch.bytes)) != nil
        precondition(isSound, "an admitted batch is a sound batch")
        var entry = LogEntry.data(
            batch,
            index: LogIndex(1),
            term: Term(1),
            baseOffset: .zero,
            appendTime: now,
            previousChecksum: 0
        ).contiguous
        let reread = try? LogEntry(parsing: &entry)
        precondition((try? reread?.verifyBatch()) != nil, "an admitted batch survives the log")
    }
}

private func fuzzFetchedRange(_ input: ByteBuffer) {
    let decompressor = Decompressor()
    var rest = input
    while let batch = try? RecordBatch.next(from: &rest, isChecksumTrusted: true) {
        _ = try? TransactionMarker(parsing: batch)
        _ = try? batch.firstPosition(atOrAfter: Timestamp(0), using: decompressor, limit: fuzzLimit)
        _ = try? batch.positionOfMaxTimestamp(using: decompressor, limit: fuzzLimit)
        if let inflated = try? batch.inflated(using: decompressor, limit: fuzzLimit) {
            precondition(inflated.header.attributes.codec == .none, "an inflated batch is plain")
        }
        guard var iterator = try? RecordIterator(batch, using: decompressor, limit: fuzzLimit)
        else {
            continue
        }
        while (try? iterator.next()) != nil {}
    }
}

private func fuzzEntries(_ input: ByteBuffer) {
    var rest = input
    while true {
        let before = rest
        guard let entry = try? LogEntry(parsing: &rest) else {
            return
        }
        let isSame = before.piece(0..<entry.byteCount) == entry.contiguous
        precondition(isSame, "an entry writes the bytes that it was read from")
        _ = try? entry.verifyBatch()
    }
}

/// The input as one batch whose length, magic and CRC are right.
private func mendedBatch(_ input: ByteBuffer) -> ByteBuffer? {
    guard input.readableBytes >= RecordBatchHeader.byteCount else {
        return nil
    }
    var batch = input
    batch.setInteger(Int32(input.readableBytes - RecordBatchHeader.prefixByteCount), at: 8)
    batch.setInteger(RecordBatchHeader.magic, at: 16)
    let checksum = CRC32C.checksum(
        batch.readableBytesSpan.extracting(droppingFirst: Frame.batchHeadByteCount)
    )
    batch.setInteger(checksum, at: 17)
    return batch
}

/// The input as one entry whose length and checksum are right.
private func mendedEntry(_ input: ByteBuffer) -> ByteBuffer? {
    guard input.readableBytes >= Frame.byteCount + RecordBatchHeader.byteCount else {
        return nil
    }
    var entry = input
    entry.setInteger(UInt32(input.readableBytes - Frame.byteCount), at: 4, endianness: .little)
    let isData = entry.getInteger(at: 20, as: UInt8.self) == EntryKind.data.rawValue
    let end = isData ? Frame.byteCount + Frame.batchHeadByteCount : input.readableBytes
    let checksum = CRC32C.checksum(entry.readableBytesSpan.extracting(4..<end))
    entry.setInteger(checksum, at: 0, endianness: .little)
    return entry
}

extension LogEntry {
    fileprivate var contiguous: ByteBuffer {
        var buffer = ByteBuffer()
        write(into: &buffer)
        return buffer
    }
}
