import ArgumentParser
import FlotillaClient
import Testing

@testable import flotilla

@Suite("What commands say when they fail")
struct ErrorTextTests {
    @Test("A topic's name with a slip in it finds the one that was meant, another word finds none")
    func nearest() {
        let topics = ["orders", "payments", "a", "ab"]
        #expect(Words.nearest(to: "oders", among: topics) == "orders")
        #expect(Words.nearest(to: "orders-", among: topics) == "orders")
        #expect(Words.nearest(to: "paymnets", among: topics) == "payments")
        for name in ["shipments", "b", "x", "orders", ""] {
            #expect(Words.nearest(to: name, among: topics) == nil)
        }
        let long = String(repeating: "x", count: 1000)
        #expect(Words.nearest(to: long, among: [long + "y"]) == nil)
    }

    @Test("A topic that does not exist is told by name, with exit code 3")
    func unknownTopic() {
        let failure = CommandFailure(.noSuchTopic("oders"))
        #expect(failure.text == "topic oders does not exist")
        #expect(failure.exitCode == 3)
    }

    @Test(
        "An address that is none is told why",
        arguments: [
            ("h:99999", "ports lie between 1 and 65535"), ("h:0", "ports lie between 1 and 65535"),
            ("http://h:1", "without http://"), ("h:x", "write HOST:PORT"),
            ("a:1,b:x", "\"b:x\" is no address"), (",", "the list of brokers is empty"),
        ]
    )
    func addresses(text: String, expected: String) {
        let failure = #expect(throws: CommandFailure.self) { try Addresses.brokers(text) }
        #expect(failure?.text.contains(expected) == true, "\(String(describing: failure))")
        #expect(failure?.exitCode == 2)
    }

    @Test("The HTTP port in the place of a broker's is told, with exit code 4")
    func notKafka() {
        let address = BrokerAddress(host: "localhost", port: 9644)
        let failure = CommandFailure(.notKafka(address, speaks: "HTTP"))
        #expect(failure.text.hasPrefix("localhost:9644 speaks HTTP, not Kafka's protocol"))
        #expect(failure.exitCode == 4)
    }

    @Test("--timeout bounds everything that is asked; without it nobody there is known sooner")
    func timeouts() throws {
        var options = try ClientOptions.parse(["--timeout", "2s", "-b", "h:1"])
        var configuration = try options.configuration()
        #expect(configuration.requestTimeout == .seconds(2))
        #expect(configuration.retryTimeout == .seconds(2))
        #expect(configuration.connectTimeout == .seconds(2))
        #expect(configuration.refusalTimeout == nil)
        options = try ClientOptions.parse(["-b", "h:1", "-q"])
        configuration = try options.configuration()
        #expect(configuration.requestTimeout == .seconds(15))
        #expect(configuration.connectTimeout == .seconds(5))
        #expect(configuration.refusalTimeout == .seconds(3))
        #expect(configuration.onWait == nil)
        let none = try ClientOptions.parse(["--timeout", "0"])
        #expect(throws: CommandFailure.self) { try none.configuration() }
    }
}
