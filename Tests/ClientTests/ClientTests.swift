@testable import FlotillaClient
import FlotillaKafkaWire
import FlotillaModel
import NIOCore
import Synchronization
import Testing

@Suite("Producer and consumer against a broker that fails", .timeLimit(.minutes(2)))
struct ClientTests {
    private func client(_ broker: FakeBroker) -> KafkaClient {
        var configuration = ClientConfiguration(brokers: [
            BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        ])
        configuration.initialBackoff = .milliseconds(2)
        configuration.maximumBackoff = .milliseconds(20)
        return KafkaClient(configuration)
    }

    private func record(_ text: String, partition: Int32? = nil, key: String? = nil)
        -> ProducerRecord
    {
        ProducerRecord(
            topic: FakeBroker.topic,
            partition: partition,
            key: key.map { ByteBuffer(string: $0) },
            value: ByteBuffer(string: text)
        )
    }

    @Test("A record is sent, its place is returned, and it is read back with all its parts")
    func roundTrip() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        let producer = Producer(client)
        var sent = record("hello", key: "k")
        sent.headers = [
            Header(name: "a", value: ByteBuffer(string: "1")), Header(name: "b", value: nil),
        ]
        sent.timestamp = Timestamp(1234)
        let place = try await producer.send(sent)
        #expect(place.partition == NamedPartition(topic: "t", index: 0) && place.offset == .zero)
        let consumer = try await Consumer(client, [place.partition: .earliest])
        let batch = try #require(try await consumer.next())
        let read = try #require(batch.records.first)
        #expect(read.key == sent.key && read.value == sent.value && read.headers == sent.headers)
        #expect(
            read.timestamp == Timestamp(1234) && read.offset == .zero
                && batch.nextOffset == Offset(1)
        )
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test(
        "A broker that knows an older ApiVersions is asked again on the same connection",
        arguments: [0, 2, 3]
    )
    func negotiation(limit: Int16) async throws {
        let broker = try await FakeBroker.start(apiVersionsLimit: limit)
        let client = client(broker)
        _ = try await client.metadata()
        #expect(Array(broker.requests.prefix(2)) == ["ApiVersions/4", "ApiVersions/\(limit)"])
        await client.close()
        try await broker.stop()
    }

    @Test(
        "Every record is written once and in order, whatever breaks",
        arguments: [
            FakeBroker.Faults(), FakeBroker.Faults(dropsBefore: 10),
            FakeBroker.Faults(dropsAfter: 10),
            FakeBroker.Faults(refusals: 20),
            FakeBroker.Faults(dropsBefore: 5, dropsAfter: 5, refusals: 10),
            FakeBroker.Faults(dropsAfter: 10, refusals: 40),
        ],
        [Compression.none, .lz4]
    )
    func idempotence(faults: FakeBroker.Faults, compression: Compression) async throws {
        let partitions = 3
        let count = 3000
        let broker = try await FakeBroker.start(partitions: partitions)
        broker.set(faults)
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.batchByteCount = 1000
        settings.linger = .milliseconds(1)
        settings.compression = compression
        settings.bufferByteCount = 64 << 10
        let offsets = Mutex<[UInt64: (Int32, Int64)]>([:])
        let producer = Producer(client, settings) { report in
            for (index, tag) in report.tags.enumerated() {
                guard let base = report.baseOffset else { continue }
                offsets.withLock {
                    $0[tag] = (report.partition.index, base.rawValue + Int64(index))
                }
            }
        }
        for number in 0..<count {
            while true {
                do throws(ClientError) {
                    try producer.enqueue(
                        record("\(number)", partition: Int32(number % partitions)),
                        tag: UInt64(number)
                    )
                    break
                } catch {
                    #expect(error == .bufferFull)
                    await producer.waitForRoom()
                }
            }
        }
        await producer.close()
        for partition in 0..<partitions {
            let expected = stride(from: partition, to: count, by: partitions).map { "\($0)" }
            #expect(try broker.values(of: partition) == expected)
        }
        let acknowledged = offsets.withLock { $0 }
        #expect(acknowledged.count == count)
        for (tag, (partition, offset)) in acknowledged {
            #expect(
                partition == Int32(tag) % Int32(partitions)
                    && offset == Int64(tag) / Int64(partitions)
            )
        }
        await client.close()
        try await broker.stop()
    }

    @Test("No batch passes a repeat by so much that the broker forgets it")
    func recognizedRepeats() async throws {
        let broker = try await FakeBroker.start()
        // The first batch is appended, which the producer is not told; its repeats are refused while what
        // follows is appended.
        broker.set(produce: [.loseAnswer] + Array(repeating: .refuseOldest, count: 12))
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.batchByteCount = 100
        let producer = Producer(client, settings)
        let values = (0..<30).map { "\($0)" + String(repeating: "x", count: 100) }
        for value in values { try producer.enqueue(record(value)) }
        await producer.close()
        #expect(try broker.values(of: 0) == values)
        await client.close()
        try await broker.stop()
    }

    @Test("A partition's batches are at one broker at a time, also when the leader moves")
    func leaderMoves() async throws {
        let broker = try await FakeBroker.start()
        broker.set(replica: 2, fetches: [])
        broker.set(produce: [.silence])
        var configuration = ClientConfiguration(brokers: [
            BrokerAddress(host: "127.0.0.1", port: broker.address.port)
        ])
        configuration.metadataMaximumAge = .milliseconds(10)
        let client = KafkaClient(configuration)
        let producer = Producer(client)
        let first = Task { try await producer.send(self.record("first")) }
        while !broker.requests.contains(where: { $0.hasPrefix("Produce/") }) {
            try await Task.sleep(for: .milliseconds(5))
        }
        broker.set(leader: 2, epoch: 1)
        let isMetadata = { (name: String) in name.hasPrefix("Metadata/") }
        let asked = broker.requests.count(where: isMetadata)
        while broker.requests.count(where: isMetadata) < asked + 2 {
            try await Task.sleep(for: .milliseconds(5))
        }
        let second = Task { try await producer.send(self.record("second")) }
        // A new leader would take it as the producer's first.
        try await Task.sleep(for: .milliseconds(300))
        #expect(try broker.values(of: 0).isEmpty)
        broker.dropSilent()
        #expect(try await first.value.offset == .zero)
        #expect(try await second.value.offset == Offset(1))
        #expect(try broker.values(of: 0) == ["first", "second"])
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("A deposed leader's word about a partition is not taken")
    func deposedLeader() {
        func topic(_ leader: Int32, epoch: Int32, id: UInt64 = 1) -> ClusterMetadata.Topic {
            ClusterMetadata.Topic(
                .init(
                    name: "t",
                    topicId: TopicID(high: 0, low: id),
                    partitions: [
                        .init(partitionIndex: 0, leaderId: leader, leaderEpoch: epoch)
                    ]
                )
            )
        }
        let known = topic(2, epoch: 5)
        #expect(topic(1, epoch: 4).keepingNewer(known).partitions[0].leader == BrokerID(2))
        #expect(topic(3, epoch: 6).keepingNewer(known).partitions[0].leader == BrokerID(3))
        // Another topic of that name begins anew.
        #expect(topic(1, epoch: 0, id: 2).keepingNewer(known).partitions[0].leader == BrokerID(1))
    }

    @Test("A batch that expires without an answer does not make others appear twice")
    func expiredBeforeRepeats() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.batchByteCount = 100
        settings.deliveryTimeout = .seconds(10)
        let producer = Producer(client, settings)
        _ = try await producer.send(record("first"))
        // In the log, but never told.
        broker.set(FakeBroker.Faults(dropsAfter: 100))
        let second = Task { try await producer.send(self.record("second")) }
        try await Task.sleep(for: .seconds(5))
        let third = Task { try await producer.send(self.record("third")) }
        await #expect(throws: ClientError.self) { try await second.value }
        broker.set(FakeBroker.Faults())
        #expect(try await third.value.offset == Offset(2))
        #expect(try broker.values(of: 0) == ["first", "second", "third"])
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test(
        "A record that is never acknowledged fails after the delivery timeout, and the producer goes on"
    )
    func deliveryTimeout() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.deliveryTimeout = .milliseconds(300)
        let producer = Producer(client, settings)
        _ = try await producer.send(record("first"))
        broker.set(FakeBroker.Faults(refusals: 100))
        await #expect(throws: ClientError.self) { try await producer.send(record("lost")) }
        broker.set(FakeBroker.Faults())
        let place = try await producer.send(record("third"))
        #expect(place.offset == Offset(1))
        #expect(try broker.values(of: 0) == ["first", "third"])
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("The buffer has a bound, and room comes back")
    func backPressure() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.bufferByteCount = 10_000
        settings.linger = .seconds(3600)
        let producer = Producer(client, settings)
        var taken = 0
        while true {
            do throws(ClientError) {
                try producer.enqueue(record(String(repeating: "x", count: 1000)))
                taken += 1
            } catch {
                #expect(error == .bufferFull)
                break
            }
        }
        #expect((5...10).contains(taken))
        await producer.flush()
        try producer.enqueue(record("more"))
        await producer.close()
        #expect(try broker.values(of: 0).count == taken + 1)
        #expect(throws: ClientError.closed) { try producer.enqueue(record("late")) }
        await client.close()
        try await broker.stop()
    }

    @Test("When the next partition's turn comes, what the one before has does not wait for more")
    func stickyPartitions() async throws {
        let broker = try await FakeBroker.start(partitions: 3)
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.batchByteCount = 4096
        settings.linger = .seconds(3600)
        let acknowledged = Mutex(0)
        let producer = Producer(client, settings) { report in
            acknowledged.withLock { $0 += report.tags.count }
        }
        // A turn counts what records may take at most, so batches of short ones are never full when it ends.
        for _ in 0..<100 { try producer.enqueue(record(String(repeating: "x", count: 50))) }
        while acknowledged.withLock({ $0 }) < 50 { try await Task.sleep(for: .milliseconds(5)) }
        #expect(acknowledged.withLock { $0 } < 100)
        await producer.close()
        #expect(acknowledged.withLock { $0 } == 100)
        await client.close()
        try await broker.stop()
    }

    @Test("A record beyond the limit, and a partition that does not exist, are refused")
    func refusals() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        let producer = Producer(client)
        let large = record(String(repeating: "x", count: 2 << 20))
        await #expect(throws: ClientError.self) { try await producer.send(large) }
        let nowhere = NamedPartition(topic: "t", index: 9)
        await #expect(throws: ClientError.noSuchPartition(nowhere)) {
            try await producer.send(record("x", partition: 9))
        }
        await #expect(throws: ClientError.noSuchPartition(nowhere)) {
            try await producer.send(record("x", partition: 9))
        }
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test("With acks none nothing is known but that records left")
    func acksNone() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.acks = .none
        let producer = Producer(client, settings)
        for number in 0..<100 {
            let place = try await producer.send(record("\(number)"))
            #expect(place.offset == nil)
            if number > 3 { break }
        }
        await producer.close()
        await client.close()
        try await broker.stop()
    }

    @Test(
        "A consumer reads everything from where it starts, also where fetches are cut off within a batch"
    )
    func consumes() async throws {
        let broker = try await FakeBroker.start(partitions: 2)
        let client = client(broker)
        var settings = ProducerConfiguration()
        settings.batchByteCount = 2000
        settings.bufferByteCount = 64 << 20
        let producer = Producer(client, settings)
        for number in 0..<4000 {
            try producer.enqueue(
                record(
                    "\(number)-" + String(repeating: "y", count: 100),
                    partition: Int32(number % 2)
                )
            )
        }
        await producer.close()
        let consumer = try await Consumer(
            client,
            [
                NamedPartition(topic: "t", index: 0): .offset(Offset(7)),
                NamedPartition(topic: "t", index: 1): .earliest,
            ]
        )
        var read: [Int32: [Int64]] = [:]
        while (read[0]?.count ?? 0) < 1993 || (read[1]?.count ?? 0) < 2000 {
            let batch = try #require(try await consumer.next())
            read[batch.partition.index, default: []] += batch.records.map(\.offset.rawValue)
        }
        #expect(read[0] == Array(7..<2000) && read[1] == Array(0..<2000))
        try await consumer.seek(NamedPartition(topic: "t", index: 0), to: .offset(Offset(1999)))
        let last = try #require(try await consumer.next())
        #expect(last.records.map(\.offset) == [Offset(1999)])
        await client.close()
        try await broker.stop()
    }

    @Test("Nobody there is an error that may pass, and names who was asked")
    func unreachable() async throws {
        var configuration = ClientConfiguration(brokers: [BrokerAddress(host: "127.0.0.1", port: 1)]
        )
        configuration.retryTimeout = .milliseconds(200)
        let client = KafkaClient(configuration)
        let error = await #expect(throws: ClientError.self) { try await client.metadata() }
        #expect(error?.isRetriable == true)
        #expect(error?.description.contains("127.0.0.1:1") == true)
        await client.close()
    }

    @Test("A cancelled consumer ends")
    func cancellation() async throws {
        let broker = try await FakeBroker.start()
        let client = client(broker)
        let consumer = try await Consumer(client, [NamedPartition(topic: "t", index: 0): .latest])
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { _ = try await consumer.next() }
            try await Task.sleep(for: .milliseconds(50))
            group.cancelAll()
            await #expect(throws: ClientError.cancelled) { try await group.waitForAll() }
        }
        await client.close()
        try await broker.stop()
    }

    @Test(
        "A consumer reads from the replica that it is sent to, and asks the leader before it resets (KIP-392)"
    )
    func readsFromReplica() async throws {
        let broker = try await FakeBroker.start()
        broker.set(replica: 2, fetches: [.sentOn(to: 2), .records, .error(1)])
        let client = client(broker)
        let producer = Producer(client)
        let place = try await producer.send(record("a"))
        var configuration = ConsumerConfiguration()
        configuration.rack = "here"
        let consumer = try await Consumer(client, [place.partition: .earliest], configuration)
        let first = try #require(try await consumer.next())
        #expect(first.records.map(\.offset) == [Offset(0)])
        _ = try await producer.send(record("b"))
        let second = try #require(try await consumer.next())
        #expect(second.records.map(\.offset) == [Offset(1)])
        let fetches = broker.fetches
        #expect(fetches.prefix(4).map(\.offset) == [0, 0, 1, 1])
        #expect(fetches.allSatisfy { $0.rack == "here" })
        #expect(fetches[0].connection == fetches[3].connection)
        #expect(fetches[1].connection == fetches[2].connection)
        #expect(fetches[0].connection != fetches[1].connection)
        #expect(broker.requests.count { $0.hasPrefix("ListOffsets") } == 1)
        await producer.close()
        await client.close()
        try await broker.stop()
    }
}
