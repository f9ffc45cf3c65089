@testable import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage
import FlotillaSimulation
import Testing
import struct NIOCore.ByteBuffer

/// Promise 4, corrupt is not absent: bytes are changed behind the brokers' backs, and come back from the other replicas.
@Suite("Healing")
struct HealingTests {
    private static let noScrub = ConfigEntry("log.scrub.bytes.per.second", "0")

    /// A cluster with one partition of several segments on three brokers, all of them stopped.
    private final class Stage {
        let cluster: TestCluster
        let topic: TopicID
        let values: [Int64: String]

        init(batchCount: Int = 9, configs: [ConfigEntry] = []) throws {
            cluster = try TestCluster(3, configs: configs)
            topic = try cluster.connect(to: 0).createTopic(
                replicas: 3,
                configs: [("segment.bytes", "1048576"), ("compression.type", "producer")]
            )
            cluster.advance(by: .seconds(2))
            let client = cluster.connect(to: try #require(cluster.leaders(topic).first))
            var values: [Int64: String] = [:]
            for number in 0..<batchCount {
                let value = "\(number)" + String(repeating: "v", count: 300_000)
                let answer = try client.produce(Batches.batch(value))
                try #require(answer.errorCode == 0)
                values[answer.baseOffset] = value
            }
            // Something for the file of what is no record.
            _ = try client.deleteRecords(before: 1)
            values[0] = nil
            self.values = values
            cluster.advance(by: .seconds(3))
            for place in 0..<3 { try cluster.stop(place) }
        }

        /// The files of a suffix that the partition has on a broker, in order.
        func files(_ suffix: String, at place: Int) -> [String] {
            disk(place).paths.filter { $0.contains("/\(topic)-0.") && $0.hasSuffix(suffix) }
                .sorted()
        }

        func disk(_ place: Int) -> MemoryDisk { cluster.brokers[place].disk }

        func start(_ places: [Int] = [0, 1, 2]) throws {
            for place in places { try cluster.restart(place, after: .keepUnsynced) }
        }

        func repairs(at place: Int) -> Int {
            cluster.brokers[place].shards.reduce(0) { $0 + $1.statistics.repairs }
        }

        func damagedRangeCount(at place: Int) -> Int {
            cluster.brokers[place].shards.reduce(0) { $0 + $1.statistics.damagedRangeCount }
        }

        /// Waits until the brokers have healed something and know of no damage.
        func waitUntilHealed(_ places: [Int]) -> Bool {
            cluster.wait(.seconds(110)) {
                places.allSatisfy { repairs(at: $0) > 0 && damagedRangeCount(at: $0) == 0 }
            }
        }

        /// What a client reads from whoever leads.
        func read() throws -> [Int64: String] {
            var found: [Int64: String] = [:]
            var offset: Int64 = 1
            while values[offset] != nil {
                try #require(cluster.wait { !cluster.leaders(topic).isEmpty })
                let client = cluster.connect(to: cluster.leaders(topic)[0])
                let values = try client.read(from: offset)
                guard let last = values.keys.max() else { break }
                found.merge(values) { _, new in new }
                offset = last + 1
            }
            return found
        }

        /// Expects that the partition's files begin with what they held, and are the same on all brokers where they ended.
        func expectWhole(_ before: [[String: ByteBuffer]], _ note: String) {
            for (place, files) in before.enumerated() {
                for (path, content) in files {
                    // A checkpoint gives way to the next one.
                    guard disk(place).paths.contains(path) else {
                        #expect(path.hasSuffix(".state"), "\(note): \(path) is gone at \(place)")
                        continue
                    }
                    let now = disk(place).contents(path).getSlice(
                        at: 0,
                        length: min(content.readableBytes, disk(place).contents(path).readableBytes)
                    )
                    #expect(now == content, "\(note): \(path) at \(place)")
                }
            }
        }

        func snapshot() -> [[String: ByteBuffer]] {
            (0..<3).map { place in
                Dictionary(
                    uniqueKeysWithValues: files("", at: place).map {
                        ($0, disk(place).contents($0))
                    }
                )
            }
        }

        func events(_ place: Int) -> [BrokerEvent] { cluster.brokers[place].events }

        func isLost(at place: Int) -> Bool {
            events(place).contains { if case .unhealed(_, _, true) = $0 { true } else { false } }
        }
    }

