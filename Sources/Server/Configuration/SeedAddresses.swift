import FlotillaCoordination
import FlotillaEnvironment
import FoundationEssentials

/// Addresses that other brokers dial: unlike those that are listened on, each has a host and a port.
enum SeedAddresses {
    /// What is wrong with them, as what a setting expects.
    struct Problem: Error, CustomStringConvertible {
        let description: String
    }

    /// Checks one address, or several separated by commas; gives them as they are.
    static func checked(_ text: String) throws -> String {
        let addresses = ListenAddress.list(text) ?? []
        let isDialled = addresses.allSatisfy { address in
            !address.host.isEmpty && address.port > 0
                && address.host.utf8.count <= JoinList.hostByteLimit
        }
        guard isDialled else {
            throw Problem(description: "an address with a host and a port, such as b1.example:9192")
        }
        guard JoinList(addresses).addresses.count <= JoinList.limit else {
            throw Problem(description: "a list of at most \(JoinList.limit) addresses")
        }
        return text
    }

    /// The address to tell others when none is set.
    ///
    /// - Parameters:
    ///   - bound: where the peer listener listens, with the port that it got.
    ///   - hostName: the machine's name, for a listener on every address.
    /// - Returns: what others can dial, if they know the name.
    static func advertised(
        bound: NetworkAddress,
        hostName: String = ProcessInfo.processInfo.hostName
    ) -> NetworkAddress {
        let isAny = ["", "0.0.0.0", "::"].contains(bound.host)
        return isAny ? NetworkAddress(host: hostName, port: bound.port) : bound
    }
}
