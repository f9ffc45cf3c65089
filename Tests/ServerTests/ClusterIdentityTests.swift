import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
@testable import FlotillaServer
import Testing

import struct NIOCore.ByteBuffer

@Suite("Identity of a directory")
struct ClusterIdentityTests {
    let scratch: Scratch
    private let broker = BrokerID(2)
    private let incarnation = BrokerIncarnation(high: 0xA, low: .max)

    init() throws {
        scratch = try Scratch()
    }

    private var founders: FoundingList {
        FoundingList([
            FoundingMember(
                broker: broker,
                incarnation: incarnation,
                address: NetworkAddress(host: "b2.example", port: 9192)
            ),
            FoundingMember(
                broker: BrokerID(0),
                incarnation: BrokerIncarnation(high: 1, low: 2),
                address: NetworkAddress(host: "::1", port: 65_535)
            ),
        ])
    }

    private var states: [FormationState] {
        [
            .agreed(founders), .founded(founders), .founded(.alone(broker, incarnation)),
            .joining(clusterID: "x"),
            .member(
                ClusterMembership(clusterID: "x", epoch: CreationEpoch(.max), founders: founders)
            ),
        ]
    }

    private func write(_ state: FormationState) throws {
        let identity = ClusterIdentity(broker: broker, incarnation: incarnation, state: state)
        try #require(identity).write(in: scratch.path, disk: scratch.disk)
    }

    private func read(
        incarnation other: BrokerIncarnation? = nil,
        broker otherBroker: BrokerID? = nil,
        metadataEpoch: UInt64? = nil
    ) throws -> FormationState {
        try ClusterIdentity.read(
            in: scratch.path,
            broker: otherBroker ?? broker,
            incarnation: other ?? incarnation,
            metadataEpoch: metadataEpoch.map { CreationEpoch($0) },
            disk: scratch.disk
        )
    }

    @Test("Every state reads back, over whatever was there before")
    func roundTrip() throws {
        #expect(try read() == .empty)
        let staged = try scratch.disk.open(scratch.file("cluster.json.tmp"), .createNew)
        try staged.write([ByteBuffer(string: "left by a crash")], at: 0)
        #expect(try read() == .empty)
        for state in states + states.reversed() {
            try write(state)
            #expect(try read() == state)
            #expect(try !scratch.disk.exists(scratch.file("cluster.json.tmp")))
        }
        #expect(ClusterIdentity(broker: broker, incarnation: incarnation, state: .empty) == nil)
    }

    @Test("A changed byte is refused, or is one that means nothing")
    func damage() throws {
        try write(states[4])
        let file = try scratch.disk.open(scratch.file("cluster.json"), .readWrite)
        let bytes = try file.read(at: 0, count: Int(file.byteCount()))
        var refusedCount = 0
        for position in 0..<bytes.readableBytes {
            let byte = try #require(bytes.getInteger(at: position, as: UInt8.self))
            try file.write([ByteBuffer(integer: byte ^ 0x01)], at: Int64(position))
            do {
                #expect(try read() == states[4], "byte \(position)")
            } catch is ClusterIdentityError {
                refusedCount += 1
            }
            try file.write([ByteBuffer(integer: byte)], at: Int64(position))
        }
        #expect(refusedCount > bytes.readableBytes / 2)
        try file.truncate(to: Int64(bytes.readableBytes / 2))
        let path = scratch.file("cluster.json")
        #expect(throws: ClusterIdentityError.unreadable(path: path)) { try read() }
        try file.truncate(to: 0)
        #expect(throws: ClusterIdentityError.unreadable(path: path)) { try read() }
    }

    @Test("Another version is refused by its number")
    func otherVersion() throws {
        var identity = try #require(
            ClusterIdentity(broker: broker, incarnation: incarnation, state: states[0])
        )
        identity.version = 2
        try identity.write(in: scratch.path, disk: scratch.disk)
        let path = scratch.file("cluster.json")
        #expect(throws: ClusterIdentityError.unsupported(path: path, version: 2)) { try read() }
    }

    @Test("A new incarnation over an old file joins the cluster that it was in, and founds nothing")
    func otherIncarnation() throws {
        let reborn = BrokerIncarnation(high: 5, low: 5)
        let foreign = ClusterIdentityError.foreign(path: scratch.file("cluster.json"), broker: 2)
        for state in states {
            try write(state)
            if state.clusterID != nil {
                #expect(try read(incarnation: reborn) == .joining(clusterID: "x"))
            } else {
                #expect(throws: foreign) { try read(incarnation: reborn) }
            }
            #expect(throws: foreign) { try read(broker: BrokerID(3)) }
        }
    }

    @Test("Metadata without the file is a broker from before, or a file that was lost")
    func metadataWithoutFile() throws {
        #expect(try read(metadataEpoch: 0) == .founded(.alone(broker, incarnation)))
        #expect(throws: ClusterIdentityError.missing(path: scratch.file("cluster.json"))) {
            try read(metadataEpoch: 1)
        }
        try write(states[4])
        #expect(try read(metadataEpoch: 1) == states[4])
    }

    @Test("broker.json reads back, and another id is refused")
    func brokerIdentity() throws {
        var random = SeededRandom(seed: 1)
        func establish(_ wanted: Int32?) throws -> BrokerIdentity {
            try BrokerIdentity.establish(
                in: scratch.path,
                wanted: wanted.map { BrokerID($0) },
                disk: scratch.disk,
                random: &random
            )
        }
        let first = try establish(7)
        #expect(first.broker == 7)
        #expect(first.parsedIncarnation != nil)
        #expect(try establish(nil) == first)
        #expect(throws: StartError.self) { try establish(8) }
        for incarnation in [incarnation, BrokerIncarnation(high: 0, low: 1)] {
            #expect(BrokerIncarnation(digits: incarnation.digits) == incarnation)
        }
        #expect(BrokerIncarnation(digits: "12") == nil)
    }
}
