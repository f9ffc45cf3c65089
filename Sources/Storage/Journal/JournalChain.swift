/// Puts the rounds of all files in their order and finds out what is missing.
///
/// The last round with a valid header tells the round before it, that one the next, and so on back
/// to the first round of the oldest file that is needed. What the chain passes over was cut after
/// an earlier crash; what it names and nobody can find is damage.
struct JournalChain {
    enum Link {
        case round(JournalSighting)
        /// A round whose header is gone; its successor tells its shape. Rounds before it may be
        /// gone as well.
        case missing(number: UInt64, successor: JournalSighting, predecessor: JournalSighting?)
    }

    /// Sealed rounds, and the last one if it is whole; ascending.
    private(set) var links: [Link] = []
    /// The last round, when it is not whole.
    private(set) var torn: JournalSighting?
    /// The last round with a valid header, whole or not; nil in a journal without rounds.
    private(set) var last: JournalSighting?
    /// The oldest generation that is needed.
    private(set) var oldestGeneration: UInt64 = 0

    /// Whether a round is missing.
    var isBroken: Bool {
        links.contains { link in
            switch link {
            case .round: false
            case .missing: true
            }
        }
    }

    /// Whether the round at `place` was the last one before a start, so that a crash may have cut
    /// its echo short.
    func isLastOfLife(_ place: Int) -> Bool {
        guard place + 1 < links.count else {
            return torn == nil || torn?.header.isOpening == true
        }
        switch links[place + 1] {
        case .round(let next): return next.header.isOpening
        case .missing: return false
        }
    }

    /// - Parameter sightings: of all files, in any order.
    init(_ sightings: [JournalSighting]) {
        let sightings = sightings.sorted { $0.header.number < $1.header.number }
        guard let newest = sightings.last else {
            return
        }
        last = newest
        if !newest.content.isWhole {
            torn = newest
        }
        // A torn round decides nothing, so what is needed is told by the one before it.
        let limit = torn == nil ? newest.header.number : newest.header.previousNumber
        oldestGeneration =
            sightings.last { $0.header.number <= limit }?.header.oldestGeneration ?? 0
        walk(back: sightings, from: newest)
        links.reverse()
    }

    private mutating func walk(back sightings: [JournalSighting], from newest: JournalSighting) {
        if torn == nil {
            links.append(.round(newest))
        }
        var current = newest
        var rest = sightings.dropLast()
        while !isFirst(current) {
            let expected = current.header.previousNumber
            while let candidate = rest.last, candidate.header.number > expected {
                rest.removeLast()
            }
            let candidate = rest.popLast().flatMap { isNeeded($0) ? $0 : nil }
            if let candidate, candidate.header.number == expected {
                links.append(.round(candidate))
                current = candidate
                continue
            }
            links.append(.missing(number: expected, successor: current, predecessor: candidate))
            guard let candidate else {
                return
            }
            links.append(.round(candidate))
            current = candidate
        }
    }

    private func isNeeded(_ sighting: JournalSighting) -> Bool {
        sighting.header.generation >= oldestGeneration
    }

    /// Whether nothing that is needed precedes the round: the journal's very first, or the head of
    /// the oldest file.
    private func isFirst(_ sighting: JournalSighting) -> Bool {
        let header = sighting.header
        return header.previousNumber == 0
            || header.generation <= oldestGeneration && header.isFileStart
    }
}
