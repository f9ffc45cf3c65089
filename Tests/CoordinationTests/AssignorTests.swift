@testable import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import Testing

@Suite("Assignors, whichever is chosen")
struct AssignorTests {
    @Test("Members ask for them by these names")
    func names() {
        #expect(Assignor.allCases.map(\.rawValue) == ["uniform", "range"])
    }

    @Test("Nobody, nothing, and members that want nothing", arguments: Assignor.allCases)
    func empty(assignor: Assignor) {
        #expect(assignor.assign(AssignmentProblem(members: [], topics: [:])).isEmpty)
        let nobody = AssignmentProblem(wishes: [], partitionCounts: [3])
        #expect(assignor.assign(nobody).isEmpty)
        let nothing = AssignmentProblem(wishes: [[], [4]], partitionCounts: [3])
        #expect(assignor.assign(nothing) == ["m00": [], "m01": []])
        let noPartitions = AssignmentProblem(wishes: [[0]], partitionCounts: [0])
        #expect(assignor.assign(noPartitions) == ["m00": []])
    }

    @Test("A topic that nobody wants is given to nobody", arguments: Assignor.allCases)
    func unwanted(assignor: Assignor) {
        let problem = AssignmentProblem(wishes: [[0], [0], []], partitionCounts: [4, 4])
        let assignment = assignor.assign(problem)
        #expect(problem.flaw(of: assignment) == nil)
        #expect(loads(assignment) == [0, 2, 2])
    }

    @Test(
        "Each wanted partition goes to one member that wants it, whatever was before and in whatever order the members come",
        arguments: Assignor.allCases,
        0..<300 as Range<UInt64>
    )
    func complete(assignor: Assignor, seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(&random, same: seed % 3 == 0)
        problem.scatterPartitions(&random)
        let assignment = assignor.assign(problem)
        #expect(problem.flaw(of: assignment) == nil)

        problem.members.shuffle(using: &random)
        #expect(assignor.assign(problem) == assignment)
        problem.members.reverse()
        problem.topics = Dictionary(
            uniqueKeysWithValues: problem.topics.sorted { $0.key > $1.key }
        )
        #expect(assignor.assign(problem) == assignment)
    }
}

@Suite("The range assignor")
struct RangeAssignorTests {
    @Test("Ranges follow each other in the order of the ids, and the first are longer by one")
    func ranges() {
        let problem = AssignmentProblem(memberCount: 3, partitionCounts: [8])
        let assignment = Assignor.range.assign(problem)
        #expect(numbers(assignment, "m00", topic: 0) == [0, 1, 2])
        #expect(numbers(assignment, "m01", topic: 0) == [3, 4, 5])
        #expect(numbers(assignment, "m02", topic: 0) == [6, 7])
    }

    @Test("Where there are more members than partitions the last get none")
    func surplus() {
        let problem = AssignmentProblem(memberCount: 4, partitionCounts: [2])
        #expect(
            Assignor.range.assign(problem).mapValues(\.count) == [
                "m00": 1, "m01": 1, "m02": 0, "m03": 0,
            ]
        )
    }

    @Test("Static members stand first, by instance id, and keep their ranges under a new id")
    func staticMembers() {
        var problem = AssignmentProblem(memberCount: 3, partitionCounts: [6])
        problem.members[1].instanceID = "z"
        problem.members[2].instanceID = "y"
        let assignment = Assignor.range.assign(problem)
        #expect(numbers(assignment, "m02", topic: 0) == [0, 1])
        #expect(numbers(assignment, "m01", topic: 0) == [2, 3])
        #expect(numbers(assignment, "m00", topic: 0) == [4, 5])

        problem.members[2].id = "another"
        #expect(numbers(Assignor.range.assign(problem), "another", topic: 0) == [0, 1])
    }

    @Test(
        "Shares of a topic are contiguous, and topics of one shape are cut alike",
        arguments: 0..<100 as Range<UInt64>
    )
    func alike(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var problem = AssignmentProblem.random(
            &random,
            memberCount: 1...8,
            topicCount: 3...5,
            same: seed.isMultiple(of: 2)
        )
        // The second topic gets the shape and the takers of the first.
        problem.topics[.number(1)] = problem.topics[.number(0)]
        for number in problem.members.indices {
            problem.members[number].topics.remove(.number(1))
            if problem.members[number].topics.contains(.number(0)) {
                problem.members[number].topics.insert(.number(1))
            }
        }
        let assignment = Assignor.range.assign(problem)
        for member in problem.members {
            for topic in 0..<problem.topics.count {
                let numbers = numbers(assignment, member.id, topic: topic)
                guard let first = numbers.first else { continue }
                #expect(numbers == Array(first..<first + Int32(numbers.count)))
            }
            #expect(
                numbers(assignment, member.id, topic: 0)
                    == numbers(assignment, member.id, topic: 1)
            )
        }
    }

    private func numbers(
        _ assignment: [String: Set<TopicPartition>],
        _ member: String,
        topic: Int
    ) -> [Int32] {
        (assignment[member] ?? []).filter { $0.topic == .number(topic) }.map(\.partition).sorted()
    }
}
