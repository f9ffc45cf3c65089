@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

import struct NIOCore.ByteBuffer

@Suite("Formation cards")
struct FormationCardTests {
    private static let states: [FormationState] = [
        .empty, .agreed(.of([1, 2, 3])), .founded(.of([1, 1, 1])),
        .founded(.alone(7, BrokerIncarnation(high: 1, low: 2))),
        .joining(clusterID: "AAAAAAAAAAAAAAAAAAAAAA"),
        .member(
            ClusterMembership(clusterID: "c", epoch: 42, founders: .of([1, 2, 3, 4, 5]))
        ),
    ]

    private static var cards: [FormationCard] {
        states.flatMap { state in
            var full = FormationCard.example(2, life: 9, state: state)
            full.rack = "Zürich-1"
            full.kafkaAddresses.append(NetworkAddress(host: "::1", port: 65_535))
            var bare = FormationCard.example(0, join: .none, state: state)
            bare.peerAddress = nil
            bare.kafkaAddresses = []
            return [full, bare]
        }
    }

    @Test("A card reads back as it was, from any state")
    func roundTrip() throws {
        for card in Self.cards {
            #expect(try FormationCard(decoding: card.encoded()) == card)
        }
    }

    @Test("A card that ends anywhere too early, or goes on, is refused")
    func wrongLength() throws {
        for card in Self.cards {
            let bytes = card.encoded()
            for count in 0..<bytes.readableBytes {
                let start = try #require(bytes.getSlice(at: 0, length: count))
                #expect(throws: CoordinationError.self) { try FormationCard(decoding: start) }
            }
            var longer = bytes
            longer.writeInteger(0 as UInt8)
            #expect(throws: CoordinationError.trailingBytes(of: "formation card", count: 1)) {
                try FormationCard(decoding: longer)
            }
        }
    }

    @Test("A flipped bit is refused, or gives another card: never a second spelling of one")
    func flippedBits() throws {
        for card in Self.cards {
            let bytes = card.encoded()
            for position in 0..<bytes.readableBytes {
                for bit in 0..<8 {
                    var flipped = bytes
                    let byte = try #require(bytes.getInteger(at: position, as: UInt8.self))
                    flipped.setInteger(byte ^ 1 << UInt8(bit), at: position)
                    guard let other = try? FormationCard(decoding: flipped) else { continue }
                    #expect(other.encoded() == flipped, "byte \(position), bit \(bit)")
                    #expect(other != card)
                }
            }
        }
    }

    @Test("Another version is named")
    func otherVersion() throws {
        var bytes = FormationCard.example(1).encoded()
        bytes.setInteger(2 as UInt16, at: 0, endianness: .little)
        #expect(throws: CoordinationError.unsupportedVersion(format: "formation card", version: 2))
        {
            try FormationCard(decoding: bytes)
        }
    }

    @Test("The largest card stays below its limit, and one more of anything is out of bounds")
    func bounds() throws {
        let host = String(repeating: "h", count: JoinList.hostByteLimit - 2)
        let addresses = (10..<10 + JoinList.limit).map {
            NetworkAddress(host: "\(host)\($0)", port: 65_535)
        }
        let founders = FoundingList(
            addresses.enumerated().map { place, address in
                FoundingMember(
                    broker: BrokerID(Int32(place)),
                    incarnation: BrokerIncarnation(high: 1, low: 1),
                    address: address
                )
            }
        )
        let clusterID = String(repeating: "c", count: FormationState.clusterIDByteLimit)
        var card = FormationCard.example(
            1,
            join: JoinList(addresses),
            state: .member(of: clusterID, founders)
        )
        card.kafkaAddresses = Array(addresses.prefix(FormationCard.kafkaAddressLimit))
        card.rack = String(repeating: "r", count: FormationCard.rackByteLimit)
        try card.checkBounds()
        #expect(try FormationCard(decoding: card.encoded()) == card)

        func isRefused(_ change: (inout FormationCard) -> Void) -> Bool {
            var changed = card
            change(&changed)
            return (try? changed.checkBounds()) == nil
        }
        #expect(isRefused { $0.rack? += "r" })
        #expect(isRefused { $0.kafkaAddresses.append(addresses[20]) })
        #expect(isRefused { $0.join = JoinList(addresses + [.seed(1)]) })
        #expect(isRefused { $0.state = .joining(clusterID: clusterID + "c") })
        #expect(isRefused { $0.state = .joining(clusterID: "") })
        #expect(isRefused { $0.peerAddress?.host = host + "hhh" })
        #expect(isRefused { $0.peerAddress?.port = 65_536 })
        #expect(throws: CoordinationError.self) {
            try FormationCard(decoding: ByteBuffer(repeating: 0, count: 1 << 20))
        }
    }

    @Test("Two lists are equal when they name the same addresses")
    func lists() {
        let one = JoinList([.seed(3), .seed(1), NetworkAddress(host: "B2.Example", port: 9192)])
        #expect(one == .seeds(1, 2, 3))
        #expect(one.description == "b1.example:9192,b2.example:9192,b3.example:9192")
        #expect(JoinList([.seed(1), .seed(1)]) == .seeds(1))
        #expect(.seeds(1) != JoinList([NetworkAddress(host: "b1.example", port: 9193)]))
    }
}
