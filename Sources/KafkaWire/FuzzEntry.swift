package import struct NIOCore.ByteBuffer

/// What a fuzzer feeds: arbitrary bytes in, and a trap where a promise is broken.
///
/// The promise: bytes are refused with an error, or what was read can be written, and reading that again
/// and writing it gives the same bytes.
package enum WireFuzz {
    /// Takes `bytes` as a request frame without its length.
    package static func request(_ bytes: ByteBuffer) {
        var body = bytes
        guard let header = try? RequestHeader(consuming: &body), let api = header.api else {
            return
        }
        let version = header.requestApiVersion
        let read = try? MessageCatalog.request(api, version: version, body: body)
        guard let message = read else { return }
        check(message, version: version)
    }

    /// Takes the first four bytes of `bytes` as API key and version, and the rest as a response's body.
    package static func response(_ bytes: ByteBuffer) {
        var body = bytes
        guard let key = body.readInteger(as: Int16.self), let api = APIKey(rawValue: key),
            let version = body.readInteger(as: Int16.self),
            let message = try? MessageCatalog.response(api, version: version, body: body)
        else { return }
        check(message, version: version)
    }

    private static func check<Message: KafkaMessage>(_ message: Message, version: Int16) {
        do throws(WireError) {
            let first = try message.encoded(version: version)
            let second = try Message(from: first, version: version).encoded(version: version)
            precondition(first == second, "\(Message.name) v\(version) changes in a round trip")
        } catch .valueTooLong {
            // Repaired UTF-8 is longer than what was read: the one way in which reading can grow.
        } catch {
            preconditionFailure("\(Message.name) v\(version) cannot be written again: \(error)")
        }
    }
}
