@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaSimulation
import Testing

/// Groups whose coordinator goes away.
@Suite("Consumer groups of a cluster")
struct GroupFailoverTests {
    private let cluster: TestCluster

    init() throws {
        cluster = try TestCluster()
        try client(0).createTopic(replicas: 3)
    }

    private func client(_ place: Int) -> TestClient { cluster.connect(to: place) }

    /// Which broker coordinates, as one of them says.
    private func coordinator(asking place: Int) throws -> Int? {
        var found: Int?
        _ = try cluster.wait {
            let answer = try askForCoordinator(client(place), for: .milliseconds(600))
            found = answer.errorCode == 0 ? Int(answer.nodeId) - 1 : nil
            return found != nil
        }
        return found
    }

    /// Looks for the coordinator, and lets so much time pass for the answer.
    private func askForCoordinator(
        _ client: TestClient,
        for delay: Duration
    ) throws -> FindCoordinatorResponse.Coordinator {
        let request = FindCoordinatorRequest(coordinatorKeys: [TestClient.group])
        let id = try client.send(request, version: 6)
        cluster.advance(by: delay)
        let answer = try client.answer(to: FindCoordinatorRequest.self, version: 6, id: id)
        return try only(answer.coordinators)
    }

    @Test("all brokers name one coordinator; the others send members there")
    func agreement() throws {
        let places = try (0..<3).map { try coordinator(asking: $0) }
        #expect(Set(places).count == 1)
        let leader = try #require(places[0])
        let other = (leader + 1) % 3
        #expect(try client(other).heartbeat("one", 1) == .notCoordinator)
    }

    @Test("another coordinator knows members, generation and commits at once")
    func failover() throws {
        let first = try #require(try coordinator(asking: 0))
        let (member, generation) = try client(first).lead { cluster.advance(by: $0) }
        #expect(
            try client(first).commit(42, member: member, generation: generation) == .noError
        )
        cluster.kill(first)
        let alive = (first + 1) % 3
        var next: Int?
        _ = try cluster.wait {
            next = try coordinator(asking: alive)
            return next != first && next != nil
        }
        let second = try #require(next)
        #expect(second != first)
        #expect(
            try cluster.wait { try client(second).heartbeat(member, generation) == .noError }
        )
        #expect(try client(second).committed() == 42)
        #expect(try client(second).commit(43, member: member, generation: generation) == .noError)
    }

    @Test(
        "what was committed for a topic is nothing to the next one of its name, whoever coordinates"
    )
    func topicMadeAnew() throws {
        let first = try #require(try coordinator(asking: 0))
        #expect(try client(first).commit(1_000) == .noError)
        cluster.kill(first)
        let alive = (first + 1) % 3
        #expect(
            try cluster.wait {
                let answer = try client(alive).ask(
                    DeleteTopicsRequest(topics: [.init(name: TestClient.topic)], timeoutMs: 1_000),
                    version: 6
                )
                let code = ErrorCode(rawValue: try only(answer.responses).errorCode)
                return code == .noError || code == .unknownTopicOrPartition
            }
        )
        #expect(
            cluster.wait {
                _ = try? client(alive).createTopic()
                return cluster.image(at: alive).topic(named: TestClient.topic) != nil
            }
        )
        var next: Int?
        _ = try cluster.wait {
            next = try coordinator(asking: alive)
            return next != first && next != nil
        }
        let second = try #require(next)
        #expect(cluster.wait { (try? client(second).committed()) == -1 })
        #expect(try cluster.wait { try client(second).commit(1) == .noError })
        // Nor is it forgotten with the old one later.
        cluster.advance(by: .seconds(620))
        #expect(try client(second).committed() == 1)
    }

    @Test("who asks while nobody coordinates is told of the next coordinator, not of none")
    func askedDuringFailover() throws {
        let first = try #require(try coordinator(asking: 0))
        cluster.kill(first)
        let answer = try askForCoordinator(client((first + 1) % 3), for: .milliseconds(500))
        #expect(answer.errorCode == ErrorCode.noError.rawValue)
        #expect(Int(answer.nodeId) - 1 != first)
    }

    @Test("who asks where nobody can coordinate is told so in the end")
    func askedWithoutQuorum() throws {
        let first = try #require(try coordinator(asking: 0))
        cluster.kill(first)
        cluster.kill((first + 1) % 3)
        let answer = try askForCoordinator(client((first + 2) % 3), for: .milliseconds(500))
        #expect(answer.errorCode == ErrorCode.coordinatorNotAvailable.rawValue)
    }

    @Test("a coordinator that was cut off answers nothing from what it remembers")
    func cutOff() throws {
        let first = try #require(try coordinator(asking: 0))
        let client = client(first)
        #expect(try client.commit(1) == .noError)
        cluster.isolate(first)
        let id = try client.send(
            OffsetFetchRequest(groups: [
                .init(
                    groupId: TestClient.group,
                    topics: [.init(name: TestClient.topic, partitionIndexes: [0])]
                )
            ]),
            version: 9
        )
        cluster.advance(by: .seconds(5))
        let answer = try client.answer(to: OffsetFetchRequest.self, version: 9, id: id)
        #expect(try only(answer.groups).errorCode == ErrorCode.notCoordinator.rawValue)
    }
}
