@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

extension NetworkAddress {
    /// Where broker `number` listens to its peers.
    static func seed(_ number: Int32) -> NetworkAddress {
        seeds[Int(number)]
    }

    private static let seeds = (0..<10).map { NetworkAddress(host: "b\($0).example", port: 9192) }
}

extension JoinList {
    /// The list that names these brokers.
    static func seeds(_ numbers: Int32...) -> JoinList {
        JoinList(numbers.map { .seed($0) })
    }

    /// Made once: the exhaustive test needs it a million times.
    static let threeSeeds = seeds(1, 2, 3)
}

extension FoundingList {
    /// Brokers 1 to `count` in their first lives, or in the lives that are given.
    static func of(_ lives: [UInt64]) -> FoundingList {
        FoundingList(
            lives.enumerated().map { place, life in
                let number = Int32(place) + 1
                return FoundingMember(
                    broker: BrokerID(number),
                    incarnation: BrokerIncarnation(high: UInt64(number), low: life),
                    address: .seed(number)
                )
            }
        )
    }
}

extension FormationCard {
    /// Broker `number`, whose directory is in its `life`, told to join seeds 1 to 3.
    static func example(
        _ number: Int32,
        life: UInt64 = 1,
        run: UInt64 = 7,
        join: JoinList = .threeSeeds,
        state: FormationState = .empty
    ) -> FormationCard {
        FormationCard(
            broker: BrokerID(number),
            incarnation: BrokerIncarnation(high: UInt64(number), low: life),
            run: run,
            peerAddress: .seed(number),
            kafkaAddresses: [],
            rack: nil,
            join: join,
            state: state
        )
    }
}

extension FormationState {
    static func member(of clusterID: String, _ founders: FoundingList) -> FormationState {
        .member(ClusterMembership(clusterID: clusterID, epoch: founders.epoch, founders: founders))
    }
}

extension ClusterFormation {
    /// A formation that has started.
    static func started(_ own: FormationCard) -> ClusterFormation {
        var formation = ClusterFormation(own)
        _ = formation.step(.started)
        return formation
    }

    /// Feeds answers in their order, with every write durable at once; gives the states written.
    mutating func hear(_ answers: (Int32, FormationCard)...) -> [FormationState] {
        var written: [FormationState] = []
        for (number, card) in answers where outcome == nil {
            var effects = step(.answered(.seed(number), card))
            while case .persist(let state)? = effects.first {
                written.append(state)
                effects = step(.persisted)
            }
        }
        return written
    }

    var refusal: FormationRefusal? {
        if case .refuse(let refusal)? = outcome { refusal } else { nil }
    }
}
