import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaServer
import Logging
import Testing

import struct NIOCore.ByteBuffer

@Suite("Settings")
struct SettingsTests {
    let scratch: Scratch

    init() throws {
        scratch = try Scratch()
    }

    private func reader(
        flags: [(name: String, value: String)] = [],
        environment: [String: String] = [:],
        file: String? = nil
    ) throws -> SettingsReader {
        var reader = SettingsReader(disk: scratch.disk)
        reader.flags = flags
        reader.environment = environment
        if let file {
            let path = scratch.file("flotilla.toml")
            try scratch.disk.remove(path)
            try scratch.disk.open(path, .createNew).write([ByteBuffer(string: file)], at: 0)
            reader.path = path
        }
        return reader
    }

    private func problems(_ reader: SettingsReader) -> [String] {
        do {
            _ = try reader.read()
            return []
        } catch {
            return error.problems.map { "\($0)" }
        }
    }

    @Test("Without any setting the defaults suit a laptop")
    func defaults() throws {
        let settings = try reader().read()
        #expect(settings.dataDirectory == "flotilla-data")
        #expect(settings.journalDirectory == "flotilla-data/journal")
        #expect(settings.journalFileByteCount == 64 << 20)
        #expect(settings.journalLiveByteCount == 512 << 20)
        #expect(settings.kafkaAddresses == [NetworkAddress(host: "", port: 9092)])
        #expect(settings.httpAddress == NetworkAddress(host: "", port: 9644))
        #expect(settings.advertisedAddress == nil)
        #expect(settings.nodeID == nil)
        #expect(settings.connectionLimits.maximumFrameByteCount == 104_857_600)
        #expect(settings.connectionLimits.idleTimeout == .seconds(600))
        #expect(settings.logLevels.base == .info)
        #expect(settings.brokerEntries.isEmpty)
        #expect(settings.notes.isEmpty)
        #expect(settings.values.allSatisfy { $0.source == .builtIn })
    }

