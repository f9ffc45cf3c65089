import CFlotilla
import FlotillaEnvironment
import FlotillaServer
import Glibc
import Testing

import struct NIOCore.ByteBuffer

@Suite("The machine's disk")
struct PosixDiskTests {
    let scratch: Scratch
    var disk: PosixDisk { scratch.disk }

    init() throws {
        scratch = try Scratch()
    }

    @Test(
        "What many small buffers wrote is read back in order, beyond the kernel's limit of pieces"
    )
    func manyPieces() throws {
        let file = try disk.open(scratch.file("log"), .createNew)
        let pieces = (0..<3000).map { ByteBuffer(string: "piece \($0);") }
        try file.write([ByteBuffer(string: "head;"), ByteBuffer()] + pieces, at: 7)
        try file.sync()
        let expected = "head;" + (0..<3000).map { "piece \($0);" }.joined()
        #expect(try file.byteCount() == Int64(7 + expected.utf8.count))
        #expect(String(buffer: try file.read(at: 7, count: 1 << 20)) == expected)
        #expect(try file.read(at: 0, count: 7) == ByteBuffer(repeating: 0, count: 7))
    }

    @Test("After a short write the rest starts inside the piece that was cut", arguments: 0...9)
    func shortWrite(written: Int) {
        // Safe: the addresses are compared, never followed.
        let address = unsafe UnsafeRawPointer(bitPattern: 4096)
        var pieces = unsafe [3, 2, 4].map { unsafe flotilla_piece(base: address, count: $0) }
        var first = 0
        unsafe PosixFile.advance(&pieces, &first, by: written)
        let left = unsafe pieces[first...].reduce(0) { unsafe $0 + $1.count }
        #expect(left == 9 - written)
        if written == 4 {
            let isInside = unsafe pieces[1].base == address?.advanced(by: 1)
            #expect(isInside && first == 1)
        }
    }

    @Test("A read ends where the file ends")
    func endOfFile() throws {
        let file = try disk.open(scratch.file("log"), .create)
        try file.write([ByteBuffer(string: "0123456789")], at: 0)
        #expect(String(buffer: try file.read(at: 6, count: 100)) == "6789")
        #expect(try file.read(at: 10, count: 1).readableBytes == 0)
        #expect(try file.read(at: 2000, count: 1).readableBytes == 0)
    }

    @Test(
        "Reads past the page cache give the same bytes, from any position",
        arguments: [0, 1, 4095, 4096, 1_048_570]
    )
    func uncached(position: Int) throws {
        let file = try disk.open(scratch.file("log"), .create)
        let bytes = (0..<1_200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
        try file.write([ByteBuffer(bytes: bytes)], at: 0)
        for count in [0, 1, 5000, 2_000_000] {
            let expected = bytes[position..<min(position + count, bytes.count)]
            let read = try file.readUncached(at: Int64(position), count: count)
            #expect(read == ByteBuffer(bytes: expected), "count \(count)")
        }
    }

    @Test("Each mode of opening minds what is there")
    func openModes() throws {
        let path = scratch.file("file")
        #expect(throws: DiskError.notFound(path: path)) { try disk.open(path, .read) }
        #expect(throws: DiskError.notFound(path: path)) { try disk.open(path, .readWrite) }
        _ = try disk.open(path, .createNew)
        #expect(throws: DiskError.exists(path: path)) { try disk.open(path, .createNew) }
        let file = try disk.open(path, .read)
        #expect(throws: DiskError.self) { try file.write([ByteBuffer(string: "x")], at: 0) }
        #expect(file.descriptor != nil)
    }

    @Test("A disk without room says so")
    func noSpace() throws {
        let full = try disk.open("/dev/full", .readWrite)
        #expect(throws: DiskError.noSpace(path: "/dev/full")) {
            try full.write([ByteBuffer(string: "x")], at: 0)
        }
    }

    @Test("Files are cut, extended and reserved")
    func lengths() throws {
        let file = try disk.open(scratch.file("file"), .create)
        try file.allocate(0..<65536)
        #expect(try file.byteCount() == 65536)
        try file.truncate(to: 10)
        #expect(try file.byteCount() == 10)
        try file.allocate(10..<10)
        #expect(try file.byteCount() == 10)
        try file.startWriteback(0..<10)
    }

    @Test("A mapping shows what was written, and no page beyond the file")
    func mapping() throws {
        let file = try disk.open(scratch.file("file"), .create)
        try file.write([ByteBuffer(repeating: 7, count: 5000), ByteBuffer(string: "end")], at: 0)
        #expect(throws: DiskError.self) { try file.map(0..<5004) }
        #expect(throws: DiskError.self) { try file.map(4096..<4096) }
        let mapping = try file.map(4096..<5003)
        #expect(mapping.byteCount == 907)
        try mapping.populate(0..<907)
        #expect(mapping.isResident(100..<907))
        #expect(mapping.isResident(5..<5))
        #expect(String(buffer: mapping.buffer(904..<907)) == "end")
        let sum = mapping.withBytes(0..<904) { bytes in
            (0..<bytes.byteCount).reduce(0) {
                $0 + Int(unsafe bytes.unsafeLoad(fromByteOffset: $1, as: UInt8.self))
            }
        }
        #expect(sum == 904 * 7)
    }

    @Test("Directories are made with those above them, listed by bytes, and removed as trees")
    func directories() throws {
        let inner = scratch.file("a/b/c")
        try disk.createDirectory(inner)
        try disk.createDirectory(inner)
        for name in ["z", "B", "a"] {
            _ = try disk.open("\(inner)/\(name)", .createNew)
        }
        #expect(try disk.list(inner) == ["B", "a", "z"])
        try disk.syncDirectory(inner)
        #expect(throws: DiskError.exists(path: "\(inner)/z")) {
            try disk.createDirectory("\(inner)/z")
        }
        try disk.removeTree(scratch.file("a"))
        try disk.removeTree(scratch.file("a"))
        #expect(try !disk.exists(scratch.file("a")))
        #expect(throws: DiskError.notFound(path: inner)) { try disk.list(inner) }
    }

    @Test("Removing a tree does not follow a link out of it")
    func links() throws {
        let kept = scratch.file("kept")
        try disk.createDirectory(kept)
        _ = try disk.open(kept + "/file", .createNew)
        try disk.createDirectory(scratch.file("tree"))
        let linked = unsafe symlink(kept, scratch.file("tree/link"))
        #expect(linked == 0)
        try disk.removeTree(scratch.file("tree"))
        #expect(try disk.exists(kept + "/file"))
    }

    @Test("A rename replaces its target, and removing nothing is fine")
    func renames() throws {
        let (old, new) = (scratch.file("old"), scratch.file("new"))
        try disk.open(old, .create).write([ByteBuffer(string: "old")], at: 0)
        try disk.open(new, .create).write([ByteBuffer(string: "new")], at: 0)
        try disk.rename(old, to: new)
        #expect(try disk.exists(old) == false)
        #expect(String(buffer: try disk.open(new, .read).read(at: 0, count: 3)) == "old")
        try disk.remove(new)
        try disk.remove(new)
        #expect(throws: DiskError.notFound(path: old)) { try disk.rename(old, to: new) }
    }

    @Test("A file system has room, and not more than its size")
    func space() throws {
        let space = try disk.space(at: scratch.path)
        #expect(space.freeByteCount > 0 && space.freeByteCount <= space.totalByteCount)
        #expect(throws: DiskError.self) { try disk.space(at: scratch.file("missing")) }
    }
}
