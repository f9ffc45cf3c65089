package import FlotillaEnvironment

/// The ids that a coordinator gives to members.
package enum MemberID {
    /// What makes an id unlike all others: 128 bits of chance, spelled like a UUID.
    ///
    /// - Source: SEMANTICS rule JG-3: the client's name, or the static one, stands before it.
    package static func suffix(using random: inout SeededRandom) -> String {
        let digits = hex(random.next()) + hex(random.next())
        let lengths = [8, 4, 4, 4, 12]
        var rest = digits[...]
        return lengths.map { length in
            defer { rest = rest.dropFirst(length) }
            return String(rest.prefix(length))
        }.joined(separator: "-")
    }

    private static func hex(_ number: UInt64) -> String {
        let digits = String(number, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
