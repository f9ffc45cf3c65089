/// Sizes and times as people write them in settings.
package enum Quantity {
    private static let byteUnits: [(suffix: String, factor: Int64)] = [
        ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40),
        ("kB", 1_000), ("KB", 1_000), ("MB", 1_000_000), ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("k", 1 << 10), ("K", 1 << 10), ("m", 1 << 20), ("M", 1 << 20), ("g", 1 << 30),
        ("G", 1 << 30), ("B", 1),
    ]

    private static let timeUnits: [(suffix: String, factor: Int64)] = [
        ("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
    ]

    /// Bytes: `1048576`, `10MiB`, `10MB` (powers of 1000) or `1k` (1024); nil when it is none of
    /// these or too large.
    package static func byteCount(_ text: String) -> Int64? {
        number(text, units: byteUnits)
    }

    /// Milliseconds: `250`, `250ms`, `10s`, `5min`, `12h`, `7d`, `2w`; nil when it is none of these
    /// or too large.
    package static func milliseconds(_ text: String) -> Int64? {
        number(text, units: timeUnits)
    }

    private static func number(_ text: String, units: [(suffix: String, factor: Int64)]) -> Int64? {
        if let number = Int64(text) {
            return number
        }
        for unit in units where text.hasSuffix(unit.suffix) {
            var digits = text.dropLast(unit.suffix.count)
            while digits.last == " " {
                digits.removeLast()
            }
            guard let number = Int64(digits), number >= 0 else {
                continue
            }
            let (product, isTooLarge) = number.multipliedReportingOverflow(by: unit.factor)
            return isTooLarge ? nil : product
        }
        return nil
    }

    /// Bytes in the largest unit that divides them: `128MiB`; plain when none does.
    package static func text(byteCount: Int64) -> String {
        for unit in byteUnits[0..<4].reversed()
        where byteCount >= unit.factor && byteCount % unit.factor == 0 {
            return "\(byteCount / unit.factor)\(unit.suffix)"
        }
        return String(byteCount)
    }

    /// Milliseconds in the largest unit that divides them: `7d`; plain when none does.
    package static func text(milliseconds: Int64) -> String {
        let units: [(String, Int64)] = [
            ("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1),
        ]
        for (suffix, factor) in units where milliseconds >= factor && milliseconds % factor == 0 {
            return "\(milliseconds / factor)\(suffix)"
        }
        return String(milliseconds)
    }
}