    @Test(
        "A flag comes before the environment, that before the file, and each value knows its source"
    )
    func precedence() throws {
        let file = """
            num.partitions = 3
            message.max.bytes = "2MiB"
            [log]
            retention.ms = "1d"
            segment.bytes = 1048576
            [kafka]
            listeners = ["a:1", "b:2"]
            """
        let environment = [
            "FLOTILLA_LOG_RETENTION_MS": "2d", "FLOTILLA_MESSAGE_MAX_BYTES": "3MiB",
            "FLOTILLA_DATA_DIR": "/from/env",
        ]
        let reader = try reader(
            flags: [("log.retention.ms", "3d")],
            environment: environment,
            file: file
        )
        let settings = try reader.read()
        let values = Dictionary(uniqueKeysWithValues: settings.values.map { ($0.name, $0) })
        let path = try #require(reader.path)
        #expect(values["log.retention.ms"]?.text == "259200000")
        #expect(values["log.retention.ms"]?.source == .flag)
        #expect(values["message.max.bytes"]?.text == "3145728")
        #expect(values["message.max.bytes"]?.source == .environment("FLOTILLA_MESSAGE_MAX_BYTES"))
        #expect(values["num.partitions"]?.text == "3")
        #expect(values["num.partitions"]?.source == .file(path))
        #expect(values["log.segment.bytes"]?.text == "1048576")
        #expect(values["fetch.max.bytes"]?.source == .builtIn)
        #expect(
            settings.kafkaAddresses == [
                NetworkAddress(host: "a", port: 1), NetworkAddress(host: "b", port: 2),
            ]
        )
        #expect(settings.dataDirectory == "/from/env")
        let entries = settings.brokerEntries.map { "\($0.name)=\($0.value)" }.sorted()
        #expect(
            entries == [
                "log.retention.ms=259200000", "log.segment.bytes=1048576",
                "message.max.bytes=3145728",
                "num.partitions=3",
            ]
        )
    }

    @Test("Everything that is wrong is said at once, with its source and the nearest name")
    func allProblems() throws {
        let file = """
            [log]
            retntion.ms = "7d"
            [journal]
            file.bytes = "2GiB"
            file.byte = 1
            born = 2026-11-20
            """
        let reader = try reader(
            flags: [("num.partitions", "none"), ("listeners", ":1")],
            environment: [
                "FLOTILLA_LOG_RETENTION_M": "1", "FLOTILLA_SERVICE_PORT": "9092",
                "FLOTILLA_AUTO_CREATE_TOPICS_ENABLE": "maybe",
                "HOME": "/",
            ],
            file: file
        )
        let path = try #require(reader.path)
        #expect(
            problems(reader) == [
                "listeners: is called kafka.listeners here (flag)",
                "FLOTILLA_LOG_RETENTION_M: no such setting (environment FLOTILLA_LOG_RETENTION_M); "
                    + "did you mean FLOTILLA_LOG_RETENTION_MS?",
                "journal.file.byte: no such setting (file \(path)); did you mean journal.file.bytes?",
                "log.retntion.ms: no such setting (file \(path)); did you mean log.retention.ms?",
                "\(path): journal.born is neither text, number, true, false nor a list of these",
                "journal.file.bytes: '2GiB' is not a size from 1MiB to 1GiB, such as 10MiB (file \(path))",
                "auto.create.topics.enable: 'maybe' is not true or false "
                    + "(environment FLOTILLA_AUTO_CREATE_TOPICS_ENABLE)",
                "num.partitions: 'none' is not a whole number from 1 to 2147483647 (flag)",
            ]
        )
    }

    @Test("A file that is not TOML, or not there, names the place")
    func badFile() throws {
        let broken = problems(try reader(file: "[log\nretention = 1"))
        #expect(broken.count == 1)
        #expect(broken.first?.contains("flotilla.toml: line 1") == true)
        var missing = try reader()
        missing.path = scratch.file("missing.toml")
        #expect(problems(missing).first?.contains("missing.toml: cannot be read") == true)
    }

    @Test("Settings that contradict each other are refused")
    func contradictions() throws {
        let flags = [
            (name: "journal.live.bytes", value: "64MiB"),
            (name: "socket.request.max.bytes", value: "1GiB"),
        ]
        #expect(
            problems(try reader(flags: flags)) == [
                "journal.live.bytes: must be at least four times journal.file.bytes",
                "queued.max.request.bytes: must be at least socket.request.max.bytes",
            ]
        )
    }

    @Test("A memory limit sets the budgets that are not set themselves")
    func memoryLimit() throws {
        let settings = try reader(flags: [("memory.limit", "1GiB"), ("memory.tail.bytes", "10MiB")])
            .read()
        #expect(settings.tailByteCount == 10 << 20)
        #expect(settings.inFlightByteCount == 256 << 20)
        #expect(settings.answerByteCount == 256 << 20)
        let tight = problems(try reader(flags: [("memory.limit", "64MiB")]))
        #expect(
            tight == ["queued.max.request.bytes: must be at least socket.request.max.bytes"]
        )
    }

    @Test("A setting that changes nothing here is taken with a note")
    func notes() throws {
        let settings = try reader(flags: [
            ("group.consumer.max.size", "10"), ("log.flush.interval.messages", "1"),
        ]).read()
        #expect(settings.notes.count == 2)
        #expect(
            settings.notes.contains(
                "group.consumer.max.size: It has no effect in this version. (flag)"
            )
        )
    }

    @Test("What Kafka's tools see holds the identity and the bound addresses")
    func layers() throws {
        let settings = try reader(flags: [("node.id", "-1"), ("num.partitions", "7")]).read()
        let layers = try settings.layers(
            nodeID: BrokerID(5),
            listeners: [NetworkAddress(host: "::", port: 9092)]
        )
        #expect(layers.value("node.id") == "5")
        #expect(layers.value("broker.id") == "5")
        #expect(layers.value("listeners") == "PLAINTEXT://[::]:9092")
        #expect(layers.value("log.dirs") == "flotilla-data")
        #expect(layers.value("num.partitions") == "7")
        #expect(layers.value("compression.type") == "auto")
    }

    @Test("The printed settings are TOML that reads back to the same values")
    func printing() throws {
        let first = try reader(flags: [("data.dir", "/a \"b\"\\c"), ("log.retention.ms", "-1")])
            .read()
        #expect(first.printed.contains("log.retention.ms = -1  # flag\n"))
        #expect(first.printed.contains("num.partitions = 4  # default\n"))
        // Empty lines of settings without a value cannot be read back as numbers.
        let lines = first.printed.split(separator: "\n").filter { !$0.contains(" = \"\"") }
        let again = try reader(file: lines.joined(separator: "\n")).read()
        #expect(again.values.map(\.text) == first.values.map(\.text))
    }

    @Test("The file is the named one, then the variable's, then the first that is there")
    func finding() throws {
        #expect(
            try ConfigFile.find(
                named: "x",
                environment: ["FLOTILLA_CONFIG": "y"],
                disk: scratch.disk
            ) == "x"
        )
        #expect(
            try ConfigFile.find(
                named: nil,
                environment: ["FLOTILLA_CONFIG": "y"],
                disk: scratch.disk
            ) == "y"
        )
    }

    @Test(
        "The shipped configuration lists every setting, and every line of it is right when it is switched on"
    )
    func example() throws {
        let settings = try reader(file: ConfigFile.example).read()
        #expect(settings.values.allSatisfy { $0.source == .builtIn })
        let switchedOn = ConfigFile.example.split(separator: "\n").map { line in
            line.hasPrefix("#") && !line.hasPrefix("# ") ? line.dropFirst() : line
        }
        let all = try reader(file: switchedOn.joined(separator: "\n")).read()
        let served = SettingTable.definitions.filter { $0.inertness == nil }
        #expect(all.values.filter { $0.source != .builtIn }.map(\.name) == served.map(\.name))
        let withoutDefault = Set(served.filter { $0.defaultText == nil }.map(\.name))
        for (value, builtIn) in zip(all.values, settings.values)
        where !withoutDefault.contains(value.name) {
            #expect(value.text == builtIn.text, "\(value.name)")
        }
        #expect(all.notes.isEmpty)
    }

    @Test("config/flotilla.toml is the example; FLOTILLA_REWRITE=1 writes it anew")
    func shippedFile() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let path = "/\(root)/config/flotilla.toml"
        let file = try scratch.disk.open(path, isRewriting ? .create : .read)
        if isRewriting {
            try file.truncate(to: 0)
            try file.write([ByteBuffer(string: ConfigFile.example)], at: 0)
        }
        let shipped = String(buffer: try file.read(at: 0, count: Int(file.byteCount())))
        #expect(shipped == ConfigFile.example)
    }

    private var isRewriting: Bool {
        environmentVariable("FLOTILLA_REWRITE") == "1"
    }
}

