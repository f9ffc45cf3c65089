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
}
