package import FlotillaEnvironment

/// The brokers that a cluster is formed from, as each of them is told: the setting `cluster.join`.
///
/// Two lists are equal when they name the same addresses, in whatever order.
package struct JoinList: Hashable, Sendable, CustomStringConvertible {
    /// The most addresses of a list.
    package static let limit = 32
    /// The most bytes of a host; a name of the domain name system has at most 253.
    package static let hostByteLimit = 255

    /// The addresses, sorted, each once, with hosts in lower case.
    package let addresses: [NetworkAddress]

    /// Takes addresses in any order.
    package init(_ addresses: [NetworkAddress]) {
        var unique: [NetworkAddress] = []
        let plain = addresses.map { NetworkAddress(host: $0.host.lowercased(), port: $0.port) }
        for address in plain.sorted(by: { ($0.host, $0.port) < ($1.host, $1.port) })
        where unique.last != address {
            unique.append(address)
        }
        self.addresses = unique
    }

    /// No list: a broker that is a cluster by itself.
    package static let none = JoinList([])

    /// Whether nobody is named.
    package var isEmpty: Bool {
        addresses.isEmpty
    }

    /// The addresses as a person writes them.
    package var description: String {
        addresses.map(\.description).joined(separator: ",")
    }
}
