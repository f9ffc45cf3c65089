import FlotillaClient
import Testing

@Suite("Broker addresses")
struct BrokerAddressTests {
    @Test(
        "An address is a host, and a port that is 9092 where none is given",
        arguments: [
            ("localhost", "localhost:9092"), ("a:1", "a:1"), (" b:2 ", "b:2"),
            ("[::1]:3", "[::1]:3"),
            ("[::1]", "[::1]:9092"), ("PLAINTEXT://k:4", "k:4"),
        ]
    )
    func reads(text: String, expected: String) {
        #expect(BrokerAddress(text)?.description == expected)
    }

    @Test(
        "What is no address is refused",
        arguments: ["", ":1", "a:", "a:x", "a:0", "a:65536", "[::1", "[::1]x", "http://a:1"]
    )
    func refuses(text: String) {
        #expect(BrokerAddress(text) == nil)
    }

    @Test("One wrong address spoils a list")
    func lists() {
        #expect(BrokerAddress.list("a:1,b")?.count == 2)
        #expect(BrokerAddress.list("a:1,b:x") == nil)
        #expect(BrokerAddress.list("") == nil)
    }
}
