import FlotillaEnvironment
import FlotillaServer
import FoundationEssentials
import NIOPosix
import ServiceLifecycle
import Synchronization
import Testing

@Suite("Health and metrics over HTTP", .serialized)
struct AdminServerTests {
    private final class State: Sendable {
        let missing = Mutex<[String]>(["recovering 3 of 7 partitions", "no listener"])
        let startup = Mutex(HealthChecks.Startup.starting("recovering 3 of 7 partitions"))
    }

    private func get(_ path: String, port: Int) throws -> (status: String, body: String) {
        let client = try RawClient(port: port)
        try client.send(Array("GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".utf8))
        let answer = String(decoding: try client.receive(1 << 20), as: UTF8.self)
        let status = answer.split(separator: " ").dropFirst().first.map { String($0) } ?? ""
        var lines = answer.split(separator: "\r\n", omittingEmptySubsequences: false)
        while let line = lines.first {
            lines.removeFirst()
            if line.isEmpty {
                break
            }
        }
        return (status, lines.joined(separator: "\r\n"))
    }

    @Test("Probes follow the broker's state, and metrics are served")
    func probes() async throws {
        let state = State()
        let metrics = MetricsRegistry()
        metrics.counter("flotilla_starts_total", "Starts.").add()
        let (ports, told) = AsyncStream<Int>.makeStream()
        let server = AdminServer(
            address: NetworkAddress(host: "127.0.0.1", port: 0),
            group: MultiThreadedEventLoopGroup.singleton,
            health: HealthChecks(
                readiness: { state.missing.withLock { $0 } },
                startup: { state.startup.withLock { $0 } }
            ),
            metrics: metrics,
            logger: LogFactory(
                format: .logfmt,
                control: LogControl(LogLevels("critical") ?? LogLevels())
            ).logger("http"),
            running: { address in told.yield(address.port) }
        )
        let trigger = Task { try await server.run() }
        var iterator = ports.makeAsyncIterator()
        let port = try #require(await iterator.next())
        #expect(try get("/livez", port: port) == ("200", "alive\n"))
        #expect(
            try get("/readyz", port: port) == ("503", "recovering 3 of 7 partitions\nno listener\n")
        )
        #expect(try get("/startupz", port: port) == ("503", "recovering 3 of 7 partitions\n"))
        state.missing.withLock { $0 = [] }
        state.startup.withLock { $0 = .started }
        #expect(try get("/readyz", port: port) == ("200", "ready\n"))
        #expect(try get("/startupz", port: port) == ("200", "started\n"))
        let exposition = try get("/metrics", port: port)
        #expect(exposition.status == "200")
        #expect(exposition.body.contains("flotilla_starts_total 1\n"))
        #expect(try get("/nothing", port: port).status == "404")
        trigger.cancel()
        _ = await trigger.result
    }

    @Test("The history of a group is told as JSON and its partitions as metrics, whatever its name")
    func history() async throws {
        let name = "a/b %ü"
        let report = try Self.lagReport(of: name)
        let (ports, told) = AsyncStream<Int>.makeStream()
        let server = AdminServer(
            address: NetworkAddress(host: "127.0.0.1", port: 0),
            group: MultiThreadedEventLoopGroup.singleton,
            health: HealthChecks(readiness: { [] }, startup: { .started }),
            metrics: MetricsRegistry(),
            groups: GroupQuestions(
                history: { group in
                    if group == "none" { return .notFound("there is no group none") }
                    if group == "late" { return .unavailable("broker 2 does not answer") }
                    return .found(
                        GroupHistoryReport(group: group, coordinator: 1, dropped: 0, events: [])
                    )
                },
                lag: { $0 == name ? .found(report) : .notFound("there is no group \($0)") }
            ),
            logger: .silent,
            running: { address in told.yield(address.port) }
        )
        let running = Task { try await server.run() }
        var iterator = ports.makeAsyncIterator()
        let port = try #require(await iterator.next())
        let whole = try get("/v1/groups/\(PercentText.encoded(name))/history", port: port)
        #expect(whole.status == "200")
        #expect(
            whole.body.hasPrefix(#"{"coordinator":1,"dropped":0,"events":[],"group":"a/b %ü"}"#)
        )
        #expect(
            try get("/v1/groups/none/history", port: port) == ("404", "there is no group none\n")
        )
        #expect(
            try get("/v1/groups/late/history", port: port) == ("503", "broker 2 does not answer\n")
        )
        #expect(try get("/v1/groups/%4/history", port: port).status == "400")
        #expect(
            try get("/v1/groups/b/lag", port: port) == ("404", "there is no group b\n")
        )
        let detail = "/metrics/detail?group=\(PercentText.encoded(name))"
        let all = try get(detail, port: port)
        #expect(all.status == "200")
        let series = #"{group="a/b %ü",partition="1",topic="t"}"#
        for line in [
            "flotilla_group_partition_committed_offset\(series) 7\n",
            "flotilla_group_partition_lag_records\(series) 3\n",
            "flotilla_group_partition_lag_seconds\(series) 1.5\n",
        ] { #expect(all.body.contains(line)) }
        #expect(all.body.contains(#"committed_offset{group="a/b %ü",partition="0",topic="u"} 9"#))
        #expect(!all.body.contains(#"lag_records{group="a/b %ü",partition="0",topic="u"}"#))
        #expect(!(try get(detail + "&topic=u", port: port).body.contains(#"topic="t""#)))
        #expect(try get("/metrics/detail", port: port).status == "400")
        #expect(try get("/metrics/detail?group=b", port: port).status == "404")
        running.cancel()
        _ = await running.result
    }

    private static func lagReport(of group: String) throws -> GroupLagReport {
        let json = """
            {"group": "\(group)", "coordinator": 1, "time": 0, "partitions": [
                {"topic": "t", "partition": 1, "committed": 7, "records": 3, "milliseconds": 1500},
                {"topic": "u", "partition": 0, "committed": 9}
            ]}
            """
        return try JSONDecoder().decode(GroupLagReport.self, from: Data(json.utf8))
    }

    @Test("Names survive the way through a path", arguments: ["", "plain-1_.~", "a b/c?%+ü"])
    func percentText(_ name: String) {
        #expect(PercentText.decoded(PercentText.encoded(name)) == name)
        #expect(PercentText.decoded("%zz") == nil)
        #expect(PercentText.decoded("%") == nil)
        #expect(PercentText.decoded("%FF") == nil)
    }

    @Test("A broker is drained over HTTP, and what the cluster says is the answer")
    func draining() async throws {
        let asked = Mutex<[String]>([])
        let (ports, told) = AsyncStream<Int>.makeStream()
        let server = AdminServer(
            address: NetworkAddress(host: "127.0.0.1", port: 0),
            group: MultiThreadedEventLoopGroup.singleton,
            health: HealthChecks(readiness: { [] }, startup: { .started }),
            metrics: MetricsRegistry(),
            administration: Administration { broker, isDraining in
                asked.withLock { $0.append("\(broker) \(isDraining)") }
                return broker == 4
                    ? .done : broker == 5 ? .refused("stuck: t-0") : .unavailable("no leader")
            },
            logger: .silent,
            running: { address in told.yield(address.port) }
        )
        let running = Task { try await server.run() }
        var iterator = ports.makeAsyncIterator()
        let port = try #require(await iterator.next())
        // Off the pool that the server's own tasks need.
        func send(_ method: String, _ id: String) async throws -> String {
            try await NIOThreadPool.singleton.runIfActive {
                let client = try RawClient(port: port)
                let head = "\(method) /v1/brokers/\(id)/drain HTTP/1.1\r\nHost: x\r\n"
                try client.send(
                    Array("\(head)Content-Length: 0\r\nConnection: close\r\n\r\n".utf8)
                )
                let answer = String(decoding: try client.receive(1 << 16), as: UTF8.self)
                let lines = answer.split(separator: "\r\n")
                let status = lines.first?.split(separator: " ").dropFirst().first ?? ""
                return "\(status) \(lines.last ?? "")"
            }
        }
        #expect(try await send("POST", "4") == "200 draining\n")
        #expect(try await send("DELETE", "4") == "200 active\n")
        #expect(try await send("POST", "5") == "409 stuck: t-0\n")
        #expect(try await send("POST", "6") == "503 no leader\n")
        #expect(try await send("POST", "x").hasPrefix("400 "))
        #expect(try await send("GET", "4").hasPrefix("4"))
        #expect(asked.withLock { $0 } == ["4 true", "4 false", "5 true", "6 true"])
        running.cancel()
        _ = await running.result
    }
}
