import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
@testable import FlotillaServer
import Testing

@Suite("Settings of a cluster")
struct ClusterSettingsTests {
    let scratch: Scratch

    init() throws {
        scratch = try Scratch()
    }

    private func read(_ flags: [(name: String, value: String)]) throws -> Settings {
        var reader = SettingsReader(disk: scratch.disk)
        reader.flags = flags
        return try reader.read()
    }

    private func problems(_ flags: [(name: String, value: String)]) throws -> [String] {
        do {
            _ = try read(flags)
            return []
        } catch let error as SettingsError {
            return error.problems.map { "\($0)" }
        }
    }

    @Test("A broker without a list needs no peer listener, and may have one")
    func alone() throws {
        let settings = try read([])
        #expect(settings.peerAddress == nil)
        #expect(settings.advertisedPeerAddress == nil)
        #expect(settings.joinList.isEmpty)
        let listening = try read([("peer.listen", ":9192")])
        #expect(listening.peerAddress == NetworkAddress(host: "", port: 9192))
        #expect(listening.joinList.isEmpty)
    }

    @Test("A list names the first brokers; its order does not matter")
    func list() throws {
        let settings = try read([
            ("peer.listen", "localhost:9192"), ("cluster.join", "b2:9192, b1:9192"),
            ("peer.advertised", "b1.example:1"), ("broker.rack", "r"), ("node.id", "4"),
        ])
        #expect(settings.joinList.description == "b1:9192,b2:9192")
        #expect(settings.advertisedPeerAddress == NetworkAddress(host: "b1.example", port: 1))
        #expect(settings.rack == "r")
        #expect(settings.nodeID == BrokerID(4))
    }

    @Test("The environment names them in upper snake")
    func environment() throws {
        var reader = SettingsReader(disk: scratch.disk)
        reader.environment = [
            "FLOTILLA_PEER_LISTEN": ":9192", "FLOTILLA_PEER_ADVERTISED": "me:9192",
            "FLOTILLA_CLUSTER_JOIN": "a:1,b:2", "FLOTILLA_BROKER_RACK": "z",
        ]
        let settings = try reader.read()
        #expect(settings.peerAddress == NetworkAddress(host: "", port: 9192))
        #expect(settings.advertisedPeerAddress == NetworkAddress(host: "me", port: 9192))
        #expect(settings.joinList.description == "a:1,b:2")
        #expect(settings.rack == "z")
    }

    @Test("A list without a peer listener is refused")
    func listWithoutListener() throws {
        #expect(
            try problems([("cluster.join", "b1:9192")]) == [
                "cluster.join: needs peer.listen as well, where the other brokers reach this one"
            ]
        )
    }

    @Test("Addresses that others dial have a host and a port")
    func dialled() throws {
        let expected = "an address with a host and a port, such as b1.example:9192"
        for wrong in [":9192", "b1:9192,:9192", "b1:0"] {
            #expect(
                try problems([("peer.listen", ":1"), ("cluster.join", wrong)]) == [
                    "cluster.join: '\(wrong)' is not \(expected) (flag)"
                ]
            )
        }
        #expect(
            try problems([("peer.advertised", ":9192")]) == [
                "peer.advertised: ':9192' is not \(expected) (flag)"
            ]
        )
        let tooMany = (0...JoinList.limit).map { "b\($0):1" }.joined(separator: ",")
        #expect(
            try problems([("peer.listen", ":1"), ("cluster.join", tooMany)]).first?
                .hasSuffix("is not a list of at most 32 addresses (flag)") == true
        )
    }

    @Test("A listener on every address is told by the machine's name, another one as it is")
    func advertised() {
        for host in ["", "0.0.0.0", "::"] {
            let bound = NetworkAddress(host: host, port: 5)
            #expect(
                SeedAddresses.advertised(bound: bound, hostName: "here")
                    == NetworkAddress(host: "here", port: 5)
            )
        }
        let one = NetworkAddress(host: "10.0.0.1", port: 5)
        #expect(SeedAddresses.advertised(bound: one, hostName: "here") == one)
        #expect(!SeedAddresses.advertised(bound: NetworkAddress(host: "", port: 5)).host.isEmpty)
    }

    @Test("The shipped files are three brokers of one cluster on one machine", arguments: 1...3)
    func shippedFiles(number: Int32) throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        var reader = SettingsReader(disk: scratch.disk)
        reader.path = "/\(root)/config/cluster/\(number).toml"
        let settings = try reader.read()
        #expect(settings.notes.isEmpty)
        #expect(settings.nodeID == BrokerID(number))
        #expect(settings.rack == "rack-\(number)")
        #expect(settings.dataDirectory == "flotilla-data/\(number)")
        let place = Int(number) - 1
        func local(_ port: Int) -> NetworkAddress { NetworkAddress(host: "localhost", port: port) }
        #expect(settings.kafkaAddresses == [local(9092 + place)])
        #expect(settings.httpAddress == local(9644 + place))
        #expect(settings.peerAddress == local(9192 + place))
        #expect(settings.joinList == JoinList([local(9192), local(9193), local(9194)]))
    }
}
