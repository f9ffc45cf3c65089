import FlotillaClient
import NIOCore
import Testing

@Suite("Partitioner")
struct PartitionerTests {
    /// The vectors that Kafka's own tests use.
    @Test(
        "murmur2 gives what Kafka's gives",
        arguments: [
            ("21", -973_932_308), ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971), ("abc", 479_470_107),
        ] as [(String, Int32)]
    )
    func murmur2(text: String, expected: Int32) {
        #expect(Int32(bitPattern: Partitioner.murmur2(ByteBuffer(string: text))) == expected)
    }

    @Test("A slice hashes as its own bytes do")
    func slices() {
        var buffer = ByteBuffer(string: "xxfoobaryy")
        buffer.moveReaderIndex(forwardBy: 2)
        let slice = buffer.readSlice(length: 6) ?? ByteBuffer()
        #expect(Partitioner.murmur2(slice) == Partitioner.murmur2(ByteBuffer(string: "foobar")))
    }

    @Test("Every partition number is within the topic", arguments: [1, 3, 16, 1000])
    func range(count: Int) {
        for number in 0..<1000 {
            let partition = Partitioner.partition(
                forKey: ByteBuffer(string: "key-\(number)"),
                count: count
            )
            #expect((0..<Int32(count)).contains(partition))
        }
    }
}
