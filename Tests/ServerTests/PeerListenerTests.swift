import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaServer
import Glibc
import NIOCore
import NIOPosix
import Testing

@Suite("The peer listener", .serialized)
struct PeerListenerTests {
    private func withBroker(
        settings: PeerSettings = .quick,
        policy: (@Sendable (PeerHello) -> PeerHelloAnswer)? = nil,
        _ body: (ListeningBroker) throws -> Void
    ) async throws {
        let broker = try await ListeningBroker(settings: settings, policy: policy)
        try body(broker)
        try await broker.stop()
        #expect(broker.listener.connectionCount == 0)
        #expect(broker.journal.upCount() == 0)
    }

    private func answer(_ client: RawClient) throws -> PeerHelloAnswer? {
        let head = try client.receive(48)
        guard head.count == 48 else { return nil }
        let length = head[12..<16].reversed().reduce(0) { $0 << 8 | Int($1) }
        var stream = ByteBuffer(bytes: try head + client.receive(length - 48))
        return try PeerHelloAnswer.take(from: &stream)
    }

    @Test("A hello is answered, and frames after it arrive in order, however they are cut")
    func frames() async throws {
        try await withBroker { broker in
            let client = try RawClient(port: broker.listener.address.port)
            let texts = (0..<200).map { "frame \($0)" }
            // The first frames ride with the hello.
            try client.send(DiallingShard.hello(.bulk).bytes + peerFrameBytes(texts[0]))
            #expect(try answer(client) == ListeningBroker.answer(.accepted))
            var rest = texts.dropFirst().flatMap(peerFrameBytes)[...]
            while !rest.isEmpty {
                try client.send(Array(rest.prefix(37)))
                rest = rest.dropFirst(37)
            }
            try waitUntil { broker.journal.texts.count == texts.count }
            #expect(broker.journal.texts == texts)
            let first = broker.journal.seen.first
            #expect(
                first
                    == .init(
                        broker: BrokerID(1),
                        incarnation: DiallingShard.incarnation,
                        lane: .bulk,
                        isUp: true
                    )
            )
            try client.close()
            try waitUntil { broker.journal.downCount() == 1 }
        }
    }

    @Test("Links of a shard are served on the loop of the shard with its number")
    func home() async throws {
        try await withBroker { broker in
            var clients: [RawClient] = []
            // Both loops accept them in turn, so that some have to move.
            for shard: UInt32 in [0, 1, 3, 2, 4, 6, 5, 7] {
                let client = try RawClient(port: broker.listener.address.port)
                let text = "shard \(shard)"
                try client.send(
                    DiallingShard.hello(.live, shard: shard).bytes + peerFrameBytes(text)
                )
                #expect(try answer(client) == ListeningBroker.answer(.accepted))
                try waitUntil { broker.journal.texts.last == text }
                try client.send(peerFrameBytes("more"))
                try waitUntil { broker.journal.texts.last == "more" }
                let loop = Array(broker.group.makeIterator())[Int(shard) % 2]
                #expect(broker.journal.loopOfLastFrame == ObjectIdentifier(loop))
                clients.append(client)
            }
            for client in clients { try client.close() }
            try waitUntil { broker.listener.connectionCount == 0 }
        }
    }

    @Test("A refused hello gets its sentence, and the connection ends")
    func refused() async throws {
        let policy: @Sendable (PeerHello) -> PeerHelloAnswer = {
            ListeningBroker.answer(.refused("cluster id \($0.clusterID) is not ours"))
        }
        try await withBroker(policy: policy) { broker in
            let client = try RawClient(port: broker.listener.address.port)
            try client.send(DiallingShard.hello(.live).bytes)
            #expect(
                try answer(client)?.verdict == .refused("cluster id fleet is not ours")
            )
            #expect(try client.isClosedByPeer())
            #expect(broker.journal.seen.isEmpty)
        }
    }

    @Test("Another version is told so")
    func otherVersion() async throws {
        try await withBroker { broker in
            let client = try RawClient(port: broker.listener.address.port)
            var hello = DiallingShard.hello(.live).bytes
            hello[8] = 9
            try client.send(hello)
            let answer = try #require(try answer(client))
            #expect(
                answer.verdict
                    == .refused(PeerHelloError.unsupportedVersion(9).description)
            )
            #expect(answer.broker == BrokerID(2))
            #expect(answer.incarnation == ListeningBroker.incarnation)
            #expect(try client.isClosedByPeer())
        }
    }

    @Test(
        "Who says no hello is hung up on",
        arguments: [
            Array("GET / HTTP/1.1\r\n".utf8),
            Array("FlotPeer".utf8) + [1, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF],
            ListeningBroker.answer(.accepted).bytes,
        ]
    )
    func garbage(bytes: [UInt8]) async throws {
        try await withBroker { broker in
            let client = try RawClient(port: broker.listener.address.port)
            try client.send(bytes)
            #expect(try client.isClosedByPeer())
            #expect(broker.journal.seen.isEmpty)
        }
    }

    @Test("A hello that never comes, or never ends, is waited for only so long")
    func silence() async throws {
        var settings = PeerSettings.quick
        settings.helloTimeout = .milliseconds(50)
        try await withBroker(settings: settings) { broker in
            let silent = try RawClient(port: broker.listener.address.port)
            let slow = try RawClient(port: broker.listener.address.port)
            try slow.send(DiallingShard.hello(.live).bytes.dropLast())
            #expect(try silent.isClosedByPeer())
            #expect(try slow.isClosedByPeer())
        }
    }

    @Test("A frame of unheard-of length, or one that its receiver refuses, ends the link at once")
    func badFrames() async throws {
        try await withBroker { broker in
            for bytes in [[0, 0, 0, 0xFF], peerFrameBytes("bad") + peerFrameBytes("after")] {
                let client = try RawClient(port: broker.listener.address.port)
                try client.send(DiallingShard.hello(.live).bytes + peerFrameBytes("good") + bytes)
                #expect(try answer(client)?.verdict == .accepted)
                #expect(try client.isClosedByPeer())
            }
            try waitUntil { broker.journal.downCount() == 2 }
            #expect(broker.journal.texts == ["good", "good"])
        }
    }

    @Test("A reset is reported like a close")
    func reset() async throws {
        try await withBroker { broker in
            let channel = try ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
                .connect(host: "127.0.0.1", port: broker.listener.address.port).wait()
            let options = try #require(channel as? any SocketOptionProvider)
            // A close that lingers for no time resets the connection.
            try options.setSoLinger(linger(l_onoff: 1, l_linger: 0)).wait()
            try channel.writeAndFlush(DiallingShard.hello(.live).encoded).wait()
            try waitUntil { broker.journal.upCount() == 1 }
            try channel.close().wait()
            try waitUntil { broker.journal.downCount() == 1 }
        }
    }

    @Test("Connections are spread over the loops")
    func spread() async throws {
        try await withBroker { broker in
            let clients = try (0..<4).map { shard in
                let client = try RawClient(port: broker.listener.address.port)
                try client.send(DiallingShard.hello(.live, shard: UInt32(shard)).bytes)
                return client
            }
            try waitUntil { broker.journal.upCount(.live) == 4 }
            #expect(broker.journal.loopCount == 2)
            // Read first: a client that is used no more hangs up.
            #expect(broker.listener.connectionCount == clients.count)
        }
    }

    @Test("A link that comes anew replaces the one that nobody missed yet")
    func replaced() async throws {
        try await withBroker { broker in
            let old = try RawClient(port: broker.listener.address.port)
            try old.send(DiallingShard.hello(.live).bytes)
            #expect(try answer(old)?.verdict == .accepted)
            let other = try RawClient(port: broker.listener.address.port)
            try other.send(DiallingShard.hello(.bulk).bytes)
            #expect(try answer(other)?.verdict == .accepted)
            let new = try RawClient(port: broker.listener.address.port)
            try new.send(DiallingShard.hello(.live).bytes)
            #expect(try answer(new)?.verdict == .accepted)
            #expect(try old.isClosedByPeer())
            try new.send(peerFrameBytes("still here"))
            try other.send(peerFrameBytes("me too"))
            try waitUntil { broker.journal.texts.count == 2 }
            #expect(broker.journal.upCount() == 2)
        }
    }

    @Test("There is room for so many connections and no more")
    func limit() async throws {
        var settings = PeerSettings.quick
        settings.maximumIncomingCount = 1
        try await withBroker(settings: settings) { broker in
            let first = try RawClient(port: broker.listener.address.port)
            try first.send(DiallingShard.hello(.live).bytes)
            #expect(try answer(first)?.verdict == .accepted)
            let second = try RawClient(port: broker.listener.address.port)
            #expect(try second.isClosedByPeer())
            try first.close()
            try waitUntil { broker.listener.connectionCount == 0 }
            let third = try RawClient(port: broker.listener.address.port)
            try third.send(DiallingShard.hello(.live).bytes)
            #expect(try answer(third)?.verdict == .accepted)
        }
    }

    @Test("A stop ends every connection, greeted or not, and lets nobody in")
    func stop() async throws {
        let broker = try await ListeningBroker()
        let port = broker.listener.address.port
        let greeted = try RawClient(port: port)
        try greeted.send(DiallingShard.hello(.live).bytes)
        try waitUntil { broker.journal.upCount() == 1 }
        let silent = try RawClient(port: port)
        try waitUntil { broker.listener.connectionCount == 2 }
        try await broker.listener.stop()
        #expect(broker.listener.connectionCount == 0)
        #expect(broker.journal.upCount() == 0)
        #expect(try answer(greeted)?.verdict == .accepted)
        #expect(try greeted.isClosedByPeer())
        #expect(try silent.isClosedByPeer())
        #expect(throws: (any Error).self) { try RawClient(port: port) }
        try await broker.stop()
    }
}

