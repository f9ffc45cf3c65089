import FlotillaServer
import Logging
import Synchronization
import Testing

@Suite("Log lines")
struct LoggingTests {
    private final class Lines: Sendable {
        private let lines = Mutex<[String]>([])

        func add(_ line: String) {
            lines.withLock { $0.append(line) }
        }

        var all: [String] {
            lines.withLock { $0 }
        }
    }

    private func logger(isJSON: Bool, control: LogControl = LogControl(), to lines: Lines) -> Logger
    {
        Logger(label: "journal") { label in
            LineLogHandler(
                component: label,
                isJSON: isJSON,
                control: control,
                now: { 1_795_184_940_123 }
            ) { line in
                lines.add(line)
            }
        }
    }

    @Test("logfmt: constant phrase, then keys; values in quotes only where they need them")
    func logfmt() {
        let lines = Lines()
        var logger = logger(isJSON: false, to: lines)
        logger[metadataKey: LogKey.node.rawValue] = "1"
        logger.info(
            "file recycled",
            metadata: .of([.path: "a b", .count: 3, .reason: "say \"x\"", .value: ""])
        )
        let expected =
            "ts=2026-11-20T14:29:00.123Z level=info component=journal msg=\"file recycled\" node=1 "
            + "count=3 path=\"a b\" reason=\"say \\\"x\\\"\" value=\"\"\n"
        #expect(lines.all == [expected])
    }

    @Test("JSON: one object per line, control characters escaped")
    func json() {
        let lines = Lines()
        logger(isJSON: true, to: lines).warning(
            "slow\nsync",
            metadata: .of([.millis: 12, .path: "\u{1}\\"])
        )
        let expected =
            #"{"ts":"2026-11-20T14:29:00.123Z","level":"warning","component":"journal","msg":"slow\nsync","#
            + #""millis":"12","path":"\u0001\\"}"# + "\n"
        #expect(lines.all == [expected])
    }

    @Test("Levels hold per component and change at run time")
    func levels() throws {
        let lines = Lines()
        let control = LogControl(try #require(LogLevels("info,journal=error")))
        let logger = logger(isJSON: false, control: control, to: lines)
        logger.warning("unheard")
        #expect(lines.all.isEmpty)
        control.set(try #require(LogLevels("info,journal=debug")))
        logger.debug("heard")
        #expect(lines.all.count == 1)
    }

    @Test(
        "Times of the calendar",
        arguments: [
            (0, "1970-01-01T00:00:00.000Z"), (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_399_001, "2100-02-28T23:59:59.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] as [(Int64, String)]
    )
    func times(milliseconds: Int64, text: String) {
        #expect(LineLogHandler.time(milliseconds) == text)
    }
}
