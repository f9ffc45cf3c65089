import Foundation
import Testing

/// The committed code is what the generator writes.
@Suite("Generator")
struct GeneratorTests {
    static let python = ["/usr/bin/python3", "/usr/local/bin/python3"].first {
        FileManager.default.isExecutableFile(atPath: $0)
    }

    @Test("Generated code is up to date", .enabled(if: python != nil, "needs python3"))
    func upToDate() throws {
        let root = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let process = Process()
        process.executableURL = URL(fileURLWithPath: try #require(Self.python))
        process.arguments = [
            root.appendingPathComponent("Tools/generate-kafka-wire.py").path, "--check",
        ]
        try process.run()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0, "run `make generate`")
    }
}
