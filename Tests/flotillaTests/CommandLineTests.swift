import ArgumentParser
import FlotillaClient
import FlotillaModel
import NIOCore
import Testing

@testable import flotilla

@Suite("What command lines say")
struct CommandLineTests {
    private static let now = Timestamp(1_800_000_000_000)

    @Test(
        "Places have our spellings and kcat's",
        arguments: [
            ("start", .named(.earliest)), ("beginning", .named(.earliest)),
            ("end", .named(.latest)),
            ("42", .named(.offset(Offset(42)))), ("+5", .afterStart(5)), ("-5", .beforeEnd(5)),
            ("@1000", .named(.time(Timestamp(1000)))), ("s@1000", .named(.time(Timestamp(1000)))),
            ("@-2h", .named(.time(Timestamp(1_799_992_800_000)))), ("@now", .named(.time(now))),
            ("@2026-11-20T14:29", .named(.time(Timestamp(1_795_184_940_000)))),
            ("@2026-11-20", .named(.time(Timestamp(1_795_132_800_000)))),
        ] as [(String, Place)]
    )
    func places(text: String, expected: Place) {
        #expect(PlaceRange(text, now: Self.now) == PlaceRange(start: expected))
    }

    @Test(
        "A range is two places, also where a time has colons of its own",
        arguments: [
            ("@-2h:@now", .named(.time(Timestamp(1_799_992_800_000))), .named(.time(now))),
            (":end", .named(.earliest), .named(.latest)),
            ("5:10", .named(.offset(Offset(5))), .named(.offset(Offset(10)))),
            (
                "@2026-11-20T14:29:@2026-11-20T14:30", .named(.time(Timestamp(1_795_184_940_000))),
                .named(.time(Timestamp(1_795_185_000_000)))
            ),
            ("@2026-11-20T14:29:end", .named(.time(Timestamp(1_795_184_940_000))), .named(.latest)),
        ] as [(String, Place, Place)]
    )
    func ranges(text: String, start: Place, end: Place) {
        #expect(PlaceRange(text, now: Self.now) == PlaceRange(start: start, end: end))
    }

    @Test(
        "What is no place is none",
        arguments: ["json", "", "@", "@x", "--5", "+x", "@2026-13-01", "5:json"]
    )
    func noPlaces(text: String) {
        #expect(PlaceRange(text, now: Self.now) == nil)
    }

    @Test(
        "A time is written as it is read",
        arguments: [
            0, 1, 951_782_400_000, 1_795_184_940_250, 4_102_444_799_999, 253_402_300_799_999,
        ] as [Int64]
    )
    func times(millis: Int64) {
        let text = WallTime.iso(Timestamp(millis))
        #expect(WallTime.parse(text, now: Self.now) == Timestamp(millis), "\(text)")
    }

    @Test("Dates are those of the calendar")
    func calendar() {
        #expect(WallTime.iso(Timestamp(951_782_400_000)) == "2000-02-29T00:00:00.000Z")
        #expect(WallTime.iso(Timestamp(1_795_184_940_250)) == "2026-11-20T14:29:00.250Z")
    }

    @Test(
        "Durations, sizes and rates have units",
        arguments: [
            ("5", 5000), ("100ms", 100), ("2h", 7_200_000), ("7d", 604_800_000), ("1.5s", 1500),
        ] as [(String, Int64)]
    )
    func spans(text: String, millis: Int64) {
        #expect(Span(argument: text)?.milliseconds == millis)
    }

