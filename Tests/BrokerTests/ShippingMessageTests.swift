@testable import FlotillaBroker
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
@testable import FlotillaStorage
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

@Suite("Messages about files")
struct ShippingMessageTests {
    private static let samples: [ShippingMessage] = [
        .request(
            ShippingRequest(
                lastIndex: LogIndex(77),
                number: 3,
                receivedByteCount: 1 << 40,
                isRestLost: true
            )
        ),
        .chunk(
            number: 4,
            ShipmentChunk(
                place: ShipmentPlace(file: 2, position: 9),
                bytes: ByteBuffer(string: "some bytes")
            )
        ),
        .end(number: 5),
    ]

    private func bytes(_ message: ShippingMessage) -> ByteBuffer {
        message.parts.reduce(into: ByteBuffer()) { $0.writeImmutableBuffer($1) }
    }

    @Test("What is written is read back")
    func roundTrip() throws {
        for sample in Self.samples {
            let written = bytes(sample)
            let read = try #require(ShippingMessage(kind: sample.kind, written))
            #expect(bytes(read) == written)
        }
    }

    @Test("Bytes cut anywhere or longer than they should be are no message")
    func cut() {
        for sample in Self.samples {
            let written = bytes(sample)
            var longer = written
            longer.writeInteger(UInt8(0))
            for count in 0..<written.readableBytes {
                // A chunk's bytes have no length of their own; its checksum tells.
                if case .chunk = sample, count > 8 + 16 { break }
                let part = written.getSlice(at: 0, length: count) ?? ByteBuffer()
                #expect(ShippingMessage(kind: sample.kind, part) == nil, "\(count) of \(sample)")
            }
            if case .chunk = sample { continue }
            #expect(ShippingMessage(kind: sample.kind, longer) == nil)
        }
        #expect(ShippingMessage(kind: 20, ByteBuffer(repeating: 0, count: 64)) == nil)
    }

    @Test(
        "Random bytes of every kind reach a broker without harm",
        arguments: 0..<20 as Range<UInt64>
    )
    func hostile(seed: UInt64) throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(replicas: 3)
        cluster.advance(by: .seconds(1))
        var random = SeededRandom(seed: seed)
        for target in 0..<3 {
            let replica = try #require(cluster.partition(topic, at: target)).replica
            for _ in 0..<40 {
                var body = ByteBuffer()
                for _ in 0..<Int.random(in: 0..<80, using: &random) {
                    // Small numbers come often: they are the ones that mean something.
                    body.writeInteger(
                        Bool.random(using: &random) ? 0 : UInt8.random(in: 0...255, using: &random)
                    )
                }
                let message = ReplicaMessage(
                    partition: replica.group.partition,
                    senderEpoch: CreationEpoch(UInt64.random(in: 0...9, using: &random)),
                    targetEpoch: replica.group.epoch,
                    kind: UInt16.random(in: 14...33, using: &random),
                    parts: [body]
                )
                var frame = PeerMessage.replica(message).encoded().reduce(into: ByteBuffer()) {
                    $0.writeImmutableBuffer($1)
                }
                frame.moveReaderIndex(forwardBy: PeerMessage.lengthByteCount)
                try cluster.brokers[target].shards[0].received(
                    frame.slice(),
                    from: BrokerID(Int32((target + 1) % 3 + 1))
                )
            }
        }
        cluster.advance(by: .seconds(3))
        let leader = try #require(cluster.leaders(topic).first)
        #expect(try cluster.connect(to: leader).produce(Batches.batch("fine")).error == .noError)
    }
}

@Suite("How fast replicas are brought up")
struct RecoveryBudgetTests {
    private func member(_ number: Int32) -> RecoveryBudget.Member {
        RecoveryBudget.Member(
            group: GroupID(
                partition: TopicPartition(topic: TopicID(high: 1, low: 1), partition: number),
                epoch: CreationEpoch(1)
            ),
            member: GroupMember(broker: BrokerID(2), epoch: CreationEpoch(1))
        )
    }

