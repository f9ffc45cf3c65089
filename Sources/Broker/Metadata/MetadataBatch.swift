import FlotillaCoordination
import FlotillaModel
import FlotillaRecords
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// Metadata records as a batch of the metadata log: one decision is one batch, one record of it one metadata record.
enum MetadataBatch {
    /// The most bytes that a batch of the metadata log may unfold to; it is never compressed.
    static let byteLimit = 64 << 20

    /// A batch with these records.
    static func batch(of records: [MetadataRecord], at time: Timestamp) -> RecordBatch {
        var builder = RecordBatchBuilder()
        for record in records {
            builder.append(key: nil, value: record.encoded(), timestamp: time)
        }
        return builder.build(using: Compressor())
    }

    /// The records of an entry.
    ///
    /// - Throws: `.unusableEntry`: the replica then stops.
    static func records(in entry: LogEntry) throws(ReplicationError) -> [MetadataRecord] {
        do {
            let batch = try RecordBatch(parsing: entry.payload)
            var iterator = try RecordIterator(batch, using: Decompressor(), limit: byteLimit)
            var records: [MetadataRecord] = []
            while let record = try iterator.next() {
                records.append(try MetadataRecord(decoding: record.value ?? ByteBuffer()))
            }
            return records
        } catch {
            throw .unusableEntry(index: entry.frame.index, description: "\(error)")
        }
    }
}