    @Test("Sizes count in 1024 unless they say otherwise")
    func sizes() {
        #expect(Size(argument: "16k")?.byteCount == 16_384)
        #expect(Size(argument: "10MiB")?.byteCount == 10_485_760)
        #expect(Size(argument: "1MB")?.byteCount == 1_000_000)
        #expect(
            Size(argument: "x") == nil && Size(argument: "1x") == nil && Size(argument: "-1") == nil
        )
        #expect(Size(1536).description == "1.5 KiB")
        #expect(Rate(argument: "50k/s")?.perSecond == 50_000)
        #expect(Rate(argument: "600/m")?.perSecond == 10)
        #expect(Rate(argument: "0") == nil && Rate(argument: "5/x") == nil)
    }

    private func record(key: ByteBuffer?, value: ByteBuffer?) -> String {
        let record = ConsumerRecord(
            partition: NamedPartition(topic: "t", index: 3),
            offset: Offset(7),
            timestamp: Timestamp(1_795_184_940_250),
            isLogAppendTime: false,
            key: key,
            value: value,
            headers: [
                Header(name: "a", value: ByteBuffer(string: "1")), Header(name: "b", value: nil),
            ]
        )
        var output = ByteBuffer()
        RecordFormat.writeJSON(record, into: &output)
        output.writeString("|")
        do {
            try RecordFormat(#"%t[%p]@%o %k=%v %s %T %d{iso} %h %K %S %H %%\t\x41\\\n"#).write(
                record,
                into: &output
            )
        } catch {
            Issue.record(error)
        }
        return String(buffer: output)
    }

    @Test("A record is printed as the format says, and as JSON with kcat's names")
    func formats() {
        let text = record(key: ByteBuffer(string: "k\"\n"), value: ByteBuffer(bytes: [0xFF, 0x00]))
        let parts = text.split(separator: "|")
        #expect(
            parts[0] == """
                {"topic":"t","partition":3,"offset":7,"tstype":"create","ts":1795184940250,\
                "headers":["a","1","b",null],"key":"k\\"\\n","payload":{"base64":"/wA="}}

                """
        )
        #expect(parts[1].hasPrefix("t[3]@7 k\"\n="))
        #expect(parts[1].hasSuffix(" 1795184940250 2026-11-20T14:29:00.250Z a=1,b= 3 2 2 %\tA\\\n"))
    }

    @Test("A null key and value have the size -1 and are null in JSON")
    func nulls() {
        let text = record(key: nil, value: nil)
        #expect(text.contains("\"key\":null,\"payload\":null"))
        #expect(text.contains(" -1 -1 2 "))
    }

    @Test("A wrong format says what is wrong", arguments: ["%", "%q", "%d", "\\", "\\q", "\\x1"])
    func wrongFormats(text: String) {
        #expect(throws: CommandFailure.self) { try RecordFormat(text) }
    }

    @Test(
        "Base64 has its padding",
        arguments: [([255], "/w=="), ([255, 254], "//4="), ([255, 254, 253], "//79")]
    )
    func base64(bytes: [UInt8], expected: String) {
        #expect(JSONText.bytes(ByteBuffer(bytes: bytes)) == "{\"base64\":\"\(expected)\"}")
    }

    @Test("Each kind of failure has its exit code")
    func exitCodes() {
        #expect(
            CommandFailure(.refused(.unknownTopicOrPartition, subject: "t", message: nil)).exitCode
                == 3
        )
        #expect(CommandFailure(.unreachable(brokers: [], reason: "")).exitCode == 4)
        #expect(
            CommandFailure(.refused(.saslAuthenticationFailed, subject: "", message: nil)).exitCode
                == 5
        )
        #expect(
            CommandFailure(.refused(.topicAuthorizationFailed, subject: "", message: nil)).exitCode
                == 6
        )
        #expect(CommandFailure(.refused(.invalidConfig, subject: "", message: nil)).exitCode == 1)
        #expect(
            CommandFailure.partial("").exitCode == 7 && CommandFailure.differs("").exitCode == 8
        )
    }

    @Test("A table is as wide as its widest cells, with numbers at the right")
    func tables() {
        var table = Table("NAME", "COUNT")
        table.add("a", "5")
        table.add("longer", "1000")
        #expect(table.text == "NAME    COUNT\na           5\nlonger   1000")
    }

    @Test(
        "What makes no sense to the simulator is said",
        arguments: [
            (["--seeds", "1.5"], "--seeds is FIRST..LAST, such as 1..1000"),
            (["--seeds", "1...5"], "--seeds is FIRST..LAST, such as 1..1000"),
            (["--seeds", "5.."], "--seeds is FIRST..LAST, such as 1..1000"),
            (["--seeds", "5..+6"], "--seeds is FIRST..LAST, such as 1..1000"),
            (["--seeds", "6..5"], "--seeds is FIRST..LAST, such as 1..1000"),
            (["--seed", "1", "--seeds", "1..2"], "either --seed or --seeds, please"),
            (["--minutes", "nan"], "--minutes is a number above 0"),
            (["--minutes", "inf"], "--minutes is a number above 0"),
            (["--minutes", "1e300"], "--minutes is a number above 0"),
            (["--minutes", "0"], "--minutes is a number above 0"),
            (["--brokers", "2"], "--brokers is a number from 3 to 9"),
            (["--faults", ""], "no fault is called ''"),
            (["--faults", "kill,,cut"], "no fault is called ''"),
            (["--workloads", "produce,"], "no workload is called ''"),
            (["--gate", "-1"], "--gate"),
        ] as [([String], String)]
    )
    func simulatorUsage(arguments: [String], expected: String) {
        do {
            _ = try Flotilla.parseAsRoot(["sim"] + arguments)
            Issue.record("\(arguments) is taken")
        } catch {
            #expect(Flotilla.message(for: error).contains(expected))
        }
    }

    @Test("Seeds are a range; a plan is told as options that make it again")
    func simulatorArguments() throws {
        #expect(try SimArguments.seeds("1..18446744073709551615") == 1...UInt64.max)
        let options = [
            "--seed", "7", "--brokers", "5", "--faults", "cut,kill", "--workloads", "none",
            "--no-atlas",
        ]
        #expect(try SimArguments.replay(SimCommand.parse(options).setting().plan(of: 7)) == options)
    }

    @Test("A process that runs seeds tells them on lines, and its end by a trap is a sentence")
    func simulatorProcess() throws {
        var tally = SimTally()
        tally.seedCount = 1
        tally.eventCount = 12
        tally.digest = 0xFEED
        tally.faults = ["kill": 3, "cut": 1]
        #expect(SimTally(tally.text) == tally)
        let script = """
            printf 'seed\\t4\\nheld\\t\(tally.text)\\nseed\\t5\\ntold\\t1.000 a\\tline\\n'
            echo 'Storage/Journal.swift:7: Fatal error: the log has no gaps' >&2
            echo ' 1 [ra] 0x01 run() + 1 in flotilla at /x/Sources/Storage/Journal.swift:7:9' >&2
            kill -ILL $$
            """
        var lines: [String] = []
        let end = try SimProcess("/bin/sh", ["-c", script]).read { lines.append($0.text) }
        #expect(
            lines == ["seed\t4\n", "held\t\(tally.text)\n", "seed\t5\n", "told\t1.000 a\tline\n"]
        )
        #expect(end == .died("a trap: the log has no gaps in Storage/Journal.swift:7"))
        let silent = try SimProcess("/bin/sh", ["-c", "kill -SEGV $$"]).read { _ in }
        #expect(silent == .died("the process is ended by signal 11"))
        #expect(try SimProcess("/bin/sh", ["-c", ":"]).read { _ in } == .done)
    }
}
