import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import Testing

@Suite("Whether peers are there")
struct PeerMonitorTests {
    private static let own = BrokerIncarnation(high: 1, low: 1)
    private static let theirs = BrokerIncarnation(high: 2, low: 2)
    private static let reborn = BrokerIncarnation(high: 2, low: 3)
    private let two = BrokerID(2)
    private let three = BrokerID(3)

    /// A monitor with two peers, of which broker 2 is there, after the tick at 0.
    private func monitor() -> PeerMonitor {
        var monitor = PeerMonitor(incarnation: Self.own)
        _ = monitor.step(.peers([three, two]))
        #expect(monitor.step(.linkUp(two, Self.theirs)) == [.back(two)])
        _ = monitor.step(.tick(at(0)))
        return monitor
    }

    private func at(_ milliseconds: Int64) -> Instant {
        Instant(nanoseconds: milliseconds * 1_000_000)
    }

    private func beat(_ sequence: UInt64, _ incarnation: BrokerIncarnation = theirs) -> PeerBeat {
        PeerBeat(sequence: sequence, incarnation: incarnation)
    }

    /// The effects without the beats.
    private func news(_ effects: [PeerMonitor.Effect]) -> [PeerMonitor.Effect] {
        effects.filter { if case .beat = $0 { false } else { true } }
    }

    // MARK: Beats

    @Test("Every peer gets a beat every 100 ms, also one that is lost")
    func beats() {
        var monitor = PeerMonitor(incarnation: Self.own)
        _ = monitor.step(.peers([three, two, three]))
        var beats: [[PeerMonitor.Effect]] = []
        for time in stride(from: Int64(0), through: 1_000, by: 50) {
            let effects = monitor.step(.tick(at(time)))
            #expect(effects.isEmpty == (time % 100 != 0))
            beats.append(effects)
        }
        let all = beats.flatMap { $0 }
        #expect(all.count == 22)
        let last = beat(11, Self.own)
        #expect(all.suffix(2) == [.beat(last, to: two), .beat(last, to: three)])
    }

    @Test("Ticks that come late do not make the beats rarer, and a pause is not made up for")
    func lateTicks() {
        var monitor = PeerMonitor(incarnation: Self.own)
        _ = monitor.step(.peers([two]))
        let times: [Int64] = [0, 130, 205, 390, 400, 2_000, 2_001, 2_099, 2_100]
        let counts = times.map { monitor.step(.tick(at($0))).count }
        #expect(counts == [1, 1, 1, 1, 1, 1, 0, 0, 1])
    }

    @Test("A beat is answered with its sequence and the own incarnation, whoever sent it")
    func answers() {
        var monitor = monitor()
        let answer = beat(77, Self.own)
        #expect(monitor.step(.beat(beat(77), from: two)) == [.answer(answer, to: two)])
        let stranger = BrokerID(9)
        #expect(monitor.step(.beat(beat(77), from: stranger)) == [.answer(answer, to: stranger)])
        #expect(!monitor.isThere(stranger))
    }

    // MARK: Silence

    @Test("A peer is lost after 300 ms without any sign, once")
    func silence() {
        var monitor = monitor()
        var lostAt: [Int64] = []
        for time in stride(from: Int64(10), through: 1_000, by: 10)
        where news(monitor.step(.tick(at(time)))) == [.lost(two)] {
            lostAt.append(time)
        }
        #expect(lostAt == [300])
        #expect(!monitor.isThere(two))
    }

    @Test("Any sign keeps a peer, and brings a silent one back")
    func signs() {
        let inputs: [PeerMonitor.Input] = [
            .received(from: two), .beat(beat(5), from: two), .beatAnswer(beat(1), from: two),
            .linkUp(two, Self.theirs), .linkUp(two, nil),
        ]
        for input in inputs {
            var monitor = monitor()
            for time in stride(from: Int64(100), through: 900, by: 100) {
                #expect(news(monitor.step(.tick(at(time)))).isEmpty, "\(input)")
                #expect(!monitor.step(input).contains(.back(two)))
            }
            // The tick at 1000 notes the last sign.
            let later = [1_000, 1_100, 1_200, 1_300].map { news(monitor.step(.tick(at($0)))) }
            #expect(later == [[], [], [], [.lost(two)]], "\(input)")
            #expect(monitor.step(input).first == .back(two), "\(input)")
            #expect(monitor.isThere(two))
            #expect(news(monitor.step(.tick(at(1_400)))).isEmpty)
        }
    }

    @Test("A peer that was never heard of is not lost")
    func unheard() {
        var monitor = monitor()
        for time in stride(from: Int64(100), through: 2_000, by: 100) {
            #expect(!monitor.step(.tick(at(time))).contains(.lost(three)))
        }
        #expect(monitor.step(.received(from: three)) == [.back(three)])
    }

    @Test("A shard that stood still does not blame its peers")
    func ownPause() {
        var monitor = monitor()
        #expect(news(monitor.step(.tick(at(100)))).isEmpty)
        // 5 s later: what the peer sent meanwhile is not read yet.
        #expect(news(monitor.step(.tick(at(5_100)))).isEmpty)
        #expect(news(monitor.step(.tick(at(5_190)))).isEmpty)
        // Only the time in which it could have been heard counts: 100 + 100 + 100.
        #expect(news(monitor.step(.tick(at(5_200)))) == [.lost(two)])
    }

    // MARK: Connections

    @Test("The end of a connection is a loss at once, once for all of them")
    func linkDown() {
        var monitor = monitor()
        #expect(monitor.step(.linkDown(two)) == [.lost(two)])
        #expect(monitor.step(.linkDown(two)).isEmpty)
        #expect(monitor.step(.linkDown(three)).isEmpty)
        #expect(monitor.step(.linkDown(BrokerID(9))).isEmpty)
    }