    /// Where a byte is changed.
    enum Place: String, CaseIterable {
        case payload, batchHead, control, frame, appendTime, row, header, state, checkpoint

        /// The file's suffix, and the byte in it.
        var site: (suffix: String, position: Int64) {
            switch self {
            case .payload: (".log", 150_000)
            case .batchHead: (".log", 3)
            case .control: (".control", 2)
            case .frame: (".frames", 64 + 64 + 33)
            case .appendTime: (".frames", 64 + 64 + 44)
            case .row: (".frames", 64 + 64 + 52)
            case .header: (".frames", 30)
            case .state, .checkpoint: (".state", 130)
            }
        }
    }

    private func flip(_ site: Place, of stage: Stage, at place: Int) throws {
        let files = stage.files(site.site.suffix, at: place)
        let file =
            switch site {
            case .control: files.last { stage.disk(place).contents($0).readableBytes > 2 }
            case .checkpoint: files.last
            case .payload, .batchHead, .frame, .appendTime, .row, .header, .state: files.first
            }
        stage.disk(place).flip(try #require(file), at: site.site.position)
    }

    @Test("A changed byte of any kind of file is found and healed", arguments: Place.allCases)
    func oneByte(site: Place) throws {
        let stage = try Stage()
        let before = stage.snapshot()
        try flip(site, of: stage, at: 1)
        try stage.start()
        #expect(stage.cluster.brokers[1].suspects.isEmpty, "damage costs no vote")
        #expect(stage.waitUntilHealed([1]))
        stage.expectWhole(before, site.rawValue)
        #expect(try stage.read() == stage.values)
        #expect(!stage.events(1).contains { if case .unhealed = $0 { true } else { false } })
        for place in 0..<3 { #expect(stage.cluster.brokers[place].failures.isEmpty) }
        #expect(stage.repairs(at: 0) == 0 && stage.repairs(at: 2) == 0)
    }

    @Test("a replica that cannot be opened gives way to a new member, and the journal lets it go")
    func unreadable() throws {
        let cluster = try TestCluster()
        let topic = try cluster.connect(to: 0).createTopic(
            replicas: 3,
            configs: [
                ("segment.bytes", "1048576"), ("retention.bytes", "1048576"),
                ("compression.type", "producer"),
            ]
        )
        cluster.advance(by: .seconds(2))
        let client = cluster.connect(to: try #require(cluster.leaders(topic).first))
        for _ in 0..<10 { _ = try client.produce(Batches.large(400_000)) }
        // Without its first segments a log cannot do without a state.
        cluster.advance(by: .seconds(70))
        for place in 0..<3 { try cluster.stop(place) }
        let disk = cluster.brokers[1].disk
        func files(_ suffix: String) -> Set<String> {
            Set(disk.paths.filter { $0.contains("/\(topic)-0.") && $0.hasSuffix(suffix) })
        }
        let old = files(".log")
        for file in files(".state") { disk.flip(file, at: 130) }
        for place in 0..<3 { try cluster.restart(place, after: .keepUnsynced) }
        #expect(
            cluster.wait(.seconds(60)) {
                guard let leader = cluster.leaders(topic).first,
                    let end = cluster.partition(topic, at: leader)?.replica.log.logEndOffset
                else { return false }
                return !files(".log").isEmpty && files(".log").isDisjoint(with: old)
                    && cluster.partition(topic, at: 1)?.replica.log.logEndOffset == end
            }
        )
        let isRenewed = cluster.brokers[1].events.contains {
            if case .renewing = $0 { true } else { false }
        }
        #expect(isRenewed)
    }

    @Test(
        "Files that are gone come back",
        arguments: [
            (".log", 0), (".log", 1), (".log", 2), (".control", 0), (".control", 2), (".frames", 1),
            (".frames", 2),
        ]
    )
    func goneFile(suffix: String, number: Int) throws {
        let stage = try Stage()
        let before = stage.snapshot()
        let files = stage.files(suffix, at: 1)
        #expect(files.count == 3)
        try stage.disk(1).remove(files[number])
        try stage.start()
        #expect(stage.waitUntilHealed([1]))
        stage.expectWhole(before, suffix)
        #expect(try stage.read() == stage.values)
    }

    @Test("Damage in different places of two replicas is healed in both")
    func differentPlaces() throws {
        let stage = try Stage()
        let before = stage.snapshot()
        for place in 0..<2 {
            let file = stage.files(".log", at: place)[0]
            // Neighbours: neither of the two has both.
            stage.disk(place).flip(file, at: 100_000 + 300_000 * Int64(place))
        }
        stage.disk(0).flip(stage.files(".frames", at: 0)[1], at: 64 + 44)
        try stage.start()
        #expect(stage.waitUntilHealed([0, 1]))
        stage.expectWhole(before, "different places")
        #expect(try stage.read() == stage.values)
    }

    @Test("Damage in the same place of two replicas is refilled from the third")
    func samePlace() throws {
        let stage = try Stage()
        let before = stage.snapshot()
        for place in [0, 2] { try flip(.payload, of: stage, at: place) }
        try stage.start()
        #expect(stage.waitUntilHealed([0, 2]))
        stage.expectWhole(before, "same place")
        #expect(try stage.read() == stage.values)
    }

    @Test(
        "What no replica has is told, nothing is invented, the rest is served, and a replica that has it heals all"
    )
    func everywhere() throws {
        let stage = try Stage()
        let before = stage.snapshot()
        for place in 0..<3 {
            stage.disk(place).flip(stage.files(".log", at: place)[1], at: 150_000)
        }
        let damaged = stage.snapshot()
        try stage.start()
        let cluster = stage.cluster
        #expect(cluster.wait(.seconds(110)) { (0..<3).allSatisfy { stage.isLost(at: $0) } })
        for place in 0..<3 {
            #expect(
                cluster.brokers[place].shards.contains {
                    $0.whatIsMissing?.contains("no replica has") == true
                }
            )
            #expect(cluster.brokers[place].shards.contains { $0.statistics.lostReplicaCount == 1 })
            #expect(stage.repairs(at: place) == 0)
        }
        stage.expectWhole(damaged, "nothing is invented")
        var lost: [Int64] = []
        for (offset, value) in stage.values {
            try #require(cluster.wait { !cluster.leaders(stage.topic).isEmpty })
            let client = cluster.connect(to: cluster.leaders(stage.topic)[0])
            let part = try client.fetch(TestClient.fetchRequest(from: offset))
            if part.error == .kafkaStorageError {
                lost.append(offset)
            } else {
                #expect(try part.values()[offset] == value)
            }
        }
        #expect(lost.count == 1)
        let questions = cluster.sentCount
        cluster.advance(by: .seconds(100))
        // Beats and their answers are 120 a second.
        #expect(cluster.sentCount - questions < 100 * 130, "nobody is asked without a pause")
        // Somebody finds a disk with a good copy.
        try cluster.stop(1)
        stage.disk(1).flip(stage.files(".log", at: 1)[1], at: 150_000)
        try stage.start([1])
        #expect(stage.waitUntilHealed([0, 2]))
        stage.expectWhole(before, "healed after all")
        #expect(try stage.read() == stage.values)
        for place in 0..<3 {
            #expect(cluster.brokers[place].shards.allSatisfy { $0.whatIsMissing == nil })
        }
    }

    @Test("A leader that reads damage gives leadership away, and readers go on")
    func leader() throws {
        let stage = try Stage(configs: [Self.noScrub])
        let before = stage.snapshot()
        try stage.start()
        let cluster = stage.cluster
        try #require(cluster.wait { !cluster.leaders(stage.topic).isEmpty })
        cluster.advance(by: .seconds(30))
        let leader = cluster.leaders(stage.topic)[0]
        stage.disk(leader).flip(stage.files(".log", at: leader)[0], at: 400_000)
        let client = cluster.connect(to: leader)
        #expect(try client.fetch(TestClient.fetchRequest(from: 1)).error == .kafkaStorageError)
        #expect(cluster.wait(.seconds(2)) { !cluster.leaders(stage.topic).contains(leader) })
        #expect(try stage.read() == stage.values)
        #expect(stage.waitUntilHealed([leader]))
        stage.expectWhole(before, "leader")
    }

    @Test("A replica that cannot apply is healed and goes on applying", arguments: [false, true])
    func obstacle(isEverywhere: Bool) throws {
        // Enough for the journal to let the first segments go.
        let stage = try Stage(batchCount: 24, configs: [Self.noScrub])
        let before = stage.snapshot()
        for place in isEverywhere ? [0, 1, 2] : [1] {
            // Without later states all but the first segment is replayed, and there lies what cannot be read.
            for file in stage.files(".state", at: place).dropFirst() {
                stage.disk(place).flip(file, at: 130)
            }
            stage.disk(place).flip(stage.files(".log", at: place)[1], at: 100_000)
        }
        try stage.start()
        let cluster = stage.cluster
        if isEverywhere {
            #expect(cluster.wait(.seconds(110)) { (0..<3).allSatisfy { stage.isLost(at: $0) } })
            #expect(cluster.leaders(stage.topic).isEmpty, "who lacks records does not lead")
            #expect(cluster.brokers[0].shards.contains { $0.whatIsMissing != nil })
            return
        }
        #expect(stage.waitUntilHealed([1]))
        stage.expectWhole(before, "obstacle")
        #expect(try stage.read() == stage.values)
        let replica = try #require(cluster.partition(stage.topic, at: 1)?.replica)
        #expect(cluster.wait { replica.appliedIndex == replica.log.lastIndex })
    }

    /// Files that are gone when a broker starts.
    enum Absence: String, CaseIterable {
        case lastFrames, lastRows, lastSegment, middleSegment, firstSegment, all

        func takes(_ file: String, of segments: [String]) -> Bool {
            let place = segments.firstIndex { file.hasPrefix($0) }
            return switch self {
            case .lastFrames: file == segments[segments.count - 1] + ".frames"
            case .lastRows: place == segments.count - 1 && !file.hasSuffix(".state")
            case .lastSegment: place == segments.count - 1
            case .middleSegment: place == 1
            case .firstSegment: place == 0
            case .all: true
            }
        }
    }

    @Test(
        "A replica whose files are gone is whole again, in its place or as a new member",
        arguments: Absence.allCases
    )
    func absentFiles(_ absence: Absence) throws {
        let stage = try Stage(batchCount: 24, configs: [Self.noScrub])
        let segments = stage.files(".frames", at: 1).map { String($0.dropLast(".frames".count)) }
        try #require(segments.count > 2)
        for file in stage.files("", at: 1) where absence.takes(file, of: segments) {
            try stage.disk(1).remove(file)
        }
        try stage.start()
        let cluster = stage.cluster
        let isWhole = cluster.wait(.seconds(110)) {
            guard let leader = cluster.leaders(stage.topic).first,
                let replica = cluster.partition(stage.topic, at: 1)?.replica,
                let other = cluster.partition(stage.topic, at: leader)?.replica
            else { return false }
            return replica.obstacle == nil && replica.log.damage.isEmpty
                && replica.appliedIndex == other.log.lastIndex
                && replica.membership.isVoter(replica.member)
        }
        let replica = cluster.partition(stage.topic, at: 1)?.replica
        #expect(
            isWhole,
            "\(cluster.leaders(stage.topic)) \(stage.events(1)) \(String(describing: replica?.log.damage))"
        )
        #expect(try stage.read() == stage.values)
    }

