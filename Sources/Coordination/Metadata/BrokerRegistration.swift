package import FlotillaModel

/// Where a broker can be reached, on one of its listeners.
package struct BrokerEndpoint: Hashable, Sendable {
    /// The listener's name: `PLAINTEXT`.
    package var listener: String
    /// A name or an address; empty where each client is told the address that it reached.
    package var host: String
    /// The port.
    package var port: UInt16

    /// States where a broker can be reached.
    package init(listener: String, host: String, port: UInt16) {
        self.listener = listener
        self.host = host
        self.port = port
    }
}

/// What the cluster knows of a broker.
package struct BrokerRegistration: Hashable, Sendable {
    /// The broker's id.
    package var id: BrokerID
    /// Which life of its directories.
    package var incarnation: BrokerIncarnation
    /// Where it can be reached.
    package var endpoints: [BrokerEndpoint]
    /// The rack or zone it stands in.
    package var rack: String?

    /// Describes a broker.
    package init(
        id: BrokerID,
        incarnation: BrokerIncarnation,
        endpoints: [BrokerEndpoint],
        rack: String? = nil
    ) {
        self.id = id
        self.incarnation = incarnation
        self.endpoints = endpoints
        self.rack = rack
    }
}
