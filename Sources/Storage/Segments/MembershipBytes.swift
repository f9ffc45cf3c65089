import FlotillaModel
package import FlotillaRaft
package import struct NIOCore.ByteBuffer

// A membership as bytes: the payload of a membership entry, and a part of a `.state` file. Little
// endian.
//
//   4   number of voters, then each: 4 broker id, 8 creation epoch
//   4   number of outgoing voters, each likewise
//   4   number of learners, each likewise

extension Membership {
    /// The most members that one list of a stored membership may name.
    package static let maximumListCount = 1_024

    /// Appends the membership to `buffer`.
    package func encode(into buffer: inout ByteBuffer) {
        for members in [voters, outgoingVoters, learners] {
            precondition(
                members.count <= Self.maximumListCount,
                "a group has a bounded number of members"
            )
            buffer.writeInteger(UInt32(members.count), endianness: .little)
            for member in members {
                buffer.writeInteger(member.broker.rawValue, endianness: .little)
                buffer.writeInteger(member.epoch.rawValue, endianness: .little)
            }
        }
    }

    /// The payload of an entry that brings this membership.
    package var payload: ByteBuffer {
        var buffer = ByteBuffer()
        encode(into: &buffer)
        return buffer
    }

    /// Reads a membership and moves past it; nil for bytes that are none.
    package init?(readingFrom buffer: inout ByteBuffer) {
        guard let voters = Self.readMembers(&buffer), let outgoing = Self.readMembers(&buffer),
            let learners = Self.readMembers(&buffer), !learners.contains(where: voters.contains)
        else { return nil }
        self.init(voters: voters, outgoingVoters: outgoing, learners: learners)
    }

    /// Reads the payload of a membership entry; nil unless it is one membership and nothing else.
    package init?(payload: ByteBuffer) {
        var rest = payload
        self.init(readingFrom: &rest)
        guard rest.readableBytes == 0 else { return nil }
    }

    private static func readMembers(_ buffer: inout ByteBuffer) -> [GroupMember]? {
        guard let count = buffer.readInteger(endianness: .little, as: UInt32.self),
            count <= maximumListCount
        else { return nil }
        var members: [GroupMember] = []
        for _ in 0..<count {
            guard let broker = buffer.readInteger(endianness: .little, as: Int32.self),
                let epoch = buffer.readInteger(endianness: .little, as: UInt64.self)
            else { return nil }
            let member = GroupMember(broker: BrokerID(broker), epoch: CreationEpoch(epoch))
            if let last = members.last, last >= member { return nil }
            members.append(member)
        }
        return members
    }
}