    @Test("The metadata's replica is healed as well")
    func metadata() throws {
        let stage = try Stage()
        let file = try #require(
            stage.disk(2).paths.filter {
                $0.contains("/\(TopicPartition.clusterMetadata).") && $0.hasSuffix(".log")
            }.first
        )
        let before = stage.disk(2).contents(file)
        stage.disk(2).flip(file, at: 100)
        try stage.start()
        #expect(stage.waitUntilHealed([2]))
        let now = stage.disk(2).contents(file).getSlice(at: 0, length: before.readableBytes)
        #expect(now == before)
    }

    // MARK: Alone

    @Test("Alone, a broker heals what is left, and says what is not")
    func alone() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let topic = try client.createTopic(configs: [
            ("segment.bytes", "1048576"), ("compression.type", "producer"),
        ])
        for number in 0..<9 {
            try client.produce(Batches.batch("\(number)" + String(repeating: "v", count: 300_000)))
        }
        broker.advance(by: .seconds(3))
        try broker.stopCleanly()
        let files = broker.disk.paths.filter { $0.contains("/\(topic)-0.") }.sorted()
        let frames = files.filter { $0.hasSuffix(".frames") }
        let logs = files.filter { $0.hasSuffix(".log") }
        let before = files.map { broker.disk.contents($0) }
        broker.disk.flip(frames[0], at: 64 + 64 + 52)
        broker.disk.flip(frames[1], at: 20)
        broker.disk.flip(logs[2], at: 20_000)
        try broker.restart(after: .keepUnsynced)
        broker.advance(by: .seconds(60))
        let repairs = broker.shards.reduce(0) { $0 + $1.statistics.repairs }
        #expect(repairs == 2)
        for (file, content) in zip(files, before) where file != logs[2] && !file.hasSuffix(".state")
        {
            // The last segment grows.
            let now = broker.disk.contents(file).getSlice(at: 0, length: content.readableBytes)
            #expect(now == content, "\(file)")
        }
        #expect(broker.shards.allSatisfy { $0.whatIsMissing == nil })
        let reader = try broker.connect()
        let answers = try (Int64(0)..<9).map {
            try reader.fetch(TestClient.fetchRequest(from: $0)).error
        }
        #expect(answers.count { $0 == .kafkaStorageError } == 1)
        #expect(answers.count { $0 == .noError } == 8)
        let lost = broker.events.filter {
            if case .unhealed(_, _, true) = $0 { true } else { false }
        }
        #expect(lost.count == 1, "told once, however often it is tried")
    }

    @Test("Alone, a replica that cannot apply is healed from what is left, and serves")
    func aloneObstacle() throws {
        let broker = try TestBroker()
        let client = try broker.connect()
        let topic = try client.createTopic()
        for number in 0..<9 { try client.produce(Batches.batch("\(number)")) }
        broker.advance(by: .seconds(3))
        try broker.stopCleanly()
        let files = broker.disk.paths.filter { $0.contains("/\(topic)-0.") }
        let frames = try #require(files.first { $0.hasSuffix(".frames") })
        broker.disk.flip(try #require(files.first { $0.hasSuffix(".state") }), at: 130)
        broker.disk.flip(frames, at: 64 + 3 * 64 + 2)
        try broker.restart(after: .keepUnsynced)
        broker.advance(by: .seconds(30))
        #expect(try broker.connect().produce(Batches.batch("more")).baseOffset == 9)
        #expect(try broker.connect().read().count == 10)
        #expect(broker.shards.allSatisfy { $0.statistics.damagedRangeCount == 0 })
    }
}