@Suite("A question to a broker", .serialized)
struct PeerProbeTests {
    private var question: PeerHello {
        var hello = DiallingShard.hello(.live)
        hello.body = ByteBuffer(repeating: 3, count: PeerGreeting.bodyLimit)
        return hello
    }

    private func ask(_ address: NetworkAddress, timeout: Duration = .seconds(10)) async throws
        -> PeerHelloAnswer
    {
        try await PeerProbe.ask(
            address,
            question,
            timeout: timeout,
            on: MultiThreadedEventLoopGroup.singleton
        )
    }

    @Test("The answer comes back with its body, and no link is reported")
    func answered() async throws {
        let broker = try await ListeningBroker(policy: { hello in
            var answer = ListeningBroker.answer(.accepted)
            answer.body = hello.body
            return hello.purpose == .question
                ? answer : ListeningBroker.answer(.refused("not a question"))
        })
        let answer = try await ask(broker.listener.address)
        #expect(answer.verdict == .accepted)
        #expect(answer.clusterID == "fleet")
        #expect(answer.body == question.body)
        try waitUntil { broker.listener.connectionCount == 0 }
        #expect(broker.journal.seen.isEmpty)
        try await broker.stop()
    }

    private func petition(_ address: NetworkAddress, timeout: Duration = .seconds(10)) async throws
        -> PeerHelloAnswer
    {
        var hello = question
        hello.purpose = .petition
        return try await PeerProbe.ask(
            address,
            hello,
            timeout: timeout,
            on: MultiThreadedEventLoopGroup.singleton
        )
    }

