import Testing

@testable import FlotillaClient

@Suite("How a classic group divides partitions")
struct AssignorTests {
    private func member(
        _ id: String,
        _ topics: Set<String>,
        owned: [NamedPartition] = [],
        generation: Int32 = -1,
        instanceID: String? = nil
    ) -> Assignor.Member {
        Assignor.Member(
            id: id,
            instanceID: instanceID,
            topics: topics,
            owned: owned,
            generation: generation
        )
    }

    private func partitions(_ topic: String, _ indexes: Int32...) -> [NamedPartition] {
        indexes.map { NamedPartition(topic: topic, index: $0) }
    }

    @Test("Range gives neighbours, the first members get one more, and topics line up")
    func range() {
        let members = [member("b", ["s", "t"]), member("a", ["s", "t"]), member("c", ["t"])]
        let shares = Assignor.range.assign(members, partitionCounts: ["s": 3, "t": 4, "u": 2])
        #expect(shares["a"] == partitions("s", 0, 1) + partitions("t", 0, 1))
        #expect(shares["b"] == partitions("s", 2) + partitions("t", 2))
        #expect(shares["c"] == partitions("t", 3))
    }

    @Test("Range serves static members first, by their names, and leaves nobody out")
    func rangeOrder() {
        let members = [
            member("z", ["t"], instanceID: "1"), member("a", ["t"]),
            member("y", ["t"], instanceID: "2"),
            member("b", ["missing"]),
        ]
        let shares = Assignor.range.assign(members, partitionCounts: ["t": 2])
        #expect(shares == ["z": partitions("t", 0), "y": partitions("t", 1), "a": [], "b": []])
    }

    @Test("Sticky divides evenly what nobody has")
    func stickyFresh() {
        let members = ["a", "b", "c"].map { member($0, ["t"]) }
        let shares = Assignor.cooperativeSticky.assign(members, partitionCounts: ["t": 7])
        #expect(shares.values.map(\.count).sorted() == [2, 2, 3])
        #expect(Set(shares.values.joined()).count == 7)
    }

    @Test("A partition that moves is given to nobody until its owner has given it up")
    func handover() {
        let first = member("a", ["t"], owned: partitions("t", 0, 1, 2, 3), generation: 1)
        let shares = Assignor.cooperativeSticky.assign(
            [first, member("b", ["t"])],
            partitionCounts: ["t": 4]
        )
        #expect(shares["a"]?.count == 2 && shares["b"] == [])
        let again = Assignor.cooperativeSticky.assign(
            [
                member("a", ["t"], owned: shares["a"] ?? [], generation: 2),
                member("b", ["t"], generation: 2),
            ],
            partitionCounts: ["t": 4]
        )
        #expect(again["a"] == shares["a"] && again["b"]?.count == 2)
    }

    @Test("Of two claims the newer generation's holds; of two in one generation none does")
    func claims() {
        let old = member("a", ["t"], owned: partitions("t", 0, 1), generation: 3)
        let new = member("b", ["t"], owned: partitions("t", 0), generation: 4)
        var shares = Assignor.cooperativeSticky.assign([old, new], partitionCounts: ["t": 2])
        #expect(shares == ["a": partitions("t", 1), "b": partitions("t", 0)])
        let equal = member("b", ["t"], owned: partitions("t", 0), generation: 3)
        shares = Assignor.cooperativeSticky.assign([old, equal], partitionCounts: ["t": 2])
        #expect(shares["a"]?.contains(NamedPartition(topic: "t", index: 1)) == true)
        #expect(Set(shares.values.joined()).count == 2)
    }

    @Test("A chain of members evens out what no two of them could")
    func chain() {
        // a has three of s; only b reads s too, and only c reads u beside b.
        let members = [
            member("a", ["s"], owned: partitions("s", 0, 1, 2), generation: 1),
            member("b", ["s", "u"], owned: partitions("u", 0, 1), generation: 1),
            member("c", ["u"], owned: partitions("u", 2), generation: 1),
        ]
        let shares = StickyAssignment(members, ["s": 3, "u": 3]).shares
        #expect(shares.values.map(\.count) == [2, 2, 2])
    }

    /// A group that has lived: members with shares of several generations, some of them claimed twice.
    private func lived(
        _ random: inout SplitMix,
        topics: [String: Int32],
        hasEqualSubscriptions: Bool
    ) -> [Assignor.Member] {
        let all = topics.flatMap { topic in
            (0..<topic.value).map { NamedPartition(topic: topic.key, index: $0) }
        }.sorted()
        return (0..<Int.random(in: 1...9, using: &random)).map { number in
            let some = topics.keys.sorted().filter { _ in Bool.random(using: &random) }
            let subscribed = hasEqualSubscriptions ? Set(topics.keys) : Set(some)
            return member(
                "m\(number)",
                subscribed,
                owned: all.filter { _ in Int.random(in: 0..<6, using: &random) == 0 },
                generation: Int32.random(in: 1...3, using: &random)
            )
        }
    }

    /// A small generator, so that a seed gives the same group again.
    private struct SplitMix: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
            return mixed ^ (mixed >> 31)
        }
    }

    @Test(
        "Whatever a group has been through: each partition has one reader, and the shares are even"
    )
    func properties() {
        for seed in 0..<400 {
            var random = SplitMix(state: UInt64(seed))
            let topics = Dictionary(
                uniqueKeysWithValues: ["s", "t", "u"].map {
                    ($0, Int32.random(in: 1...8, using: &random))
                }
            )
            let isEqual = seed % 2 == 0
            let members = lived(&random, topics: topics, hasEqualSubscriptions: isEqual)
            let division = StickyAssignment(members, topics)
            for shares in [division.shares, RangeAssignment(members, topics).shares] {
                let given = shares.values.joined()
                let wanted = topics.filter { topic in
                    members.contains { $0.topics.contains(topic.key) }
                }
                #expect(Set(given).count == given.count, "seed \(seed)")
                #expect(given.count == Int(wanted.values.reduce(0, +)), "seed \(seed)")
                for member in members {
                    let topics = Set(shares[member.id, default: []].map(\.topic))
                    #expect(topics.isSubset(of: member.topics), "seed \(seed)")
                }
            }
            let sizes = members.map { division.shares[$0.id]?.count ?? 0 }
            if isEqual { #expect((sizes.max() ?? 0) - (sizes.min() ?? 0) <= 1, "seed \(seed)") }
            settle(members, topics, seed)
        }
    }

    /// Members follow what they are told: after two generations nothing moves any more, and nobody waits.
    private func settle(_ members: [Assignor.Member], _ topics: [String: Int32], _ seed: Int) {
        var members = members
        var shares: [String: [NamedPartition]] = [:]
        for generation in Int32(4)...6 {
            shares = Assignor.cooperativeSticky.assign(members, partitionCounts: topics)
            members = members.map { member in
                var next = member
                next.owned = shares[member.id] ?? []
                next.generation = generation
                return next
            }
        }
        let again = Assignor.cooperativeSticky.assign(members, partitionCounts: topics)
        #expect(again == shares, "seed \(seed)")
        #expect(shares == StickyAssignment(members, topics).shares, "seed \(seed)")
    }
}
