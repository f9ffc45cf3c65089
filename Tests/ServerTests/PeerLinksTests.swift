import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaServer
import NIOCore
import NIOPosix
import Testing

@Suite("A shard's links to its peers", .serialized)
struct PeerLinksTests {
    @Test("Both lanes come up, and each keeps the order of its frames")
    func lanes() async throws {
        let broker = try await ListeningBroker()
        let shard = try await DiallingShard()
        #expect(try !shard.send("too early"))
        try shard.dial(broker.listener.address)
        try shard.waitUntilUp()
        let seen = shard.journal.seen
        #expect(Set(seen.map(\.lane)) == [.live, .bulk])
        #expect(seen.allSatisfy { $0.incarnation == ListeningBroker.incarnation })
        try shard.on { links in
            for index in 0..<500 {
                for lane in PeerLane.allCases {
                    let frame = peerFrame(Array("\(lane) \(index)".utf8))
                    #expect(links.send(frame, to: BrokerID(2), on: lane))
                }
                if index % 100 == 0 { links.flush() }
            }
            #expect(links.queuedByteCount(BrokerID(2), .live) > 0)
            links.flush()
        }
        try waitUntil { broker.journal.texts.count == 1000 }
        for lane in PeerLane.allCases {
            let texts = broker.journal.texts.filter { $0.hasPrefix("\(lane)") }
            #expect(texts == (0..<500).map { "\(lane) \($0)" })
        }
        #expect(broker.journal.received.allSatisfy { $0.broker == BrokerID(1) })
        #expect(try shard.on { $0.queuedByteCount(BrokerID(2), .live) } == 0)
        try await shard.stop()
        try await broker.stop()
    }

    @Test("What is not flushed stays, and a flush of nothing is one")
    func flush() async throws {
        let broker = try await ListeningBroker()
        let shard = try await DiallingShard()
        try shard.dial(broker.listener.address)
        try shard.waitUntilUp()
        try shard.on { links in
            #expect(links.send(peerFrame([1, 2, 3]), to: BrokerID(2), on: .live))
            #expect(links.queuedByteCount(BrokerID(2), .live) == 7)
        }
        // The other lane overtakes what waits here.
        #expect(try shard.on { $0.send(peerFrame([4]), to: BrokerID(9), on: .live) } == false)
        #expect(broker.journal.received.isEmpty)
        try shard.on { links in
            links.flush()
            links.flush()
        }
        try waitUntil { broker.journal.received.count == 1 }
        try await shard.stop()
        try await broker.stop()
    }

    @Test("The other side's restart is noticed at once, and the links return")
    func restart() async throws {
        let first = try await ListeningBroker()
        let address = first.listener.address
        let shard = try await DiallingShard()
        try shard.dial(address)
        try shard.waitUntilUp()
        #expect(try shard.send("before"))
        try waitUntil { first.journal.texts == ["before"] }
        try await first.stop()
        try waitUntil { shard.journal.downCount() == 2 }
        #expect(try !shard.send("while it is away"))
        #expect(try shard.on { $0.queuedByteCount(BrokerID(2), .live) } == 0)
        let second = try await ListeningBroker(port: address.port)
        try shard.waitUntilUp()
        #expect(try shard.send("after"))
        try waitUntil { second.journal.texts == ["after"] }
        try await shard.stop()
        try await second.stop()
    }

    @Test("A peer that was heard of is dialled at once, however long its links meant to wait")
    func heardOf() async throws {
        var settings = PeerSettings.quick
        settings.shortestBackoff = .seconds(3600)
        settings.longestBackoff = .seconds(3600)
        let first = try await ListeningBroker()
        let address = first.listener.address
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(address)
        try shard.waitUntilUp()
        try await first.stop()
        try waitUntil { shard.journal.downCount() == 2 }
        let second = try await ListeningBroker(port: address.port)
        try shard.on { $0.dialNow(BrokerID(2)) }
        try shard.waitUntilUp()
        try await shard.stop()
        try await second.stop()
    }

    @Test("A full window refuses, and takes again when the peer has read")
    func window() async throws {
        var settings = PeerSettings.quick
        settings.liveWindowByteCount = 256 << 10
        settings.silenceTimeout = .seconds(60)
        let peer = FakePeer(answer: ListeningBroker.answer(.accepted).bytes, reads: false)
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(try await peer.listen())
        try shard.waitUntilUp()
        let frame = [UInt8](repeating: 5, count: 65_532)
        // The kernel takes some megabytes before anything waits here.
        let taken = try shard.on { links in
            var taken = 0
            while taken < 4000, links.send(peerFrame(frame), to: BrokerID(2), on: .live) {
                links.flush()
                taken += 1
            }
            return taken
        }
        try #require(taken < 4000)
        let held = try shard.on { $0.queuedByteCount(BrokerID(2), .live) }
        #expect(held > (256 - 64) << 10 && held <= 256 << 10)
        #expect(try !shard.on { $0.send(peerFrame(frame), to: BrokerID(2), on: .live) })
        // The other lane has a window of its own.
        #expect(try shard.send("yes", on: .bulk))
        peer.readOn()
        try waitUntil {
            (try? shard.on { $0.queuedByteCount(BrokerID(2), .live) }) == 0
        }
        #expect(try shard.send("now"))
        let expected =
            taken * 65_536 + 4 + 3 + 4 + 3
            + PeerLane.allCases.reduce(0) { $0 + DiallingShard.hello($1).bytes.count }
        try waitUntil { peer.receivedByteCount == expected }
        #expect(shard.journal.downCount() == 0)
        try await shard.stop()
        try await peer.stop()
    }

