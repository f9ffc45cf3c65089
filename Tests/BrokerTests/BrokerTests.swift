import FlotillaBroker
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import Testing

@Suite("A broker as a client meets it first")
struct BrokerTests {
    @Test("a record that was acknowledged is read back")
    func roundTrip() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        try client.createTopic()
        let produced = try client.produce(Batches.batch("a", "b"))
        #expect(produced.error == .noError)
        #expect(produced.baseOffset == 0)
        #expect(try client.read() == [0: "a", 1: "b"])
    }
}
