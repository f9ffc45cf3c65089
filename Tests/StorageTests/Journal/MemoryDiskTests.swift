import FlotillaEnvironment
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("The disk in memory")
struct MemoryDiskTests {
    private func bytes(_ text: String) -> ByteBuffer {
        var buffer = ByteBuffer()
        buffer.writeString(text)
        return buffer
    }

    @Test("a crash drops what was not synced")
    func dropsUnsynced() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/data")
        let file = try disk.open("/data/a", .createNew)
        try file.write([bytes("kept")], at: 0)
        try file.sync()
        try disk.syncDirectory("/data")
        try file.write([bytes("lost")], at: 2)
        _ = try disk.open("/data/b", .createNew)
        disk.crash(.dropUnsynced)
        #expect(throws: DiskError.self) { try file.read(at: 0, count: 4) }
        #expect(try disk.list("/data") == ["a"])
        #expect(try disk.open("/data/a", .read).read(at: 0, count: 9) == bytes("kept"))
    }

    @Test("a name is lost with its content when its directory was not synced")
    func dropsNames() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/data")
        let file = try disk.open("/data/a", .createNew)
        try file.sync()
        disk.crash(.dropUnsynced)
        #expect(try disk.exists("/data/a") == false)
    }

    @Test("a directory is lost with all in it when the one above was not synced")
    func dropsDirectories() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/opt/made")
        try disk.createLastingDirectory("/srv/lasting/data")
        for directory in ["/opt/made", "/srv/lasting/data"] {
            try disk.open("\(directory)/a", .createNew).sync()
            try disk.syncDirectory(directory)
        }
        disk.crash(.dropUnsynced)
        #expect(disk.paths == ["/srv/lasting/data/a"])
        #expect(try !disk.exists("/opt/made"))
    }

    @Test("a directory that an earlier life made and did not sync is made lasting too")
    func makesLasting() throws {
        let disk = MemoryDisk()
        try disk.createDirectory("/srv/data")
        disk.crash(.keepUnsynced)
        try disk.createLastingDirectory("/srv/data")
        disk.crash(.dropUnsynced)
        #expect(try disk.exists("/srv/data"))
    }

    @Test("a tear keeps some blocks and loses others")
    func tears() throws {
        var outcomes: Set<[UInt8]> = []
        for seed in 0..<40 {
            let disk = MemoryDisk()
            try disk.createDirectory("/data")
            let file = try disk.open("/data/a", .createNew)
            try file.write([ByteBuffer(repeating: 1, count: 1024)], at: 0)
            try file.sync()
            try disk.syncDirectory("/data")
            try file.write([ByteBuffer(repeating: 2, count: 1024)], at: 0)
            disk.crash(.tear(seed: UInt64(seed), grain: 512))
            let content = disk.contents("/data/a")
            outcomes.insert([content.getInteger(at: 0) ?? 0, content.getInteger(at: 1023) ?? 0])
        }
        #expect(outcomes == [[1, 1], [1, 2], [2, 1], [2, 2]])
    }

    @Test("a full disk refuses to grow")
    func refusesGrowth() throws {
        let disk = MemoryDisk()
        disk.capacity = 8192
        try disk.createDirectory("/data")
        let file = try disk.open("/data/a", .createNew)
        try file.allocate(0..<4096)
        #expect(throws: DiskError.noSpace(path: "/data/a")) { try file.truncate(to: 8193) }
        try file.write([ByteBuffer(repeating: 7, count: 4096)], at: 4096)
    }
}
