import FlotillaEnvironment
import FlotillaModel

package import struct NIOCore.ByteBuffer

// The card as the body of a hello and of its answer. All numbers little endian; text is a 16-bit
// byte count and UTF-8; an address is a host (text) and a port (2 bytes); a list is a 32-bit count
// and its elements; what may be missing is a byte 0 or 1 and, after 1, the value.
//
// | field | bytes |
// |---|---|
// | version | 2 |
// | broker id | 4 |
// | incarnation | 16 |
// | run | 8 |
// | peer address | may be missing |
// | Kafka addresses | list, at most `kafkaAddressLimit` |
// | rack | text, may be missing |
// | join list | list of addresses, at most `JoinList.limit` |
// | state | 1: 0 empty, 1 agreed, 2 founded, 3 joining, 4 member |
// | agreed, founded: founders | epoch (8), list of broker id (4), incarnation (16), address (may be missing) |
// | joining: cluster id | text |
// | member: cluster id, own epoch, founders | text, 8, as above |

extension FormationCard {
    /// The version that is written, and the only one that is read.
    package static let version: UInt16 = 1
    /// No card has more bytes; half of what a hello can carry.
    package static let byteLimit = 32 << 10

    /// The card's bytes; equal cards give equal bytes.
    ///
    /// The card must be within its bounds (`checkBounds()`).
    package func encoded() -> ByteBuffer {
        var writer = ByteWriter()
        writer.integer(Self.version)
        writer.integer(broker.rawValue)
        writer.incarnation(incarnation)
        writer.integer(run)
        writer.optionalAddress(peerAddress)
        writer.addresses(kafkaAddresses)
        writer.optionalText(rack)
        writer.addresses(join.addresses)
        writer.formationState(state)
        precondition(writer.buffer.readableBytes <= Self.byteLimit, "a card was checked before")
        return writer.buffer
    }

    /// Reads a card.
    ///
    /// - Throws: `CoordinationError` for anything that `encoded()` does not write.
    package init(decoding bytes: ByteBuffer) throws(CoordinationError) {
        guard bytes.readableBytes <= Self.byteLimit else {
            throw .lengthOutOfBounds(field: "formation card", length: bytes.readableBytes)
        }
        var reader = ByteReader(bytes)
        let written = try reader.integer("version", as: UInt16.self)
        guard written == Self.version else {
            throw .unsupportedVersion(format: "formation card", version: Int(written))
        }
        self.init(
            broker: try reader.brokerID("broker"),
            incarnation: try reader.incarnation(),
            run: try reader.integer("run"),
            peerAddress: try reader.optionalAddress("peer address"),
            kafkaAddresses: try reader.addresses("Kafka addresses"),
            rack: try reader.optionalText("rack"),
            join: try reader.joinList("join list"),
            state: try reader.formationState("state")
        )
        try reader.finish("formation card")
        try checkBounds()
    }
}

extension ByteWriter {
    fileprivate mutating func address(_ address: NetworkAddress) {
        text(address.host)
        integer(UInt16(address.port))
    }

    fileprivate mutating func optionalAddress(_ address: NetworkAddress?) {
        flag(address != nil)
        if let address { self.address(address) }
    }

    fileprivate mutating func addresses(_ addresses: [NetworkAddress]) {
        count(addresses.count)
        for address in addresses { self.address(address) }
    }

    fileprivate mutating func founders(_ list: FoundingList) {
        integer(list.epoch.rawValue)
        count(list.members.count)
        for member in list.members {
            integer(member.broker.rawValue)
            incarnation(member.incarnation)
            optionalAddress(member.address)
        }
    }

    fileprivate mutating func formationState(_ state: FormationState) {
        switch state {
        case .empty:
            integer(0 as UInt8)
        case .agreed(let list):
            integer(1 as UInt8)
            founders(list)
        case .founded(let list):
            integer(2 as UInt8)
            founders(list)
        case .joining(let clusterID):
            integer(3 as UInt8)
            text(clusterID)
        case .member(let membership):
            integer(4 as UInt8)
            text(membership.clusterID)
            integer(membership.epoch.rawValue)
            founders(membership.founders)
        }
    }
}

extension ByteReader {
    fileprivate mutating func address(_ field: String) throws(CoordinationError) -> NetworkAddress {
        let host = try text(field)
        return NetworkAddress(host: host, port: Int(try integer(field, as: UInt16.self)))
    }

    fileprivate mutating func optionalAddress(
        _ field: String
    ) throws(CoordinationError) -> NetworkAddress? {
        try flag(field) ? try address(field) : nil
    }

    fileprivate mutating func addresses(
        _ field: String
    ) throws(CoordinationError) -> [NetworkAddress] {
        var addresses: [NetworkAddress] = []
        for _ in 0..<(try count(field, elementByteCount: 4)) {
            addresses.append(try address(field))
        }
        return addresses
    }

    fileprivate mutating func joinList(_ field: String) throws(CoordinationError) -> JoinList {
        let written = try addresses(field)
        let list = JoinList(written)
        // Another order would be a second spelling of the same card.
        guard list.addresses == written else {
            throw .lengthOutOfBounds(field: field, length: written.count)
        }
        return list
    }

    fileprivate mutating func founders(_ field: String) throws(CoordinationError) -> FoundingList {
        let epoch = CreationEpoch(try integer(field))
        let memberCount = try count(field, elementByteCount: 21)
        var members: [FoundingMember] = []
        for _ in 0..<memberCount {
            members.append(
                FoundingMember(
                    broker: try brokerID(field),
                    incarnation: try incarnation(),
                    address: try optionalAddress(field)
                )
            )
        }
        guard FoundingList.isConsistent(members) else {
            throw .lengthOutOfBounds(field: field, length: memberCount)
        }
        return FoundingList(members, epoch: epoch)
    }

    fileprivate mutating func formationState(
        _ field: String
    ) throws(CoordinationError) -> FormationState {
        switch try integer(field, as: UInt8.self) {
        case 0: return .empty
        case 1: return .agreed(try founders("founders"))
        case 2: return .founded(try founders("founders"))
        case 3: return .joining(clusterID: try text("cluster id"))
        case 4:
            return .member(
                ClusterMembership(
                    clusterID: try text("cluster id"),
                    epoch: CreationEpoch(try integer("epoch")),
                    founders: try founders("founders")
                )
            )
        case let kind:
            throw .valueOutOfBounds(field: field, value: Int64(kind))
        }
    }
}
