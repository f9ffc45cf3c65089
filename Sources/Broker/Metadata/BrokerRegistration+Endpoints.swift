package import FlotillaCoordination
package import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft

// How the cluster's tables are read here.

extension BrokerEndpoint {
    /// The name of the endpoint where other brokers connect; the others are for clients.
    package static let peerListener = "PEER"

    /// An endpoint at an address.
    package init(_ listener: String, _ address: NetworkAddress) {
        self.init(
            listener: listener,
            host: address.host,
            port: UInt16(clamping: address.port)
        )
    }

    /// Where it is.
    package var address: NetworkAddress { NetworkAddress(host: host, port: Int(port)) }
}

extension BrokerRegistration {
    /// An endpoint by its name.
    package func endpoint(named name: String) -> BrokerEndpoint? {
        endpoints.first { $0.listener == name }
    }

    /// Where clients connect: the first endpoint that is not for brokers.
    package var kafkaAddress: NetworkAddress {
        endpoints.first { $0.listener != BrokerEndpoint.peerListener }?.address
            ?? NetworkAddress(host: "", port: 0)
    }
}

extension Membership {
    /// Whether a broker holds a member of the group.
    func contains(broker: BrokerID) -> Bool {
        allMembers.contains { $0.broker == broker }
    }
}
