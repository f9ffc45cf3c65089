package import FlotillaEnvironment
package import FlotillaModel

/// What a broker tells others about itself while clusters form: who it is, where, and how far.
package struct FormationCard: Hashable, Sendable {
    /// The broker's id.
    package var broker: BrokerID
    /// Which life of its directories.
    package var incarnation: BrokerIncarnation
    /// A number that each start of the process draws anew.
    ///
    /// Two processes over copies of one directory differ in nothing else.
    package var run: UInt64
    /// Where other brokers reach it, as far as it knows; nil without a peer listener.
    package var peerAddress: NetworkAddress?
    /// Where Kafka clients connect.
    package var kafkaAddresses: [NetworkAddress]
    /// The rack or zone it stands in.
    package var rack: String?
    /// The seeds that it was told.
    package var join: JoinList
    /// How far its directory has come.
    package var state: FormationState

    /// The most Kafka addresses of a card.
    package static let kafkaAddressLimit = 16
    /// The most bytes of a rack's name.
    package static let rackByteLimit = 255

    /// Describes a broker.
    package init(
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        run: UInt64,
        peerAddress: NetworkAddress?,
        kafkaAddresses: [NetworkAddress],
        rack: String?,
        join: JoinList,
        state: FormationState
    ) {
        self.broker = broker
        self.incarnation = incarnation
        self.run = run
        self.peerAddress = peerAddress
        self.kafkaAddresses = kafkaAddresses
        self.rack = rack
        self.join = join
        self.state = state
    }

    /// Whether both cards are of one broker in one life of its directories.
    package func isSameBroker(as other: FormationCard) -> Bool {
        broker == other.broker && incarnation == other.incarnation
    }

    /// Whether this is the card of that founder.
    func isCard(of founder: FoundingMember) -> Bool {
        broker == founder.broker && incarnation == founder.incarnation
    }

    /// Checks that others will be able to read the card.
    ///
    /// - Throws: `.lengthOutOfBounds` or `.valueOutOfBounds`, with the field.
    package func checkBounds() throws(CoordinationError) {
        try Self.check("join list", join.addresses.count, JoinList.limit)
        try Self.check("Kafka addresses", kafkaAddresses.count, Self.kafkaAddressLimit)
        try Self.check("rack", rack?.utf8.count ?? 0, Self.rackByteLimit)
        try Self.check(
            "cluster id",
            state.clusterID?.utf8.count ?? 0,
            FormationState.clusterIDByteLimit
        )
        guard state.clusterID?.isEmpty != true else {
            throw .lengthOutOfBounds(field: "cluster id", length: 0)
        }
        try Self.check("founders", state.founders?.members.count ?? 0, JoinList.limit)
        let founding = state.founders?.addresses ?? []
        let own = kafkaAddresses + [peerAddress].compactMap(\.self)
        for address in join.addresses + founding + own {
            try Self.check("host", address.host.utf8.count, JoinList.hostByteLimit)
            guard 0...65_535 ~= address.port else {
                throw .valueOutOfBounds(field: "port", value: Int64(address.port))
            }
        }
    }

    private static func check(
        _ field: String,
        _ count: Int,
        _ limit: Int
    ) throws(CoordinationError) {
        guard count <= limit else { throw .lengthOutOfBounds(field: field, length: count) }
    }
}
