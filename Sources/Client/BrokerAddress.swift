/// Where a broker listens.
public struct BrokerAddress: Hashable, Sendable, CustomStringConvertible {
    /// A name or an address; IPv6 without brackets.
    public var host: String
    /// The TCP port.
    public var port: Int

    /// The port of Kafka brokers where none is given.
    public static let defaultPort = 9092

    /// Names a place.
    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// Reads `host`, `host:port`, `[address]:port`, or one of these after `PLAINTEXT://`; nil for anything else.
    public init?(_ text: some StringProtocol) {
        var rest = text[...].drop(while: \.isWhitespace)
        if rest.hasPrefix("PLAINTEXT://") { rest = rest.dropFirst("PLAINTEXT://".count) }
        while rest.last?.isWhitespace == true { rest.removeLast() }
        var host = rest
        var port: Int? = Self.defaultPort
        if rest.first == "[" {
            guard let close = rest.firstIndex(of: "]") else { return nil }
            host = rest[rest.index(after: rest.startIndex)..<close]
            let tail = rest[rest.index(after: close)...]
            if !tail.isEmpty {
                guard tail.first == ":" else { return nil }
                port = Int(tail.dropFirst())
            }
        } else if let colon = rest.lastIndex(of: ":"), rest.firstIndex(of: ":") == colon {
            host = rest[..<colon]
            port = Int(rest[rest.index(after: colon)...])
        }
        guard let port, (1...65535).contains(port), !host.isEmpty, !host.contains("/")
        else { return nil }
        self.init(host: String(host), port: port)
    }

    /// Reads a list with commas between; nil where one of them is no address, or there is none.
    public static func list(_ text: String) -> [BrokerAddress]? {
        let parts = text.split(separator: ",")
        let addresses = parts.compactMap { BrokerAddress($0) }
        return addresses.count == parts.count && !parts.isEmpty ? addresses : nil
    }

    /// `host:port`, IPv6 in brackets.
    public var description: String {
        host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
    }
}