    @Test("A petition is answered when it is decided, also after the time that a hello has")
    func decidedPetition() async throws {
        var settings = PeerSettings.quick
        settings.helloTimeout = .milliseconds(50)
        let broker = try await ListeningBroker(
            settings: settings,
            petition: { hello, eventLoop in
                var answer = ListeningBroker.answer(.accepted)
                answer.body = hello.body
                return eventLoop.scheduleTask(in: .milliseconds(200)) { [answer] in answer }
                    .futureResult
            }
        )
        let answer = try await petition(broker.listener.address)
        #expect(answer.verdict == .accepted)
        #expect(answer.body == question.body)
        try waitUntil { broker.listener.connectionCount == 0 }
        #expect(broker.journal.seen.isEmpty)
        try await broker.stop()
    }

    @Test("A petition that nobody decides, or that fails, is hung up on in time")
    func undecidedPetition() async throws {
        struct Failed: Error {}
        var settings = PeerSettings.quick
        settings.petitionTimeout = .milliseconds(50)
        let promises = Counter()
        let broker = try await ListeningBroker(
            settings: settings,
            petition: { _, eventLoop in
                promises.increment()
                guard promises.value == 1 else { return eventLoop.makeFailedFuture(Failed()) }
                return eventLoop.scheduleTask(in: .seconds(1)) { ListeningBroker.answer(.accepted) }
                    .futureResult
            }
        )
        for _ in 0..<2 {
            let failure = await #expect(throws: PeerLinkError.self) {
                try await petition(broker.listener.address)
            }
            guard case .closed? = failure else {
                Issue.record("\(String(describing: failure))")
                continue
            }
        }
        try await broker.stop()
    }

    @Test("A petition that the policy refuses is not passed on")
    func refusedPetition() async throws {
        let decided = Counter()
        let broker = try await ListeningBroker(
            policy: { _ in ListeningBroker.answer(.notYet("it is still starting")) },
            petition: { _, eventLoop in
                decided.increment()
                return eventLoop.makeSucceededFuture(ListeningBroker.answer(.accepted))
            }
        )
        let verdict = try await petition(broker.listener.address).verdict
        #expect(verdict == .notYet("it is still starting"))
        #expect(decided.value == 0)
        try await broker.stop()
    }

    @Test("Who gives up a question does not wait for its answer")
    func cancelled() async throws {
        let silent = FakePeer(answer: [])
        let address = try await silent.listen()
        let begin = ContinuousClock.now
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                await #expect(throws: PeerLinkError.self) {
                    try await ask(address, timeout: .seconds(60))
                }
            }
            do { try waitUntil { silent.accepted.value == 1 } } catch { Issue.record(error) }
            tasks.cancelAll()
        }
        #expect(ContinuousClock.now - begin < .seconds(30))
        try await silent.stop()
    }

    @Test("A refusal is an answer")
    func refused() async throws {
        let broker = try await ListeningBroker(policy: { _ in
            ListeningBroker.answer(.refused("no"))
        })
        #expect(try await ask(broker.listener.address).verdict == .refused("no"))
        try await broker.stop()
    }

    @Test("Who does not answer, or answers nonsense, or is not there, is named in an error")
    func unanswered() async throws {
        let silent = FakePeer(answer: [])
        let silentAddress = try await silent.listen()
        let silence = await #expect(throws: PeerLinkError.self) {
            try await ask(silentAddress, timeout: .milliseconds(100))
        }
        guard case .noAnswer(silentAddress, .milliseconds(100)) = silence else {
            Issue.record("\(String(describing: silence))")
            return
        }
        let foreign = FakePeer(answer: Array("220 mail ready\r\n".utf8))
        let foreignAddress = try await foreign.listen()
        let nonsense = await #expect(throws: PeerLinkError.self) { try await ask(foreignAddress) }
        guard case .unintelligible(foreignAddress, _) = nonsense else {
            Issue.record("\(String(describing: nonsense))")
            return
        }
        try await foreign.stop()
        let absence = await #expect(throws: PeerLinkError.self) { try await ask(foreignAddress) }
        guard case .unreachable(foreignAddress, _) = absence else {
            Issue.record("\(String(describing: absence))")
            return
        }
        try await silent.stop()
    }
}