@Suite("Quantities and addresses")
struct QuantityTests {
    @Test(
        "Sizes",
        arguments: [
            ("0", 0), ("-1", -1), ("1048576", 1 << 20), ("10MiB", 10 << 20), ("10 MiB", 10 << 20),
            ("1GB", 1_000_000_000),
            ("1k", 1024), ("5B", 5), ("1.5MiB", nil), ("-1MiB", nil), ("MiB", nil), ("", nil),
            ("9223372036854775807k", nil),
        ] as [(String, Int64?)]
    )
    func sizes(text: String, byteCount: Int64?) {
        #expect(Quantity.byteCount(text) == byteCount)
    }

    @Test(
        "Times",
        arguments: [
            ("250", 250), ("250ms", 250), ("10s", 10_000), ("5min", 300_000), ("5m", 300_000),
            ("12h", 43_200_000),
            ("7d", 604_800_000), ("2w", 1_209_600_000), ("-1", -1), ("1y", nil), ("s", nil),
            ("99999999999999999d", nil),
        ] as [(String, Int64?)]
    )
    func times(text: String, milliseconds: Int64?) {
        #expect(Quantity.milliseconds(text) == milliseconds)
    }

    @Test(
        "Text of a size or time reads back",
        arguments: [1, 999, 1024, 3 << 20, 86_400_000, 604_800_000, 90_000] as [Int64]
    )
    func textReadsBack(number: Int64) {
        #expect(Quantity.byteCount(Quantity.text(byteCount: number)) == number)
        #expect(Quantity.milliseconds(Quantity.text(milliseconds: number)) == number)
    }

    @Test(
        "Addresses",
        arguments: [
            ("localhost:9092", NetworkAddress(host: "localhost", port: 9092)),
            (":0", NetworkAddress(host: "", port: 0)),
            ("PLAINTEXT://h:1", NetworkAddress(host: "h", port: 1)),
            ("plaintext://:1", NetworkAddress(host: "", port: 1)),
            ("[::1]:5", NetworkAddress(host: "::1", port: 5)), ("SSL://h:1", nil), ("h", nil),
            ("h:", nil),
            ("h:65536", nil), ("::1:5", nil), ("http://h:1", nil), ("", nil),
        ] as [(String, NetworkAddress?)]
    )
    func addresses(text: String, address: NetworkAddress?) {
        #expect(ListenAddress.parse(text) == address)
    }

    @Test("Levels of components")
    func levels() throws {
        let levels = try #require(LogLevels("warning,raft=debug, journal=trace"))
        #expect(levels.base == .warning)
        #expect(levels.components == ["raft": .debug, "journal": .trace])
        for wrong in ["", "loud", "info,debug", "=info", "info,raft", "a=b=info"] {
            #expect(LogLevels(wrong) == nil, "\(wrong)")
        }
    }
}
