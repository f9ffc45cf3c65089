package import FlotillaEnvironment

/// Addresses as settings and flags write them.
package enum ListenAddress {
    /// Reads `host:port`, `:port`, `[v6]:port` or any of them behind `PLAINTEXT://`; nil when it is
    /// none of these.
    package static func parse(_ text: String) -> NetworkAddress? {
        var rest = text[...]
        if let scheme = rest.range(of: "://") {
            guard rest[..<scheme.lowerBound].uppercased() == "PLAINTEXT" else {
                return nil
            }
            rest = rest[scheme.upperBound...]
        }
        guard let colon = rest.lastIndex(of: ":"),
            let port = UInt16(rest[rest.index(after: colon)...])
        else {
            return nil
        }
        var host = rest[..<colon]
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") || host.contains("/") {
            return nil
        }
        return NetworkAddress(host: String(host), port: Int(port))
    }

    /// Reads addresses separated by commas; nil when one is none, or when there is none.
    package static func list(_ text: String) -> [NetworkAddress]? {
        var addresses: [NetworkAddress] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let address = parse(String(part.drop { $0 == " " })) else {
                return nil
            }
            addresses.append(address)
        }
        return addresses.isEmpty ? nil : addresses
    }
}

extension Substring {
    /// Where `text` first occurs.
    fileprivate func range(of text: String) -> Range<Substring.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(text) {
                return start..<index(start, offsetBy: text.count)
            }
            start = index(after: start)
        }
        return nil
    }
}