    @Test("What is left over from before the end of a connection brings nobody back")
    func leftovers() {
        var monitor = monitor()
        _ = monitor.step(.tick(at(100)))
        _ = monitor.step(.linkDown(two))
        #expect(monitor.step(.received(from: two)).isEmpty)
        #expect(monitor.step(.beatAnswer(beat(2), from: two)).isEmpty)
        #expect(!monitor.step(.beat(beat(8), from: two)).contains(.back(two)))
        #expect(!monitor.isThere(two))
        // The next beat is the third.
        _ = monitor.step(.tick(at(200)))
        #expect(monitor.step(.beatAnswer(beat(3), from: two)) == [.back(two)])
        #expect(monitor.isThere(two))
    }

    @Test("A new connection brings a peer back at once")
    func linkUp() {
        var monitor = monitor()
        _ = monitor.step(.linkDown(two))
        #expect(monitor.step(.linkUp(two, Self.theirs)) == [.back(two)])
        #expect(monitor.step(.linkUp(two, Self.theirs)).isEmpty)
    }

    // MARK: Incarnations

    @Test("Another incarnation is told between loss and return, however it shows")
    func rebirth() {
        let inputs: [PeerMonitor.Input] = [
            .linkUp(two, Self.reborn), .beat(beat(1, Self.reborn), from: two),
            .beatAnswer(beat(1, Self.reborn), from: two),
        ]
        for input in inputs {
            var monitor = monitor()
            let effects = monitor.step(input).prefix(3)
            #expect(effects == [.lost(two), .reborn(two), .back(two)])
            #expect(monitor.incarnation(of: two) == Self.reborn)

            var cut = self.monitor()
            _ = cut.step(.linkDown(two))
            #expect(cut.step(input).prefix(2) == [.reborn(two), .back(two)])
            #expect(!cut.step(input).contains(.reborn(two)))
        }
    }

    @Test("The same incarnation after a restart is only back")
    func restart() {
        var monitor = monitor()
        _ = monitor.step(.linkDown(two))
        let effects = monitor.step(.linkUp(two, Self.theirs))
        #expect(effects == [.back(two)])
        #expect(monitor.incarnation(of: two) == Self.theirs)
        #expect(monitor.incarnation(of: three) == nil)
    }

    // MARK: Peers

    @Test("A peer that is taken from the list is lost, and the others stay as they are")
    func leaving() {
        var monitor = monitor()
        _ = monitor.step(.received(from: three))
        #expect(monitor.present == [two, three])
        let four = BrokerID(4)
        #expect(monitor.step(.peers([four, three])) == [.lost(two)])
        #expect(monitor.present == [three])
        #expect(monitor.step(.received(from: two)).isEmpty)
        #expect(monitor.step(.received(from: four)) == [.back(four)])
        #expect(monitor.step(.peers([three, four])).isEmpty)
        #expect(monitor.present == [three, four])
    }

    @Test("Among many peers each is found")
    func manyPeers() {
        for count in 0..<20 as Range<Int32> {
            var monitor = PeerMonitor(incarnation: Self.own)
            let brokers = (0..<count).map { BrokerID($0 * 2 + 1) }
            _ = monitor.step(.peers(brokers.reversed()))
            for broker in brokers {
                #expect(monitor.step(.received(from: broker)) == [.back(broker)])
            }
            for stranger in 0...count {
                #expect(monitor.step(.received(from: BrokerID(stranger * 2))).isEmpty)
            }
            #expect(monitor.present == brokers)
        }
    }

    @Test("Equal inputs give equal effects", arguments: 0..<20 as Range<UInt64>)
    func determinism(seed: UInt64) {
        #expect(Self.story(seed: seed) == Self.story(seed: seed))
    }

    @Test("Losses and returns take turns, whatever happens", arguments: 0..<40 as Range<UInt64>)
    func turns(seed: UInt64) {
        var there: Set<BrokerID> = []
        for effect in Self.story(seed: seed) {
            switch effect {
            case .lost(let broker): #expect(there.remove(broker) != nil)
            case .back(let broker): #expect(there.insert(broker).inserted)
            case .reborn(let broker): #expect(!there.contains(broker))
            case .beat, .answer: break
            }
        }
    }

    /// The effects of a thousand inputs made by chance.
    private static func story(seed: UInt64) -> [PeerMonitor.Effect] {
        var random = SeededRandom(seed: seed)
        var monitor = PeerMonitor(incarnation: own)
        var now = Instant.start
        var effects: [PeerMonitor.Effect] = []
        for _ in 0..<1_000 {
            let broker = BrokerID(Int32.random(in: 1...4, using: &random))
            let shown = Int.random(in: 0..<8, using: &random) == 0 ? reborn : theirs
            let beat = PeerBeat(
                sequence: UInt64.random(in: 0..<100, using: &random),
                incarnation: shown
            )
            now = now + .milliseconds(Int64.random(in: 0...150, using: &random))
            let inputs: [PeerMonitor.Input] = [
                .tick(now), .tick(now), .received(from: broker), .beat(beat, from: broker),
                .beatAnswer(beat, from: broker), .linkUp(broker, shown), .linkUp(broker, nil),
                .linkDown(broker), .linkDown(broker),
                .peers([1, 2, 3].map { BrokerID(Int32($0)) } + [broker]),
            ]
            effects += monitor.step(inputs[Int.random(in: 0..<inputs.count, using: &random)])
        }
        return effects
    }
}
