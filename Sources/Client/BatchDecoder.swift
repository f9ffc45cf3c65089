import FlotillaKafkaWire
import FlotillaModel
import FlotillaRecords
import NIOCore

/// Reads fetched batches: unfolds them, drops what lies before the offset asked for, control records, and what
/// aborted transactions wrote.
struct BatchDecoder {
    private let decompressor = Decompressor()
    let limit: Int
    let isolationLevel: IsolationLevel
    let isReading: Bool

    init(limit: Int, isolationLevel: IsolationLevel, isReading: Bool = true) {
        self.limit = limit
        self.isolationLevel = isolationLevel
        self.isReading = isReading
    }

    /// The records of one partition's part of an answer; nil where it holds no whole batch.
    func decode(
        _ data: FetchResponse.PartitionData,
        of partition: NamedPartition,
        from offset: Offset
    ) throws(ClientError) -> ConsumedRecords? {
        var rest = data.records?.buffer ?? ByteBuffer()
        var result = ConsumedRecords(
            partition: partition,
            records: [],
            nextOffset: offset,
            highWatermark: Offset(data.highWatermark),
            logStartOffset: data.logStartOffset < 0 ? nil : Offset(data.logStartOffset)
        )
        var aborted = AbortedTransactions(data.abortedTransactions ?? [], isolationLevel)
        do throws(RecordsError) {
            while let batch = try RecordBatch.next(from: &rest) {
                let isVisible = try aborted.admits(batch)
                let end = batch.header.baseOffset + batch.header.offsetSpan
                guard end > result.nextOffset else { continue }
                result.recordCount += Int(batch.header.recordCount)
                result.byteCount += batch.byteCount
                if isVisible, isReading {
                    try append(batch, from: result.nextOffset, of: partition, to: &result.records)
                }
                result.nextOffset = end
            }
        } catch {
            throw .corruptRecords(partition: partition, reason: "\(error)")
        }
        // What is left is cut off by the fetch's limits, and comes with the next one.
        return result.nextOffset == offset ? nil : result
    }

    private func append(
        _ batch: RecordBatch,
        from offset: Offset,
        of partition: NamedPartition,
        to records: inout [ConsumerRecord]
    ) throws(RecordsError) {
        records.reserveCapacity(records.count + Int(batch.header.recordCount))
        var iterator = try RecordIterator(batch, using: decompressor, limit: limit)
        while let record = try iterator.next() {
            guard record.offset >= offset else { continue }
            records.append(
                ConsumerRecord(
                    partition: partition,
                    offset: record.offset,
                    timestamp: record.timestamp,
                    isLogAppendTime: batch.header.attributes.isLogAppendTime,
                    key: record.key,
                    value: record.value,
                    headers: record.headers.map { Header(name: $0.name, value: $0.value) }
                )
            )
        }
    }
}

/// Which producers' batches belong to aborted transactions, as a reader passes them.
///
/// - Source: KIP-98.
private struct AbortedTransactions {
    private let isActive: Bool
    private var upcoming: [FetchResponse.AbortedTransaction]
    private var producers: Set<Int64> = []

    init(_ list: [FetchResponse.AbortedTransaction], _ level: IsolationLevel) {
        isActive = level == .readCommitted
        upcoming = list.sorted { $0.firstOffset > $1.firstOffset }
    }

    /// Whether a batch's records are for the reader.
    mutating func admits(_ batch: RecordBatch) throws(RecordsError) -> Bool {
        let header = batch.header
        while let next = upcoming.last,
            next.firstOffset <= (header.baseOffset + header.offsetSpan).rawValue - 1
        {
            producers.insert(next.producerId)
            upcoming.removeLast()
        }
        if header.attributes.isControl {
            if let marker = try TransactionMarker(parsing: batch), marker.decision == .abort {
                producers.remove(header.producerID.rawValue)
            }
            return false
        }
        return
            !(isActive && header.attributes.isTransactional
            && producers.contains(header.producerID.rawValue))
    }
}