    @Test("Bytes per second keep to the rate, whatever the steps", arguments: [1, 7, 20, 500])
    func rate(stepMillis: Int64) {
        var budget = RecoveryBudget(byteRate: 10_000_000, leastBurst: 0)
        var taken = 0
        var now = Instant.start
        while now < Instant.start + .seconds(10) {
            while budget.take(50_000, for: member(1), now: now) { taken += 50_000 }
            now = now + .milliseconds(stepMillis)
        }
        // A burst at the start, and one read more than there was room for.
        #expect(taken <= 100_000_000 + 2_000_000 + 50_000)
        #expect(taken >= (stepMillis > 200 ? 35_000_000 : 90_000_000))
    }

    @Test(
        "No more than so many replicas are brought up at a time, and one that stops asking makes room"
    )
    func members() {
        var budget = RecoveryBudget(byteRate: 1 << 30, leastBurst: 1 << 20)
        let limit = Int32(RecoveryBudget.memberLimit)
        var now = Instant.start
        func admits(_ member: RecoveryBudget.Member) -> Bool { budget.admit(member, now: now) }
        for number in 0..<limit { #expect(admits(member(number))) }
        #expect(admits(member(limit)) == false)
        now = now + .seconds(1)
        for number in 1..<limit { #expect(admits(member(number))) }
        #expect(admits(member(limit)) == false)
        now = now + .milliseconds(1_500)
        #expect(admits(member(limit)))
        budget.release(member(limit))
        let count = budget.memberCount(now: now)
        #expect(count == Int(limit) - 1)
    }
}

@Suite("The window of a shipment")
struct ShipmentFlowTests {
    private let manifest = ShipmentManifest(
        position: LogPosition(term: Term(1), index: LogIndex(9)),
        checksum: 1,
        endOffset: Offset(9),
        stateByteCount: 300,
        segments: [
            .init(
                name: SegmentName(baseOffset: Offset(0), firstIndex: LogIndex(1)),
                entryCount: 9,
                logByteCount: 9 << 20,
                controlByteCount: 0
            )
        ]
    )

    @Test("Every byte has one place")
    func places() throws {
        let extent = ShipmentExtent(manifest)
        #expect(extent.byteCount == manifest.byteCount)
        var byte = 0
        var place = manifest.start
        while let next = place {
            #expect(extent.place(of: byte) == next)
            #expect(extent.byte(of: next) == byte)
            let file = manifest.files[next.file]
            let count = min(1 << 20, file.byteCount - next.position)
            let chunk = ShipmentChunk(place: next, bytes: ByteBuffer(repeating: 0, count: count))
            byte += count
            place = manifest.place(after: chunk)
        }
        #expect(byte == extent.byteCount)
        #expect(extent.place(of: byte) == nil)
        #expect(extent.byte(of: ShipmentPlace(file: 9, position: 0)) == nil)
        #expect(extent.byte(of: ShipmentPlace(file: 0, position: 300)) == nil)
    }

    @Test("No more is on its way than the window, and what was lost is sent again")
    func window() {
        var flow = ShipmentFlow(manifest)
        func acknowledge(_ byteCount: Int, _ isRestLost: Bool) -> Bool {
            flow.acknowledge(byteCount, isRestLost: isRestLost)
        }
        func fill() -> Int {
            var count = 0
            while let (place, byteCount) = flow.next {
                let rest = manifest.files[place.file].byteCount - place.position
                flow.sent(min(byteCount, rest))
                count += 1
            }
            return count
        }
        let first = fill()
        #expect(first > 10)
        #expect(flow.sentByteCount <= ShipmentFlow.windowByteCount)
        #expect(acknowledge(flow.sentByteCount + 1, false) == false)
        #expect(acknowledge(1_000_000, false))
        let second = fill()
        #expect(second > 0)
        let generation = flow.generation
        // What an older request says is known.
        #expect(acknowledge(5, true))
        #expect(flow.generation == generation)
        #expect(acknowledge(1_000_000, true))
        #expect(flow.sentByteCount == 1_000_000)
        #expect(flow.generation == generation + 1)
        while flow.sentByteCount < manifest.byteCount {
            _ = fill()
            #expect(acknowledge(flow.sentByteCount, false))
        }
        #expect(flow.next == nil)
    }
}
