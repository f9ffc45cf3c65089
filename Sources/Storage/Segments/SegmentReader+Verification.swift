import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords

/// What a worker found when it compared batches with their checksums.
struct VerifiedStretch: Sendable {
    /// Rows that are sound, in order.
    var rows: [Range<Int>] = []
    /// Rows that are not.
    var failures: [RowFailure] = []
}

extension SegmentReader {
    /// Checks a row and its batch to the last byte.
    func verify(_ number: Int) throws(RowProblem) {
        let row = try row(number)
        // The frame's checksum covers the whole payload of other kinds.
        guard row.frame.kind == .data else { return }
        let isSound = withPayload(true, row.payloadRange) { bytes in
            let body = bytes.extracting(droppingFirst: Frame.batchHeadByteCount)
            let head = bytes.extracting(first: Frame.batchHeadByteCount)
            guard let header = try? RecordBatchHeader(head: head, body: body) else { return false }
            return header.checksum == CRC32C.checksum(body)
        }
        guard isSound else { throw .payload }
    }

    /// Checks the rows from `first` on whose payloads lie in `range` of `.log`, which is in memory;
    /// those in `known` are passed over.
    ///
    /// The first row is looked at in any case, so that whoever asks for it gets an answer.
    func verify(from first: Int, within range: Range<Int>, except known: VerifiedRows)
        -> VerifiedStretch
    {
        var found = VerifiedStretch()
        var number = first
        while number < min(rowCount, known.trustedStart) {
            guard number == first || lies(number, within: range) else { break }
            if let end = known.end(from: number) {
                number = end
                continue
            }
            do {
                try verify(number)
                found.add(number)
            } catch {
                found.failures.append(RowFailure(row: number, problem: error))
            }
            number += 1
        }
        return found
    }

    /// Whether a row's payload lies in `range` of `.log`, or elsewhere than in `.log`; by numbers
    /// that are not checked yet.
    private func lies(_ number: Int, within range: Range<Int>) -> Bool {
        frames.withBytes(Self.range(of: number)) { bytes in
            guard bytes.littleEndian(UInt8.self, at: 20) == EntryKind.data.rawValue else {
                return true
            }
            let start = Int(bytes.littleEndian(UInt32.self, at: 56))
            let byteCount = Int(bytes.littleEndian(UInt32.self, at: 4))
            return start >= range.lowerBound && start + byteCount <= range.upperBound
        }
    }
}

extension VerifiedStretch {
    fileprivate mutating func add(_ row: Int) {
        if let last = rows.last, last.upperBound == row {
            rows[rows.count - 1] = last.lowerBound..<row + 1
        } else {
            rows.append(row..<row + 1)
        }
    }
}
