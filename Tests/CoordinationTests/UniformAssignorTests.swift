@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("The uniform assignor")
struct UniformAssignorTests {
    @Test("Of members that want the same none has two partitions more than another")
    func even() {
        let problem = AssignmentProblem(memberCount: 3, partitionCounts: [1, 2, 5])
        #expect(loads(Assignor.uniform.assign(problem)) == [2, 3, 3])
    }

    @Test("A member that joins takes its share from the others, and nothing else moves")
    func join() {
        var problem = AssignmentProblem(memberCount: 4, partitionCounts: [7, 13])
        problem = problem.with(current: Assignor.uniform.assign(problem))
        problem.members.append(.init(id: "a newcomer", topics: problem.members[0].topics))
        let assignment = Assignor.uniform.assign(problem)
        #expect(loads(assignment) == [4, 4, 4, 4, 4])
        #expect(problem.keptCount(assignment) == 16)
    }

    @Test("A member that leaves gives its share to the others, and nothing else moves")
    func leave() {
        var problem = AssignmentProblem(memberCount: 5, partitionCounts: [7, 13])
        problem = problem.with(current: Assignor.uniform.assign(problem))
        problem.members.remove(at: 2)
        let assignment = Assignor.uniform.assign(problem)
        #expect(loads(assignment) == [5, 5, 5, 5])
        #expect(problem.keptCount(assignment) == 16)
    }

    @Test("Who may have one more is who has it already, and who has too much gives first")
    func oneMore() {
        var problem = AssignmentProblem(memberCount: 3, partitionCounts: [7])
        problem.members[1].current = Set(partitions(0..<4))
        problem.members[2].current = Set(partitions(4..<6))
        let assignment = Assignor.uniform.assign(problem)
        #expect(assignment.mapValues(\.count) == ["m00": 2, "m01": 3, "m02": 2])
        #expect(problem.keptCount(assignment) == 5)

        problem = AssignmentProblem(memberCount: 3, partitionCounts: [8])
        problem.members[0].current = Set(partitions(0..<3))
        problem.members[1].current = Set(partitions(3..<8))
        #expect(problem.keptCount(Assignor.uniform.assign(problem)) == 6)
    }

    @Test("Partitions that a topic gained are filled in, and nothing moves")
    func growth() {
        var problem = AssignmentProblem(memberCount: 3, partitionCounts: [6])
        problem = problem.with(current: Assignor.uniform.assign(problem))
        problem.topics[.number(0)]?.partitionCount = 9
        let assignment = Assignor.uniform.assign(problem)
        #expect(loads(assignment) == [3, 3, 3])
        #expect(problem.keptCount(assignment) == 6)
    }

