import FlotillaEnvironment
import FlotillaRaft

/// What may go wrong in one run, and how often; drawn anew for every seed, so that some runs are
/// nearly calm.
struct FaultPlan {
    /// Messages in a thousand that are lost.
    var lossPerMille = 0
    /// Messages in a thousand that arrive twice.
    var duplicatePerMille = 0
    /// The longest time a message travels, in tenths of a tick; short ones overtake long ones.
    var longestDelay = 3
    /// The longest time a disk takes, in tenths of a tick.
    var longestFlush = 3
    /// The longest time until a member hears of its finished write.
    var longestCompletion = 1
    /// In a thousand tenths of a tick: crashes, cuts of links, healing of all.
    var crashPerMille = 0
    var cutPerMille = 0
    var healPerMille = 20
    /// Whether nobody leads for long: patience is short, members campaign out of turn, and crash just
    /// when they have won, voted, or lost a suffix.
    var isRestless = false
    /// Whether a crash may damage a log, one member at a time.
    var damages = false
    /// Whether clients are at work.
    var works = true
    var changesMembership = false
    var transfers = false
    var trims = false
    var settings = Settings()

    /// Draws a plan.
    init(using random: inout SeededRandom) {
        func chance(_ percent: Int) -> Bool {
            Int.random(in: 0..<100, using: &random) < percent
        }
        func draw(_ range: ClosedRange<Int>) -> Int {
            Int.random(in: range, using: &random)
        }
        lossPerMille = chance(70) ? draw(0...300) : 0
        duplicatePerMille = chance(60) ? draw(0...200) : 0
        longestDelay = chance(70) ? draw(1...30) : 2
        longestFlush = chance(70) ? draw(1...30) : 2
        longestCompletion = chance(50) ? draw(1...20) : 1
        crashPerMille = chance(75) ? draw(1...12) : 0
        cutPerMille = chance(60) ? draw(1...20) : 0
        healPerMille = draw(5...40)
        damages = chance(20)
        changesMembership = !damages && chance(60)
        transfers = chance(50)
        trims = chance(50)
        isRestless = chance(40)
        settings.electionTimeoutTicks = draw(5...10)
        if isRestless {
            // Elections must be quick to be many.
            settings.electionTimeoutTicks = draw(2...4)
            lossPerMille /= 3
            longestDelay = draw(1...6)
            longestFlush = draw(1...15)
            crashPerMille = draw(0...6)
            cutPerMille = draw(5...30)
            healPerMille = draw(10...40)
        }
        settings.retransmitTicks = draw(2...5)
        settings.appendEntryLimit = draw(1...8)
        settings.appendByteLimit = draw(50...500)
        if isRestless {
            settings.appendEntryLimit = draw(1...2)
        }
        settings.windowByteLimit = draw(100...2000)
        settings.windowMessageLimit = draw(1...8)
        settings.recentEntryLimit = draw(1...40)
        settings.uncommittedByteLimit = draw(500...5000)
        settings.transferTimeoutTicks = draw(5...20)
        settings.promotionLag = UInt64(draw(0...10))
        settings.quietAfterTicks = chance(50) ? draw(1...15) : nil
        settings.minInSyncReplicas = draw(1...3)
    }

    /// Ends all faults; the members keep their settings.
    mutating func calm() {
        lossPerMille = 0
        duplicatePerMille = 0
        longestDelay = 3
        longestFlush = 3
        longestCompletion = 1
        crashPerMille = 0
        cutPerMille = 0
        isRestless = false
        damages = false
        works = false
        changesMembership = false
        transfers = false
        trims = false
    }
}
