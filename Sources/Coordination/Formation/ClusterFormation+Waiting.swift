import FlotillaEnvironment
import FlotillaModel

extension ClusterFormation {
    /// What the broker waits for, one sentence for each thing, in the order of the addresses; empty
    /// when it waits for nobody.
    package var waiting: [String] {
        guard outcome == nil, pending == nil else { return [] }
        switch state {
        case .empty: return silences + obstacles
        case .agreed(let list): return list.members.compactMap { obstacle($0, in: list) }
        case .joining(let clusterID):
            return silences + ["no broker of cluster \(clusterID) answers"]
        case .founded, .member: return silences
        }
    }

    private var silences: [String] {
        seeds.compactMap { seed in
            if let silence = seed.silence {
                "\(seed.address) does not answer (\(silence))"
            } else if seed.card == nil {
                "\(seed.address) has not answered yet"
            } else {
                nil
            }
        }
    }

    /// Why an empty broker waits although the seeds answer.
    private var obstacles: [String] {
        var sentences: [String] = []
        for (place, seed) in seeds.enumerated() {
            guard let card = seed.card else { continue }
            let earlier = seeds[..<place].first { $0.card?.broker == card.broker }
            if let earlier, let other = earlier.card {
                sentences.append(
                    other.isSameBroker(as: card)
                        ? "\(earlier.address) and \(seed.address) are the same broker"
                        : "the brokers at \(earlier.address) and \(seed.address) both have the id \(card.broker)"
                )
            } else if case .agreed = card.state {
                sentences.append("the broker at \(seed.address) is founding a cluster")
            } else if case .founded = card.state {
                sentences.append("the broker at \(seed.address) has no cluster id yet")
            }
        }
        guard sentences.isEmpty, silences.isEmpty else { return sentences }
        if let founders = completeFounders() {
            return ["broker \(founders.members[0].broker) has not begun yet"]
        }
        return ["this broker is none of those named, and they have not formed a cluster yet"]
    }

    private func obstacle(_ founder: FoundingMember, in list: FoundingList) -> String? {
        let place = founder.address.map { " at \($0)" } ?? ""
        switch standing(of: founder, in: list) {
        case .agreed, .replaced, .disagrees, .joins:
            return nil
        case .pledgedElsewhere:
            return "broker \(founder.broker)\(place) is founding a cluster with others"
        case .undecided:
            return "broker \(founder.broker)\(place) has not agreed yet"
        case .unknown:
            let seed = seeds.first { $0.address == founder.address }
            return "broker \(founder.broker)\(place) does not answer"
                + (seed?.silence.map { " (\($0))" } ?? "")
        }
    }
}
