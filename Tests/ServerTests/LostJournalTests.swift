import FlotillaEnvironment
import FlotillaModel
import FlotillaServer
import FlotillaStorage
import Logging
import NIOCore
import Testing

@Suite("A broker without its journal")
struct LostJournalTests {
    /// A data directory whose journal was taken away.
    private func directory() throws -> (Scratch, Settings) {
        let scratch = try Scratch()
        try Journal.beginIncarnation(
            JournalDirectories(journal: scratch.file("journal"), data: scratch.path),
            disk: scratch.disk,
            newIdentity: { DirectoryID(high: 7, low: 7) }
        )
        try scratch.disk.removeTree(scratch.file("journal"))
        var reader = SettingsReader(disk: scratch.disk)
        reader.flags = [
            ("data.dir", scratch.path), ("kafka.listeners", "127.0.0.1:0"),
            ("http.listen", "127.0.0.1:0"), ("num.network.threads", "1"),
        ]
        return (scratch, try reader.read())
    }

    @Test("Alone it does not start, says what to do, and does not take the disk for broken")
    func alone() async throws {
        let (scratch, settings) = try directory()
        let group = BrokerNode.makeLoops(settings)
        let error = await #expect(throws: StartError.self) {
            try await BrokerNode.start(
                settings,
                on: group,
                metrics: MetricsRegistry(),
                descriptorLimit: 1000,
                progress: StartProgress(),
                logger: Logger(label: "test")
            )
        }
        try await group.shutdownGracefully()
        #expect(error?.description.contains("flotilla cluster recover --unsafe") == true)
        #expect(try !scratch.disk.exists(scratch.file("sync-failed")))
        #expect(try !scratch.disk.exists(scratch.file("journal/00000000.journal")))
    }

    @Test("What belongs to no cluster, or to no broker, is not recovered, and nothing is written")
    func nothingToRecover() async throws {
        let (scratch, settings) = try directory()
        await #expect(throws: RecoveryError.noBroker(directory: scratch.path)) {
            try await SurvivorRecovery(settings).perform(
                clusterID: "any",
                isTrial: false,
                now: (Timestamp(0), "now")
            )
        }
        #expect(try scratch.disk.list(scratch.path) == ["journal.id"])
    }
}
