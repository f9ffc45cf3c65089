import FlotillaClient
import NIOCore

/// Which records to print, and how.
struct RecordPrinting {
    var format: RecordFormat
    var isJSON = false
    var pattern: Regex<AnyRegexOutput>?
    var key: ByteBuffer?

    func wants(_ record: ConsumerRecord) -> Bool {
        if let key, record.key != key { return false }
        guard let pattern else { return true }
        guard let value = record.value else { return false }
        return String(buffer: value).contains(pattern)
    }

    func write(_ record: ConsumerRecord, into output: inout ByteBuffer) {
        if isJSON {
            RecordFormat.writeJSON(record, into: &output)
        } else {
            format.write(record, into: &output)
        }
    }
}
