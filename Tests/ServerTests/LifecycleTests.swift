import FlotillaEnvironment
import FlotillaServer
import Testing

@Suite("A broker's life")
struct LifecycleTests {
    @Test("One broker uses a directory at a time, and the next may when it has gone")
    func lock() throws {
        let scratch = try Scratch()
        let directory = scratch.file("data")
        do {
            let first = try DataDirectoryLock(directory: directory)
            let error = #expect(throws: DataDirectoryError.self) {
                try DataDirectoryLock(directory: directory)
            }
            #expect(error.map { "\($0)".contains("in use by another broker (process ") } == true)
            extendLifetime(first)
        }
        extendLifetime(try DataDirectoryLock(directory: directory))
        #expect(try scratch.disk.list(directory) == ["LOCK"])
    }

    @Test("A directory that cannot be made says why")
    func lockInFile() throws {
        let scratch = try Scratch()
        _ = try scratch.disk.open(scratch.file("file"), .createNew)
        #expect(throws: DataDirectoryError.disk(.exists(path: scratch.file("file")))) {
            try DataDirectoryLock(directory: scratch.file("file"))
        }
    }

    @Test("Connections leave descriptors for files")
    func connectionLimit() {
        #expect(ProcessSetup.connectionLimit(asked: Int.max, descriptorLimit: 1024) == 896)
        #expect(ProcessSetup.connectionLimit(asked: 100, descriptorLimit: 1024) == 100)
        #expect(ProcessSetup.connectionLimit(asked: Int.max, descriptorLimit: 1_048_576) == 917_504)
        #expect(ProcessSetup.connectionLimit(asked: Int.max, descriptorLimit: 64) == 16)
    }

    @Test("The process may open as many files as the system allows it")
    func preparation() {
        #expect(ProcessSetup.prepare() >= 64)
    }
}