    @Test("An empty lane takes a frame above its window, none takes one above the largest")
    func largeFrame() async throws {
        var settings = PeerSettings.quick
        settings.bulkWindowByteCount = 1000
        settings.maximumFrameByteCount = 3_000_000
        let broker = try await ListeningBroker(settings: settings)
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(broker.listener.address)
        try shard.waitUntilUp()
        let large = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13) }
        try shard.on { links in
            #expect(!links.send(peerFrame(large + [0]), to: BrokerID(2), on: .bulk))
            #expect(links.send(peerFrame(large), to: BrokerID(2), on: .bulk))
            #expect(!links.send(peerFrame([1]), to: BrokerID(2), on: .bulk))
            links.flush()
        }
        try waitUntil { broker.journal.received.count == 1 }
        #expect(broker.journal.received[0].bytes == large)
        #expect(shard.log.lines.count == 1)
        try await shard.stop()
        try await broker.stop()
    }

    @Test("A peer that never answers is hung up on, and dialled again")
    func silentPeer() async throws {
        var settings = PeerSettings.quick
        settings.helloTimeout = .milliseconds(50)
        let peer = FakePeer(answer: [])
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(try await peer.listen())
        try waitUntil { peer.accepted.value >= 6 }
        #expect(shard.journal.seen.isEmpty)
        // Said once per lane, however often it is tried.
        #expect(shard.log.lines.count == 2)
        try await shard.stop()
        try await peer.stop()
    }

    @Test(
        "A peer that refuses, is another, or talks nonsense is no peer; the reason is logged once",
        arguments: [
            (ListeningBroker.answer(.refused("go away")).bytes, "refuses: go away"),
            (ListeningBroker.answer(.accepted, BrokerID(3)).bytes, "is broker 3 and not broker 2"),
            (Array("* OK IMAP4 ready\r\n".utf8), "no peer listener of Flotilla"),
            (ListeningBroker.answer(.accepted).bytes + [1], "nothing after its answer"),
        ]
    )
    func wrongPeer(answer: [UInt8], reason: String) async throws {
        let peer = FakePeer(answer: answer)
        let shard = try await DiallingShard()
        try shard.dial(try await peer.listen())
        try waitUntil { peer.accepted.value >= 6 }
        #expect(shard.journal.seen.isEmpty)
        let lines = shard.log.lines
        #expect(lines.count == 2)
        #expect(lines.allSatisfy { $0.contains(reason) }, "\(lines)")
        try await shard.stop()
        try await peer.stop()
    }

    @Test("A peer that is not ready yet is dialled again, and nobody need be told")
    func notYet() async throws {
        let peer = FakePeer(answer: ListeningBroker.answer(.notYet("it is still starting")).bytes)
        let shard = try await DiallingShard()
        try shard.dial(try await peer.listen())
        try waitUntil { peer.accepted.value >= 6 }
        #expect(shard.journal.seen.isEmpty)
        #expect(shard.log.lines.isEmpty)
        try await shard.stop()
        try await peer.stop()
    }

    @Test("A connection whose other half stopped taking bytes is given up")
    func halfOpen() async throws {
        var settings = PeerSettings.quick
        settings.silenceTimeout = .milliseconds(300)
        let peer = FakePeer(answer: ListeningBroker.answer(.accepted).bytes, reads: false)
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(try await peer.listen())
        try shard.waitUntilUp()
        try shard.on { links in
            let frame = peerFrame([UInt8](repeating: 5, count: 65_532))
            while links.send(frame, to: BrokerID(2), on: .live) { links.flush() }
        }
        try waitUntil { shard.journal.downCount() > 0 }
        #expect(shard.journal.seen.first { !$0.isUp }?.lane == .live)
        try await shard.stop()
        try await peer.stop()
    }

    @Test("A peer that leaves the list is hung up on, one that moves is dialled at its new place")
    func setPeers() async throws {
        let first = try await ListeningBroker()
        let second = try await ListeningBroker()
        let third = try await ListeningBroker(BrokerID(4))
        let shard = try await DiallingShard()
        let fourth = PeerAddress(broker: BrokerID(4), address: third.listener.address)
        try shard.on { [address = first.listener.address] links in
            links.setPeers([PeerAddress(broker: BrokerID(2), address: address), fourth])
        }
        try waitUntil { shard.journal.upCount() == 4 }
        try shard.on { [address = second.listener.address] links in
            links.setPeers([fourth, PeerAddress(broker: BrokerID(2), address: address)])
            #expect(!links.isUp(BrokerID(2), .live))
            #expect(links.isUp(BrokerID(4), .live))
        }
        try waitUntil { first.journal.downCount() == 2 && shard.journal.downCount() == 2 }
        try waitUntil { shard.journal.upCount() == 4 && second.journal.upCount() == 2 }
        try shard.on { $0.setPeers([fourth]) }
        try waitUntil { second.journal.downCount() == 2 && shard.journal.downCount() == 4 }
        #expect(try shard.on { $0.isUp(BrokerID(2), .bulk) } == false)
        #expect(try !shard.send("gone"))
        #expect(third.journal.downCount() == 0)
        try await shard.stop()
        try waitUntil { third.journal.downCount() == 2 }
        for broker in [first, second, third] { try await broker.stop() }
    }

    @Test("A stop leaves nothing: links that are up, greet, or wait for their next dial")
    func stop() async throws {
        let broker = try await ListeningBroker()
        let silent = FakePeer(answer: [])
        let silentAddress = try await silent.listen()
        let gone = try await ListeningBroker(BrokerID(5))
        try await gone.stop()
        let shard = try await DiallingShard()
        try shard.on { [up = broker.listener.address, away = gone.listener.address] links in
            links.setPeers([
                PeerAddress(broker: BrokerID(2), address: up),
                PeerAddress(broker: BrokerID(4), address: silentAddress),
                PeerAddress(broker: BrokerID(5), address: away),
            ])
        }
        try waitUntil { shard.journal.upCount() == 2 && silent.accepted.value == 2 }
        // The group's own shutdown fails the test if a socket were left open in it.
        try await shard.stop()
        #expect(shard.journal.upCount() == 0)
        try waitUntil { broker.listener.connectionCount == 0 }
        #expect(broker.journal.upCount() == 0)
        try await silent.stop()
        try await broker.stop()
    }

    @Test("A stop while dialling ends the dial")
    func stopWhileDialling() async throws {
        let broker = try await ListeningBroker()
        let shard = try await DiallingShard()
        try shard.dial(broker.listener.address)
        try await shard.stop()
        #expect(shard.journal.upCount() == 0)
        try waitUntil { broker.journal.upCount() == 0 && broker.listener.connectionCount == 0 }
        try await broker.stop()
    }

    @Test("A dial that comes due in the turn of the stop is not made", arguments: 0..<5)
    func stopWhenDue(attempt: Int) async throws {
        let gone = try await ListeningBroker()
        try await gone.stop()
        let shard = try await DiallingShard()
        try shard.dial(gone.listener.address)
        try waitUntil { (try? shard.on { $0.socketCount }) == 0 }
        // The loop is busy past the longest wait, so that the stop and the timers meet in one turn.
        let isBusy = Counter()
        shard.group.next().execute {
            isBusy.increment()
            for _ in 0..<70 { pauseBriefly() }
        }
        try waitUntil { isBusy.value == 1 }
        try await shard.stopLinks()
        #expect(try shard.on { $0.socketCount } == 0)
        try await shard.stop()
    }

    @Test("What stands next to the socket sees every byte, of both sides: there TLS can go")
    func secured() async throws {
        var settings = PeerSettings.quick
        settings.secure = { channel, _ in
            try channel.pipeline.syncOperations.addHandler(Scrambler())
        }
        let broker = try await ListeningBroker(settings: settings)
        let shard = try await DiallingShard(settings: settings)
        try shard.dial(broker.listener.address)
        try shard.waitUntilUp()
        #expect(try shard.send("scrambled"))
        try waitUntil { broker.journal.texts == ["scrambled"] }
        let plain = try RawClient(port: broker.listener.address.port)
        try plain.send(DiallingShard.hello(.live).bytes)
        #expect(try plain.isClosedByPeer())
        let answer = try await PeerProbe.ask(
            broker.listener.address,
            DiallingShard.hello(.live),
            timeout: .seconds(10),
            on: MultiThreadedEventLoopGroup.singleton,
            settings: settings
        )
        #expect(answer.verdict == .accepted)
        try await shard.stop()
        try await broker.stop()
    }
}

/// Turns over every bit, both ways.
private final class Scrambler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        context.fireChannelRead(NIOAny(turned(unwrapInboundIn(data))))
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        context.write(NIOAny(turned(unwrapOutboundIn(data))), promise: promise)
    }

    private func turned(_ bytes: ByteBuffer) -> ByteBuffer {
        ByteBuffer(bytes: bytes.readableBytesView.map { ~$0 })
    }
}