    @Test("What nobody may keep is given anew: gone partitions, topics not wanted any more")
    func stale() {
        var problem = AssignmentProblem(wishes: [[0], [1]], partitionCounts: [2, 2])
        let all = (0..<2).flatMap { topic in partitions(0..<5, topic: topic) }
        problem.members[0].current = Set(all)
        problem.members[1].current = Set(all)
        #expect(
            Assignor.uniform.assign(problem) == [
                "m00": Set(partitions(0..<2)), "m01": Set(partitions(0..<2, topic: 1)),
            ]
        )
    }

    @Test("A chain of members passes partitions on")
    func chain() {
        // The first has too many, and only the last, which wants nothing of it, too few.
        var problem = AssignmentProblem(
            wishes: [[0, 1], [1, 2], [2, 3], [3]],
            partitionCounts: [2, 2, 2, 2]
        )
        problem.members[0].current = Set(partitions(0..<2) + partitions(0..<2, topic: 1))
        problem.members[1].current = Set(partitions(0..<2, topic: 2))
        problem.members[2].current = Set(partitions(0..<2, topic: 3))
        let assignment = Assignor.uniform.assign(problem)
        #expect(problem.flaw(of: assignment) == nil)
        #expect(loads(assignment) == [2, 2, 2, 2])
        #expect(problem.keptCount(assignment) == 2)
    }

    @Test(
        "Of members that want the same as many partitions stay as balance allows",
        arguments: 0..<300 as Range<UInt64>
    )
    func fewestMoves(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(
            &random,
            memberCount: 1...12,
            topicCount: 1...4,
            same: true
        )
        problem.scatterPartitions(&random)
        problem.dropDoubleClaims()
        let wanted = problem.wantedPartitions
        let assignment = Assignor.uniform.assign(problem)
        let (share, rest) = wanted.count.quotientAndRemainder(
            dividingBy: problem.members.count
        )
        let had = problem.members.map(\.current.count).sorted(by: >)
        let most = had.enumerated().reduce(0) { sum, item in
            sum + min(item.element, share + (item.offset < rest ? 1 : 0))
        }
        #expect(problem.keptCount(assignment) == most)
        let loads = loads(assignment)
        #expect((loads.last ?? 0) - (loads.first ?? 0) <= 1)
    }

    @Test(
        "What is balanced stays as it is, whatever the members want",
        arguments: 0..<200 as Range<UInt64>
    )
    func fixedPoint(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(&random, same: seed % 4 == 0)
        problem.scatterPartitions(&random)
        let assignment = Assignor.uniform.assign(problem)
        problem = problem.with(current: assignment)
        #expect(Assignor.uniform.assign(problem) == assignment)
        // Not even for the sake of racks.
        problem.scatterOverRacks(&random)
        #expect(Assignor.uniform.assign(problem) == assignment)
    }

    @Test(
        "Whatever the members want and have, no assignment is more even",
        arguments: 0..<400 as Range<UInt64>
    )
    func bestBalance(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(
            &random,
            memberCount: 1...4,
            topicCount: 1...4,
            partitionCount: 0...2
        )
        problem.scatterPartitions(&random)
        let assignment = Assignor.uniform.assign(problem)
        #expect(problem.flaw(of: assignment) == nil)
        #expect(loads(assignment) == Self.mostEvenLoads(problem))
    }

    @Test(
        "In larger groups no chain leads to a member with two partitions less",
        arguments: 0..<60 as Range<UInt64>
    )
    func noChain(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(
            &random,
            memberCount: 20...60,
            topicCount: 10...30,
            partitionCount: 0...40
        )
        if seed.isMultiple(of: 2) {
            problem.scatterPartitions(&random)
        }
        let assignment = Assignor.uniform.assign(problem)
        #expect(problem.flaw(of: assignment) == nil)
        for member in problem.members {
            let load = assignment[member.id]?.count ?? 0
            let lowest = Self.reached(from: member.id, problem, assignment)
                .map { assignment[$0]?.count ?? 0 }.min()
            #expect((lowest ?? 0) >= load - 1)
        }
    }
}

// MARK: - Racks

