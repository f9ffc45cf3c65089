@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

extension TopicID {
    /// A topic for tests.
    static func number(_ number: Int) -> TopicID {
        TopicID(high: 7, low: UInt64(number))
    }
}

extension AssignmentProblem {
    /// `m00`, `m01`, …, which want what `wishes` says by topic number, of topics with these many partitions.
    init(wishes: [Set<Int>], partitionCounts: [Int32]) {
        self.init(
            members: wishes.enumerated().map { number, wish in
                Member(id: Self.memberID(number), topics: Set(wish.map(TopicID.number)))
            },
            topics: Dictionary(
                uniqueKeysWithValues: partitionCounts.enumerated().map { number, count in
                    (TopicID.number(number), Topic(partitionCount: count))
                }
            )
        )
    }

    /// Members that all want everything.
    init(memberCount: Int, partitionCounts: [Int32]) {
        let wish = Set(partitionCounts.indices)
        self.init(
            wishes: Array(repeating: wish, count: memberCount),
            partitionCounts: partitionCounts
        )
    }

    static func memberID(_ number: Int) -> String {
        "m" + (number < 10 ? "0" : "") + String(number)
    }

    /// Members, wishes, topics and racks by chance; `same`: all want the same.
    static func random(
        _ random: inout SeededRandom,
        memberCount: ClosedRange<Int> = 0...9,
        topicCount: ClosedRange<Int> = 0...6,
        partitionCount: ClosedRange<Int32> = 0...9,
        same: Bool = false
    ) -> AssignmentProblem {
        let topicCount = Int.random(in: topicCount, using: &random)
        func wish() -> Set<Int> {
            // One more than there are: it does not exist.
            Set((0...topicCount).filter { _ in Int.random(in: 0..<5, using: &random) < 2 })
        }
        let common = Set(0..<topicCount)
        var problem = AssignmentProblem(
            wishes: (0..<Int.random(in: memberCount, using: &random)).map { _ in
                same ? common : wish()
            },
            partitionCounts: (0..<topicCount).map { _ in
                Int32.random(in: partitionCount, using: &random)
            }
        )
        if Bool.random(using: &random) {
            problem.scatterOverRacks(&random)
        }
        return problem
    }

    /// Gives members and replicas racks by chance.
    mutating func scatterOverRacks(_ random: inout SeededRandom) {
        let racks = ["a", "b", "c"]
        for number in members.indices {
            let rack = Int.random(in: 0...racks.count, using: &random)
            members[number].rack = rack < racks.count ? racks[rack] : nil
        }
        for id in topics.keys.sorted() {
            let count = topics[id]?.partitionCount ?? 0
            topics[id]?.racks = (0..<count).map { _ in
                Set(racks.filter { _ in Int.random(in: 0..<3, using: &random) == 0 })
            }
        }
    }

    /// Every member has what the assignment says, and no other member is there that had something.
    func with(current assignment: [String: Set<TopicPartition>]) -> AssignmentProblem {
        var problem = self
        for number in members.indices {
            problem.members[number].current = assignment[members[number].id] ?? []
        }
        return problem
    }

    /// Gives what there is to members by chance, wanted or not, a little of it to two.
    mutating func scatterPartitions(_ random: inout SeededRandom) {
        guard !members.isEmpty else { return }
        for (id, topic) in topics.sorted(by: { $0.key < $1.key }) {
            // One more than there are: the topic has become another one.
            for number in 0...topic.partitionCount {
                for _ in 0..<Int.random(in: 0..<20, using: &random) / 9 {
                    let member = Int.random(in: members.indices, using: &random)
                    let partition = TopicPartition(topic: id, partition: number)
                    members[member].current.insert(partition)
                }
            }
        }
    }

    /// Leaves what two have to the one with the lower id, and what nobody wants to nobody.
    mutating func dropDoubleClaims() {
        var free = wantedPartitions
        for number in members.indices {
            members[number].current.formIntersection(free)
            free.subtract(members[number].current)
        }
    }

    /// The partitions that somebody wants.
    var wantedPartitions: Set<TopicPartition> {
        let wanted = members.reduce(into: Set()) { $0.formUnion($1.topics) }
        var partitions: Set<TopicPartition> = []
        for (id, topic) in topics where wanted.contains(id) {
            for number in 0..<topic.partitionCount {
                partitions.insert(TopicPartition(topic: id, partition: number))
            }
        }
        return partitions
    }

    /// How many partitions stay where they are.
    func keptCount(_ assignment: [String: Set<TopicPartition>]) -> Int {
        members.reduce(0) { $0 + $1.current.intersection(assignment[$1.id] ?? []).count }
    }

    /// How many partitions have a replica in their member's rack.
    func nearCount(_ assignment: [String: Set<TopicPartition>]) -> Int {
        members.reduce(0) { sum, member in
            guard let rack = member.rack else { return sum }
            return sum
                + (assignment[member.id] ?? []).count { partition in
                    let racks = topics[partition.topic]?.racks ?? []
                    let number = Int(partition.partition)
                    return number < racks.count && racks[number].contains(rack)
                }
        }
    }

    /// What is wrong with an assignment, whichever assignor made it; nil if nothing is.
    func flaw(of assignment: [String: Set<TopicPartition>]) -> String? {
        guard Set(assignment.keys) == Set(members.map(\.id)) else {
            return "not every member has a share, or somebody else has"
        }
        var given: Set<TopicPartition> = []
        for member in members {
            for partition in assignment[member.id] ?? [] {
                guard member.topics.contains(partition.topic) else {
                    return "\(member.id) does not want \(partition)"
                }
                guard given.insert(partition).inserted else {
                    return "two members have \(partition)"
                }
            }
        }
        return given == wantedPartitions ? nil : "not all and only the wanted partitions are given"
    }
}

/// How many partitions each member has, in rising order.
func loads(_ assignment: [String: Set<TopicPartition>]) -> [Int] {
    assignment.values.map(\.count).sorted()
}
