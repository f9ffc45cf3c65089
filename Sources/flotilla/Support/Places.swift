import FlotillaClient
import FlotillaModel
import Glibc

/// Where to read from and up to, as `-o` writes it; kcat's spellings too.
///
/// `start` `beginning` `earliest` `end` `latest` `42` `+5` (five after the start) `-5` (the last five)
/// `@time` `s@time` `e@time`, and `FROM:TO` of two of these.
struct PlaceRange: Equatable {
    var start: Place
    var end: Place?

    init(start: Place, end: Place? = nil) {
        self.start = start
        self.end = end
    }

    /// Nil for what is no place: the name of an output format, perhaps.
    init?(_ text: String, now: Timestamp = WallTime.now()) {
        let end = PlaceRange.separator(in: text)
        if let end {
            let first = text[..<end]
            guard let to = Place(String(text[text.index(after: end)...]), now: now) else {
                return nil
            }
            guard let from = first.isEmpty ? .named(.earliest) : Place(String(first), now: now)
            else { return nil }
            self.init(start: from, end: to)
        } else {
            guard let from = Place(text, now: now) else { return nil }
            self.init(start: from)
        }
    }

    /// The colon between two places: a time of day has colons too.
    private static func separator(in text: String) -> String.Index? {
        for index in text.indices where text[index] == ":" {
            let before = text[..<index]
            let isInTime =
                before.contains("T") && before.last?.isNumber == true && before.hasPrefix("@")
            let rest = text[text.index(after: index)...]
            let isPlace = rest.first.map { "@+-es".contains($0) || $0.isNumber } ?? false
            if isPlace, !isInTime || rest.first == "@" || rest.first == "e" { return index }
        }
        return nil
    }
}

/// One place in each partition.
enum Place: Equatable {
    case named(StartOffset)
    /// So many records after the first.
    case afterStart(Int64)
    /// So many records before the end.
    case beforeEnd(Int64)

    init?(_ text: String, now: Timestamp) {
        switch text {
        case "start", "beginning", "earliest": self = .named(.earliest)
        case "end", "latest": self = .named(.latest)
        default:
            if let time = Place.time(text, now) {
                self = .named(.time(time))
            } else if text.hasPrefix("+"), let count = Int64(text.dropFirst()), count >= 0 {
                self = .afterStart(count)
            } else if text.hasPrefix("-"), let count = Int64(text.dropFirst()), count >= 0 {
                self = .beforeEnd(count)
            } else if let offset = Int64(text), offset >= 0 {
                self = .named(.offset(Offset(offset)))
            } else {
                return nil
            }
        }
    }

    private static func time(_ text: String, _ now: Timestamp) -> Timestamp? {
        for prefix in ["@", "s@", "e@"] where text.hasPrefix(prefix) {
            return WallTime.parse(String(text.dropFirst(prefix.count)), now: now)
        }
        return nil
    }

    /// Looks the place up in each partition.
    func resolve(
        _ partitions: [NamedPartition],
        _ admin: Admin,
        _ level: IsolationLevel = .readUncommitted
    ) async throws -> [NamedPartition: Offset] {
        func look(_ place: StartOffset) async throws -> [NamedPartition: Offset] {
            let places = Dictionary(uniqueKeysWithValues: partitions.map { ($0, place) })
            return try await admin.offsets(places, isolationLevel: level)
        }
        switch self {
        case .named(let place): return try await look(place)
        case .afterStart(let count):
            let ends = try await look(.latest)
            return try await look(.earliest).reduce(into: [:]) { places, start in
                places[start.key] = min(start.value + count, ends[start.key] ?? start.value)
            }
        case .beforeEnd(let count):
            let starts = try await look(.earliest)
            return try await look(.latest).reduce(into: [:]) { places, end in
                places[end.key] = max(end.value + -count, starts[end.key] ?? .zero)
            }
        }
    }
}

/// Times of day in UTC, without a calendar library.
enum WallTime {
    static func now() -> Timestamp {
        var time = timespec()
        // Safe: the call writes one timespec, which lives until it returns.
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    /// Reads `now`, `-2h`, milliseconds since 1970, or `2026-11-20[T14:29[:30[.250]]][Z]`.
    static func parse(_ text: String, now: Timestamp) -> Timestamp? {
        if text == "now" { return now }
        if text.hasPrefix("-") || text.hasPrefix("+") {
            guard let span = Span(argument: String(text.dropFirst())) else { return nil }
            return Timestamp(
                now.rawValue + (text.hasPrefix("-") ? -span.milliseconds : span.milliseconds)
            )
        }
        if let millis = Int64(text), millis >= 0, !text.contains("-") { return Timestamp(millis) }
        return date(text)
    }

    private static func date(_ text: String) -> Timestamp? {
        let parts = text.split(separator: "T", maxSplits: 1, omittingEmptySubsequences: false)
        let day = parts[0].split(separator: "-", omittingEmptySubsequences: false).map { Int64($0) }
        guard day.count == 3, let year = day[0], let month = day[1], let date = day[2],
            (1...12).contains(month), (1...31).contains(date), (1970...9999).contains(year)
        else { return nil }
        var millis = days(year, month, date) * 86_400_000
        if parts.count == 2 {
            var clock = parts[1]
            if clock.last == "Z" { clock.removeLast() }
            let fields = clock.split(separator: ":", omittingEmptySubsequences: false)
            guard (1...3).contains(fields.count) else { return nil }
            for (field, (limit, size)) in zip(
                fields,
                [(24.0, 3_600_000.0), (60, 60_000), (60, 1000)]
            ) {
                guard let number = Double(field), number >= 0, number < limit else { return nil }
                millis += Int64((number * size).rounded())
            }
        }
        return Timestamp(millis)
    }

    /// Days since 1970 of a date in the Gregorian calendar; years are counted from March so that the leap
    /// day comes last.
    private static func days(_ year: Int64, _ month: Int64, _ day: Int64) -> Int64 {
        let shifted = month > 2 ? year : year - 1
        let monthFromMarch = (month + 9) % 12
        let dayOfYear = (153 * monthFromMarch + 2) / 5 + day - 1
        return shifted * 365 + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
    }

    /// `2026-11-20T14:29:30.250Z`.
    static func iso(_ time: Timestamp) -> String {
        let millis = max(time.rawValue, 0)
        let dayNumber = millis / 86_400_000 + 719_468
        let era = dayNumber / 146_097
        let dayOfEra = dayNumber % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let second = millis / 1000 % 86_400
        return
            "\(pad(year, 4))-\(pad(month, 2))-\(pad(day, 2))T\(pad(second / 3600, 2)):\(pad(second / 60 % 60, 2)):"
            + "\(pad(second % 60, 2)).\(pad(millis % 1000, 3))Z"
    }

    private static func pad(_ number: Int64, _ width: Int) -> String {
        let digits = String(number)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }
}
