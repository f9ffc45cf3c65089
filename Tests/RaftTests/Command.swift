import FlotillaModel
import FlotillaRaft

/// A line of a transcript: a name, words, and `key=value` pairs.
struct Command {
    let name: String
    private let words: [String]
    private let values: [(key: String, value: String)]

    init(_ line: String) {
        let parts = line.split(separator: " ").map(String.init)
        name = parts.first ?? ""
        var words: [String] = []
        var values: [(key: String, value: String)] = []
        for part in parts.dropFirst() {
            if let equals = part.firstIndex(of: "=") {
                values.append((String(part[..<equals]), String(part[part.index(after: equals)...])))
            } else {
                words.append(part)
            }
        }
        self.words = words
        self.values = values
    }

    func number(_ place: Int) -> Int? {
        place < words.count ? Int(words[place]) : nil
    }

    func member(_ place: Int) -> Int {
        guard let number = number(place) else {
            preconditionFailure("\(name) names a member")
        }
        return number
    }

    func value(_ key: String) -> String? {
        values.first { $0.key == key }?.value
    }

    func has(_ word: String) -> Bool {
        words.contains(word)
    }

    func members(_ key: String) -> [GroupMember] {
        (value(key) ?? "").split(separator: ",").compactMap { Int($0) }.map(ClusterHarness.id)
    }

    func link(_ place: Int) -> ClusterHarness.Link? {
        guard place < words.count else {
            return nil
        }
        let ends = words[place].split(separator: "→").compactMap { Int($0) }
        return ends.count == 2 ? ClusterHarness.Link(from: ends[0], to: ends[1]) : nil
    }

    /// Sets the settings that are named; unknown names are left to the commands that know them.
    func apply(to settings: inout Settings) {
        for (key, value) in values {
            guard let number = Int(value) else {
                continue
            }
            switch key {
            case "electionTimeoutTicks": settings.electionTimeoutTicks = number
            case "heartbeatTicks": settings.heartbeatTicks = number
            case "electionRank": settings.electionRank = number
            case "minInSyncReplicas": settings.minInSyncReplicas = number
            case "appendByteLimit": settings.appendByteLimit = number
            case "appendEntryLimit": settings.appendEntryLimit = number
            case "windowByteLimit": settings.windowByteLimit = number
            case "windowMessageLimit": settings.windowMessageLimit = number
            case "retransmitTicks": settings.retransmitTicks = number
            case "uncommittedByteLimit": settings.uncommittedByteLimit = number
            case "recentEntryLimit": settings.recentEntryLimit = number
            case "pendingReadLimit": settings.pendingReadLimit = number
            case "transferTimeoutTicks": settings.transferTimeoutTicks = number
            case "promotionLag": settings.promotionLag = UInt64(number)
            case "quietAfterTicks": settings.quietAfterTicks = number
            default: break
            }
        }
    }
}
