import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A prefix shipped by files")
struct ShippingTests {
    /// Four segments of all kinds of entries; the last one is the active one.
    static func makeLeader(large: Bool = false) throws -> LogFixture {
        let fixture = LogFixture(tailByteCount: 0)
        let members = Membership(voters: [
            GroupMember(broker: BrokerID(1), epoch: CreationEpoch(1))
        ])
        for number in 0..<20 {
            let flags: FrameFlags = number % 5 == 0 && number > 0 ? .firstOfSegment : []
            fixture.maker.time = Timestamp(fixture.maker.time.rawValue + 1)
            if number == 8 { fixture.maker.term = Term(3) }
            switch number % 5 {
            case 3 where number < 5:
                fixture.append { $0.control(.membership, payload: members.payload, flags: flags) }
            case 3 where number < 10:
                fixture.append { $0.control(.termStart, flags: flags) }
            default:
                fixture.append {
                    $0.data(
                        recordCount: number % 3 + 1,
                        valueByteCount: large ? 3_000 : 8,
                        timestamp: Timestamp(Int64(number)),
                        flags: flags
                    )
                }
            }
        }
        try fixture.commit()
        try fixture.write()
        try fixture.sync()
        return fixture
    }

    static func shipment(_ leader: LogFixture) throws -> Shipment {
        let plan = try #require(
            try leader.log.beginShipment(neededBy: LogIndex(1), now: .start)
        )
        return try plan.perform().get()
    }

    static func chunks(_ shipment: Shipment, maxByteCount: Int) throws -> [ShipmentChunk] {
        var chunks: [ShipmentChunk] = []
        var place = shipment.manifest.start
        while let next = place {
            let chunk = try shipment.read(at: next, maxByteCount: maxByteCount).perform().get()
            #expect(chunk.bytes.readableBytes <= maxByteCount)
            chunks.append(chunk)
            place = shipment.manifest.place(after: chunk)
        }
        return chunks
    }

    static func stage(
        _ manifest: ShipmentManifest,
        _ chunks: [ShipmentChunk],
        on disk: any Disk
    ) throws -> ReplicaStaging {
        let staging = ReplicaStaging(
            group: LogFixture.group,
            directory: "data",
            disk: disk,
            manifest: manifest
        )
        for chunk in chunks {
            try staging.finish(try staging.take(chunk).perform())
        }
        while let check = staging.nextCheck() {
            try staging.finish(check.perform())
        }
        return staging
    }

    /// A follower with a short log of its own that forks from the leader's, partly in the journal.
    static func makeFollower() throws -> LogFixture {
        let front = DirectoryDisk()
        let fixture = LogFixture(disk: front.memory, front: front, tailByteCount: 0)
        for number in 0..<18 {
            fixture.append {
                $0.data(valueByteCount: 20, flags: number == 2 ? .firstOfSegment : [])
            }
        }
        try fixture.commit(upTo: LogIndex(4))
        try fixture.write()
        try fixture.sync()
        return fixture
    }

    /// The follower's log is the leader's up to the shipment's end, and goes on from there.
    static func expectShipped(_ follower: LogFixture, _ leader: LogFixture) throws {
        let last = LogIndex(15)
        #expect(follower.log.lastIndex == last)
        #expect(follower.log.commitIndex == last)
        #expect(follower.log.syncedIndex == last)
        #expect(follower.log.damage.isEmpty)
        #expect(follower.log.termTable.rows.map(\.term) == [Term(1), Term(3)])
        #expect(follower.log.memberships.map(\.index) == [LogIndex(4)])
        for index in 1...15 {
            let read = try follower.readEntries(from: LogIndex(UInt64(index)), maxCount: 1)
            #expect(areEqual(read[0], leader.entries[index - 1]))
        }
        try follower.follow(Array(leader.entries[15...]))
        #expect(follower.machine == leader.machine)
        #expect(
            try follower.readAll(from: .zero) == leader.expectedBytes(from: .zero)
        )
        let report = try LogVerification(
            group: LogFixture.group,
            directory: "data",
            disk: follower.front
        ).perform()
        #expect(report.damage.isEmpty && report.entryCount == 20)
        // The states between the shipped segments stay where they are: one is enough to open from.
        let states = leader.paths(".state").dropLast()
        for path in leader.paths("") where !states.contains(path) {
            #expect(follower.directories.contents(path) == leader.disk.contents(path), "\(path)")
        }
    }

    @Test(
        "becomes the log of a replica that had another one, byte for byte",
        arguments: [7, 1 << 20]
    )
    func ships(maxByteCount: Int) throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        #expect(ShipmentManifest(parsing: shipment.manifest.bytes) == shipment.manifest)
        #expect(shipment.manifest.position == LogPosition(term: Term(3), index: LogIndex(15)))
        let chunks = try Self.chunks(shipment, maxByteCount: maxByteCount)
        #expect(
            chunks.reduce(0) { $0 + $1.bytes.readableBytes } == shipment.manifest.byteCount
        )
        let follower = try Self.makeFollower()
        let staging = try Self.stage(shipment.manifest, chunks, on: follower.front)
        let verified = try #require(staging.verified)
        #expect(verified.position == shipment.manifest.position)
        #expect(verified.membership == leader.log.memberships.last?.membership)
        follower.log.close()
        try follower.take(try staging.install().perform().get())
        try Self.expectShipped(follower, leader)
        #expect(follower.directories.paths.allSatisfy { $0.hasPrefix(LogFixture.directory + "/") })
    }

    @Test("a chunk survives the way as bytes, and one that did not is refused")
    func chunkBytes() throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        let chunk = try #require(try Self.chunks(shipment, maxByteCount: 50).last)
        var bytes = ByteBuffer()
        for var part in chunk.parts { bytes.writeBuffer(&part) }
        #expect(ShipmentChunk(parsing: bytes) == chunk)
        for position in 0..<bytes.readableBytes {
            var changed = bytes
            changed.setInteger(
                (bytes.getInteger(at: position, as: UInt8.self) ?? 0) ^ 1,
                at: position
            )
            #expect(ShipmentChunk(parsing: changed).map { !$0.isSound } ?? true)
        }
        let manifest = shipment.manifest.bytes
        for count in 0..<manifest.readableBytes {
            let cut = try #require(manifest.getSlice(at: 0, length: count))
            #expect(ShipmentManifest(parsing: cut) == nil)
        }
        let follower = try Self.makeFollower()
        let staging = ReplicaStaging(
            group: LogFixture.group,
            directory: "data",
            disk: follower.front,
            manifest: shipment.manifest
        )
        #expect(throws: StorageError.self) { try staging.take(chunk) }
        #expect(throws: StorageError.self, "a refused shipment takes nothing more") {
            try staging.take(try Self.chunks(shipment, maxByteCount: 50)[0])
        }
    }

    @Test("with any byte changed at the leader is refused, and the old log stays")
    func refused() throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        let shipped = Set(
            shipment.manifest.files.map { LogFixture.path($0.name.fileName($0.kind)) }
        )
        for path in leader.paths("") where shipped.contains(path) {
            for position in 0..<leader.disk.contents(path).readableBytes {
                leader.disk.flip(path, at: Int64(position))
                defer { leader.disk.flip(path, at: Int64(position)) }
                let disk = MemoryDisk()
                let chunks = try Self.chunks(shipment, maxByteCount: 1 << 20)
                do {
                    _ = try Self.stage(shipment.manifest, chunks, on: disk)
                    Issue.record("\(path) byte \(position) was taken")
                } catch StorageError.shipmentRefused(_, _) {
                    continue
                }
            }
        }
    }

    @Test("is refused where the manifest lies about it")
    func lyingManifest() throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        var lies = Array(repeating: shipment.manifest, count: 5)
        lies[0].checksum ^= 1
        lies[1].position.term = Term(2)
        lies[2].segments[1].logByteCount -= 1
        lies[3].segments.removeFirst()
        lies[3].segments[0].entryCount -= 1
        lies[4].segments[0].controlByteCount += 1
        for manifest in lies {
            let lie = Shipment.read(shipment, as: manifest)
            #expect(throws: StorageError.self) {
                _ = try Self.stage(manifest, try lie(), on: MemoryDisk())
            }
        }
    }

    @Test("cut off at any disk operation leaves the old log or the new one, whole")
    func crashes() throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        let chunks = try Self.chunks(shipment, maxByteCount: 300)
        var outcomes: [Bool: Int] = [:]
        for fate in 0..<5 {
            var cut = 0
            var isWhole = false
            while !isWhole {
                let follower = try Self.makeFollower()
                let journal = follower.suffix
                let old = follower.entries
                isWhole = try Self.install(shipment.manifest, chunks, on: follower, cut: cut)
                cut += 1
                switch fate {
                case 0: follower.directories.crash(.keepUnsynced)
                case 1: follower.directories.crash(.dropUnsynced)
                default: follower.directories.crash(.tear(seed: UInt64(cut * 7 + fate), grain: 512))
                }
                if cut % 2 == 0 {
                    try ReplicaStaging.settleAll(in: "data", on: follower.front)
                }
                try follower.reopen(journal)
                let isNew = follower.log.lastIndex == LogIndex(15)
                outcomes[isNew, default: 0] += 1
                if isNew {
                    #expect(follower.isJournalVoid && !follower.isEndKnown)
                    try Self.expectShipped(follower, leader)
                } else {
                    #expect(!isWhole, "an installed log stays")
                    #expect(follower.log.damage.isEmpty && follower.isEndKnown)
                    #expect(follower.log.lastIndex == old.last?.frame.index)
                    for entry in old {
                        let read = try follower.readEntries(from: entry.frame.index, maxCount: 1)
                        #expect(areEqual(read[0], entry))
                    }
                }
                #expect(
                    !follower.directories.paths.contains {
                        $0.contains(".receiving/") || $0.contains(".install/")
                    }
                )
            }
        }
        #expect((outcomes[true] ?? 0) > 20 && (outcomes[false] ?? 0) > 100, "\(outcomes)")
    }

    /// Receives and installs up to the disk operation `cut`; whether it came to the end.
    private static func install(
        _ manifest: ShipmentManifest,
        _ chunks: [ShipmentChunk],
        on follower: LogFixture,
        cut: Int
    ) throws -> Bool {
        var count = 0
        follower.disk.fault = { _ in
            count += 1
            return count > cut ? .failed(operation: "cut", path: "", errno: 5) : nil
        }
        defer { follower.disk.fault = nil }
        do {
            let staging = try stage(manifest, chunks, on: follower.front)
            follower.log.close()
            _ = try staging.install().perform().get()
            return true
        } catch is StorageError {
            return false
        }
    }

    @Test("an installation that failed half way goes on when it is performed again")
    func performedAgain() throws {
        let leader = try Self.makeLeader()
        let shipment = try Self.shipment(leader)
        let follower = try Self.makeFollower()
        let chunks = try Self.chunks(shipment, maxByteCount: 1 << 20)
        let staging = try Self.stage(shipment.manifest, chunks, on: follower.front)
        follower.log.close()
        let install = staging.install()
        var attempt = 0
        while true {
            var count = 0
            follower.disk.fault = { _ in
                count += 1
                return count > attempt ? .failed(operation: "cut", path: "", errno: 5) : nil
            }
            let result = install.perform()
            follower.disk.fault = nil
            attempt += 1
            guard case .success(let recovered) = result else { continue }
            try follower.take(recovered)
            break
        }
        #expect(attempt > 6)
        try Self.expectShipped(follower, leader)
    }

    @Test("a full disk refuses the shipment before the first byte, and it can be thrown away")
    func fullDisk() throws {
        let leader = try Self.makeLeader(large: true)
        let shipment = try Self.shipment(leader)
        let follower = try Self.makeFollower()
        follower.disk.capacity = follower.disk.usedByteCount + 10_000
        let chunks = try Self.chunks(shipment, maxByteCount: 1_000)
        let paths = follower.directories.paths
        do {
            _ = try Self.stage(shipment.manifest, chunks, on: follower.front)
            Issue.record("there is no room")
        } catch StorageError.volumeFull(_, let needed, _) {
            #expect(needed == shipment.manifest.byteCount)
        }
        #expect(follower.directories.paths == paths)
        follower.disk.capacity = .max
        let staging = ReplicaStaging(
            group: LogFixture.group,
            directory: "data",
            disk: follower.front,
            manifest: shipment.manifest
        )
        try staging.finish(try staging.take(chunks[0]).perform())
        #expect(follower.directories.paths.count == paths.count + 1)
        try staging.discard().perform().get()
        #expect(follower.directories.paths == paths)
    }

    @Test("keeps its segments from retention, for a time")
    func leases() throws {
        let leader = try Self.makeLeader()
        let log = leader.log
        let shipment = try Self.shipment(leader)
        try leader.moveStart(to: try #require(leader.entries.last).frame.baseOffset)
        try leader.write()
        try leader.sync()
        let limit = Instant.start + PartitionLog.shipmentLease
        #expect(log.nextRemoval(keepingFrom: log.lastIndex) == nil)
        #expect(log.renewShipment(shipment.number, now: .start + .seconds(30)))
        log.expireShipments(now: limit)
        #expect(log.nextRemoval(keepingFrom: log.lastIndex) == nil)
        _ = try Self.chunks(shipment, maxByteCount: 100)
        log.expireShipments(now: limit + .seconds(30))
        #expect(!log.renewShipment(shipment.number, now: limit + .seconds(30)))
        let removal = try #require(log.nextRemoval(keepingFrom: log.lastIndex))
        try removal.perform().get()
        #expect(throws: StorageError.self) { try Self.chunks(shipment, maxByteCount: 100) }
        var plans: [ShipmentPlan] = []
        while let plan = try log.beginShipment(neededBy: LogIndex(1), now: limit) {
            plans.append(plan)
        }
        #expect(plans.count == PartitionLog.maximumShipmentCount)
        log.endShipment(plans[0].number)
        #expect(try log.beginShipment(neededBy: LogIndex(15), now: limit) != nil)
        log.endShipment(plans[1].number)
        #expect(try log.beginShipment(neededBy: LogIndex(16), now: limit) == nil, "entries do it")
    }

    @Test("of which retention left nothing but the state opens a log without entries")
    func stateOnly() throws {
        let leader = try Self.makeLeader()
        try leader.moveStart(to: leader.entries[15].frame.baseOffset)
        try leader.write()
        try leader.sync()
        let shipment = try Self.shipment(leader)
        #expect(shipment.manifest.segments.isEmpty)
        let follower = try Self.makeFollower()
        let staging = try Self.stage(
            shipment.manifest,
            try Self.chunks(shipment, maxByteCount: 1 << 20),
            on: follower.front
        )
        follower.log.close()
        try follower.take(try staging.install().perform().get())
        #expect(follower.log.firstIndex == LogIndex(16) && follower.log.lastIndex == LogIndex(15))
        try follower.follow(Array(leader.entries[15...]))
        #expect(follower.machine == leader.machine)
        let start = leader.log.logStartOffset
        #expect(follower.log.logStartOffset == start)
        #expect(try follower.readAll(from: start) == leader.expectedBytes(from: start))
        try follower.reopen(JournalSuffix(lastIndex: follower.log.lastIndex))
        try follower.commit()
        #expect(follower.log.lastIndex == leader.log.lastIndex && follower.log.damage.isEmpty)
    }
}

extension Shipment {
    /// Reads what a manifest claims from the files of a true one.
    fileprivate static func read(_ shipment: Shipment, as manifest: ShipmentManifest)
        -> () throws -> [ShipmentChunk]
    {
        {
            try manifest.files.enumerated().compactMap { number, file in
                guard file.byteCount > 0 else { return nil }
                let true_ = shipment.manifest.files.firstIndex {
                    $0.name == file.name && $0.kind == file.kind
                }
                var bytes = ByteBuffer()
                if let true_, shipment.manifest.files[true_].byteCount > 0 {
                    bytes = try shipment.read(
                        at: ShipmentPlace(file: true_, position: 0),
                        maxByteCount: file.byteCount
                    ).perform().get().bytes
                }
                bytes.writeRepeatingByte(0, count: file.byteCount - bytes.readableBytes)
                return ShipmentChunk(place: ShipmentPlace(file: number, position: 0), bytes: bytes)
            }
        }
    }
}

extension LogFixture {
    /// The disk of a follower.
    fileprivate var directories: DirectoryDisk {
        guard let directories = front as? DirectoryDisk else {
            preconditionFailure("a follower's directories are tracked")
        }
        return directories
    }
}
