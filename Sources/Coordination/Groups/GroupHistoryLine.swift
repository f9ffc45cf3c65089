import FlotillaEnvironment
package import FlotillaModel

/// An event of a group's history as tools are told of it: a word for programs, a sentence for people, and the facts in it.
package struct GroupHistoryLine: Hashable, Sendable {
    /// When it happened first.
    package var time: Timestamp
    /// When it happened last, if it did so several times in a row.
    package var lastTime: Timestamp
    /// How often.
    package var count: Int
    /// What happened, in a word.
    package var event: String
    /// The same in a sentence.
    package var text: String
    /// Names in it, by what they are.
    package var words: [String: String]
    /// Numbers in it, by what they are.
    package var numbers: [String: Int64]

    /// States an event.
    package init(_ event: GroupHistory.Event) {
        time = event.time
        lastTime = event.lastTime
        count = event.count
        self.event = event.kind.word
        text = event.kind.sentence
        words = event.kind.words
        numbers = event.kind.numbers
    }
}

extension GroupEvent {
    fileprivate var word: String {
        switch self {
        case .coordinated: "coordinated"
        case .resumed: "resumed"
        case .present, .morePresent: "present"
        case .joined: "joined"
        case .gone(_, .left): "left"
        case .gone(_, .removed): "removed"
        case .gone: "given_up"
        case .replaced: "replaced"
        case .away: "away"
        case .returned: "returned"
        case .fenced: "fenced"
        case .rebalanceBegan: "rebalance_began"
        case .rebalanceEnded: "rebalance_ended"
        case .emptied: "emptied"
        case .unwritten: "unwritten"
        case .commitsForgotten: "commits_forgotten"
        case .deleted: "deleted"
        }
    }

    /// What happened, in a sentence without a full stop.
    package var sentence: String {
        switch self {
        case .coordinated(let broker, let term):
            "broker \(broker) coordinates the group, in term \(term); what was before is not known here"
        case .resumed:
            "what was before has made room for other groups"
        case .present(let member): "member \(member.sentence) was there already"
        case .morePresent(let count): "so were \(count) more members"
        case .joined(let member): "member \(member.sentence) joined"
        case .gone(let id, let departure): "member \(id) \(departure.sentence)"
        case .replaced(let id, let member):
            "member \(member.sentence) took the place of \(id), which is fenced"
        case .away(let id): "member \(id) went away for a while and keeps its partitions"
        case .returned(let id): "member \(id) came back"
        case .fenced(let id, let code): "member \(id) was refused: \(code)"
        case .rebalanceBegan(let cause, let epoch):
            (epoch.map { "rebalance \($0)" } ?? "a rebalance") + " began: \(cause.sentence)"
        case .rebalanceEnded(let rebalance): rebalance.sentence
        case .emptied(let generation): "nobody is left, in generation \(generation)"
        case .unwritten(let code):
            "what was decided last did not come into the log (\(code)); the group is as it was before"
        case .commitsForgotten(let count, let why):
            "\(Self.counted(count, "committed offset")) forgotten: \(why.sentence)"
        case .deleted: "the group was deleted"
        }
    }

    fileprivate var words: [String: String] {
        switch self {
        case .present(let member), .joined(let member): member.words
        case .replaced(let id, let member):
            member.words.merging(["replaced": id]) { known, _ in known }
        case .gone(let id, let departure): ["member": id, "reason": departure.sentence]
        case .away(let id), .returned(let id): ["member": id]
        case .fenced(let id, let code): ["member": id, "reason": "\(code)"]
        case .rebalanceBegan(let cause, _): ["reason": cause.sentence]
        case .rebalanceEnded(let rebalance): ["strategy": rebalance.strategy]
        case .unwritten(let code): ["reason": "\(code)"]
        case .commitsForgotten(_, let why): ["reason": why.sentence]
        case .coordinated, .resumed, .morePresent, .emptied, .deleted: [:]
        }
    }

    fileprivate var numbers: [String: Int64] {
        switch self {
        case .coordinated(let broker, let term):
            return ["broker": Int64(broker.rawValue), "term": Int64(term.rawValue)]
        case .morePresent(let count): return ["members": Int64(count)]
        case .rebalanceBegan(_, let epoch): return epoch.map { ["generation": Int64($0)] } ?? [:]
        case .rebalanceEnded(let rebalance):
            var numbers = [
                "generation": Int64(rebalance.generation), "members": Int64(rebalance.memberCount),
            ]
            numbers["partitions"] = rebalance.partitionCount.map { Int64($0) }
            numbers["milliseconds"] = rebalance.duration.map { $0.wholeMilliseconds }
            return numbers
        case .emptied(let generation): return ["generation": Int64(generation)]
        case .commitsForgotten(let count, _): return ["offsets": Int64(count)]
        case .resumed, .present, .joined, .gone, .replaced, .away, .returned, .fenced, .unwritten,
            .deleted:
            return [:]
        }
    }

    fileprivate static func counted(_ count: Int, _ noun: String) -> String {
        "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
}

extension GroupEventMember {
    fileprivate var sentence: String {
        let name = instanceID.map { ", static name \($0)" } ?? ""
        return "\(id) (client \(clientID), \(clientHost)\(name))"
    }

    fileprivate var words: [String: String] {
        var words = ["member": id, "client": clientID, "host": clientHost]
        words["instance"] = instanceID
        return words
    }
}

extension GroupEvent.Departure {
    fileprivate var sentence: String {
        switch self {
        case .left: "left"
        case .removed: "was removed by its static name"
        case .silent: "was given up: it was silent for a whole session"
        case .absent: "was given up: it did not join again in time"
        case .unsynced: "was given up: it did not fetch its share in time"
        case .keeping: "was given up: it did not give partitions back in time"
        case .crowded: "was given up: the group is full"
        }
    }
}

extension GroupEvent.RebalanceCause {
    fileprivate var sentence: String {
        switch self {
        case .came(let ids): "\(ids.joined(separator: ", ")) came"
        case .went(let ids): "\(ids.joined(separator: ", ")) went"
        case .changed(let id): "\(id) changed its subscription"
        case .asked(let id): "\(id), which assigns, asked for it"
        case .topics(let names): "the topics changed: \(names.joined(separator: ", "))"
        case .racks: "replicas moved between racks"
        case .unwritten: "the last shares could not be written down"
        case .downgraded: "only members of the classic protocol are left"
        }
    }
}

extension GroupEvent.Forgetting {
    fileprivate var sentence: String {
        switch self {
        case .asked: "somebody deleted them"
        case .expired: "their time was over"
        case .topicsDeleted: "their topics were deleted"
        }
    }
}

extension Rebalance {
    fileprivate var sentence: String {
        let time = duration.map { " took \($0.hundredths) s" } ?? " ended"
        let members = GroupEvent.counted(memberCount, "member")
        let share = partitionCount.map { count in
            " \(memberCount == 1 ? "has" : "share") \(GroupEvent.counted(count, "partition"))"
        }
        let way = strategy.isEmpty ? "" : " by \(strategy)"
        return "rebalance \(generation)\(time): \(members)\(share ?? "")\(way)"
    }
}

extension Duration {
    /// Seconds with two digits behind the point.
    fileprivate var hundredths: String {
        let hundredths = (wholeMilliseconds + 5) / 10
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }
}