extension UniformAssignorTests {
    @Test("Partitions go to members near their replicas, also by an exchange of topics")
    func near() {
        var problem = AssignmentProblem(memberCount: 2, partitionCounts: [1, 1])
        problem.members[0].rack = "a"
        problem.members[1].rack = "b"
        problem.topics[.number(0)]?.racks = [["b"]]
        problem.topics[.number(1)]?.racks = [["a"]]
        #expect(
            Assignor.uniform.assign(problem) == [
                "m00": Set(partitions(0..<1, topic: 1)), "m01": Set(partitions(0..<1)),
            ]
        )
    }

    @Test("All partitions are near where each rack has as many replicas as members")
    func allNear() {
        let racks = ["a", "b", "c"]
        var problem = AssignmentProblem(memberCount: 6, partitionCounts: [12, 12])
        for number in problem.members.indices {
            problem.members[number].rack = racks[number % 3]
        }
        for topic in 0..<2 {
            problem.topics[.number(topic)]?.racks = (0..<12).map { [racks[($0 / 2 + topic) % 3]] }
        }
        let assignment = Assignor.uniform.assign(problem)
        #expect(loads(assignment) == [4, 4, 4, 4, 4, 4])
        #expect(problem.nearCount(assignment) == 24)
    }

    @Test("Balance goes before racks, and staying goes before racks")
    func preferences() {
        var problem = AssignmentProblem(memberCount: 2, partitionCounts: [4])
        problem.members[0].rack = "a"
        problem.members[1].rack = "b"
        problem.topics[.number(0)]?.racks = [["a"], ["a"], ["a"], ["a"]]
        #expect(loads(Assignor.uniform.assign(problem)) == [2, 2])

        problem.topics[.number(0)]?.racks = [["a"], ["a"], ["b"], ["b"]]
        problem.members[0].current = Set(partitions(2..<4))
        problem.members[1].current = Set(partitions(0..<2))
        let assignment = Assignor.uniform.assign(problem)
        #expect(problem.keptCount(assignment) == 4)
        #expect(problem.nearCount(assignment) == 0)
    }

    @Test("Who has too many keeps those that are near")
    func keepsNear() {
        var problem = AssignmentProblem(memberCount: 2, partitionCounts: [4])
        problem.members[0].rack = "a"
        problem.members[0].current = Set(partitions(0..<4))
        problem.topics[.number(0)]?.racks = [[], ["a"], ["b"], ["c", "a"]]
        #expect(Assignor.uniform.assign(problem)["m00"] == Set(partitions([1, 3])))
    }

    @Test(
        "Racks change nobody's load and move nothing more",
        arguments: 0..<100 as Range<UInt64>
    )
    func racksAndLoads(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(
            &random,
            memberCount: 2...12,
            topicCount: 1...6,
            same: seed.isMultiple(of: 2)
        )
        problem.scatterPartitions(&random)
        problem.dropDoubleClaims()
        problem.scatterOverRacks(&random)
        var blind = problem
        for number in blind.members.indices {
            blind.members[number].rack = nil
        }
        let assignment = Assignor.uniform.assign(problem)
        let blindAssignment = Assignor.uniform.assign(blind)
        #expect(assignment.mapValues(\.count) == blindAssignment.mapValues(\.count))
        #expect(problem.keptCount(assignment) == problem.keptCount(blindAssignment))
    }
}

// MARK: - Models

extension UniformAssignorTests {
    private func partitions(_ numbers: some Sequence<Int32>, topic: Int = 0) -> [TopicPartition] {
        numbers.map { TopicPartition(topic: .number(topic), partition: $0) }
    }

    /// The loads with the smallest sum of squares, found by trying everything.
    private static func mostEvenLoads(_ problem: AssignmentProblem) -> [Int] {
        let takers = problem.wantedPartitions.map { partition in
            problem.members.indices.filter {
                problem.members[$0].topics.contains(partition.topic)
            }
        }
        var best: (squares: Int, loads: [Int])?
        func tryAll(_ place: Int, _ loads: [Int]) {
            guard place < takers.count else {
                let squares = loads.reduce(0) { $0 + $1 * $1 }
                if squares < best?.squares ?? .max {
                    best = (squares, loads)
                }
                return
            }
            for taker in takers[place] {
                var loads = loads
                loads[taker] += 1
                tryAll(place + 1, loads)
            }
        }
        tryAll(0, Array(repeating: 0, count: problem.members.count))
        return (best?.loads ?? []).sorted()
    }

    /// The members to which a chain of gifts leads.
    private static func reached(
        from giver: String,
        _ problem: AssignmentProblem,
        _ assignment: [String: Set<TopicPartition>]
    ) -> Set<String> {
        var reached: Set<String> = [giver]
        var waiting = [giver]
        while let member = waiting.popLast() {
            let topics = Set((assignment[member] ?? []).map(\.topic))
            for taker in problem.members where !taker.topics.isDisjoint(with: topics) {
                if reached.insert(taker.id).inserted {
                    waiting.append(taker.id)
                }
            }
        }
        return reached
    }
}
