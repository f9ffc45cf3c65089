import FlotillaKafkaWire
import FlotillaRecords
import Testing

import struct NIOCore.ByteBuffer

/// Replays what fuzzing found; a promise that does not hold is a trap, so coming to the end is the test.
@Suite("The fuzzers' corpus")
struct CorpusTests {
    @Test("Requests and responses of the corpus are refused or survive a round trip")
    func requests() throws {
        let inputs = try Corpus.inputs(of: "Request")
        for input in inputs {
            WireFuzz.request(ByteBuffer(bytes: input))
            WireFuzz.response(ByteBuffer(bytes: input))
        }
        #expect(inputs.count > 100)
    }

    @Test("Batches of the corpus are refused or survive the log")
    func batches() throws {
        let inputs = try Corpus.inputs(of: "Batch")
        for input in inputs {
            unsafe fuzzBatchParser(input.span.bytes)
        }
        #expect(inputs.count > 100)
    }

    @Test("Log entries of the corpus are refused or write the same bytes")
    func entries() throws {
        let inputs = try Corpus.inputs(of: "Frames")
        for input in inputs {
            unsafe fuzzFrameReader(input.span.bytes)
        }
        #expect(inputs.count > 10)
    }
}
