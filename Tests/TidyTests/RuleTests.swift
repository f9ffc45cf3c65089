import Testing

/// Each rule is shown a text that breaks it and one that does not.
@Suite("The rules of the house can fail")
struct RuleTests {
    @Test(
        "An import against the order is found",
        arguments: [
            ("Raft", "import FlotillaStorage"),
            ("Model", "package import FlotillaEnvironment"),
            ("Client", "import FlotillaServer"),
            ("Client", "import FlotillaEnvironment"),
            ("Client", "import CLZ4"),
            ("Simulation", "import FlotillaServer"),
            ("Simulation", "import FlotillaClient"),
            ("Broker", "import NIOCore"),
            ("Broker", "import class NIOCore.EventLoopFuture"),
            ("Storage", "import NIOPosix"),
            ("Storage", "import Glibc"),
            ("Storage", "import Dispatch"),
            ("Coordination", "import FoundationEssentials"),
            ("Server", "import Foundation"),
            ("Broker", "import FlotillaBroker"),
        ]
    )
    func forbiddenImport(target: String, line: String) {
        #expect(ImportRule.findings(in: source(target, line)).count == 1)
    }

    @Test(
        "An import along the order passes",
        arguments: [
            ("Storage", "package import struct NIOCore.ByteBuffer"),
            ("Storage", "import FlotillaModel; import FlotillaRecords"),
            ("Records", "internal import CLZ4"),
            ("Client", "public import FlotillaModel"),
            ("Client", "import NIOCore"),
            ("Server", "import FoundationEssentials"),
            ("Simulation", "import FlotillaBroker"),
            ("Broker", "import DequeModule"),
            ("Broker", "// import NIOPosix would be wrong"),
            ("flotilla", "import FlotillaServer"),
        ]
    )
    func allowedImport(target: String, line: String) {
        #expect(ImportRule.findings(in: source(target, line)).isEmpty)
    }

    @Test(
        "A call that answers differently twice is found",
        arguments: [
            "let now = Date()", "let id = UUID()", "var random = SystemRandomNumberGenerator()",
            "Task { work() }",
            "Task.detached { work() }", "func run() async {}", "await run()",
            "let now = ContinuousClock.now",
            "let lock = Mutex(0)", "Thread.sleep(1)", "DispatchQueue.main.sync {}",
            "actor Shard {}",
            "let n = Int.random(in: 0..<6)", "names.shuffled()", "names.randomElement()",
            "key.hashValue",
            "var hasher = Hasher()", "print(x)", "let home = getenv(name)",
        ]
    )
    func forbiddenCall(line: String) {
        #expect(DeterminismRule.findings(in: source("Raft", line)).count == 1)
        #expect(DeterminismRule.findings(in: source("Server", line)).isEmpty)
    }

    @Test(
        "A call that only looks like one passes",
        arguments: [
            "let n = Int.random(in: 0..<max(6, 7), using: &random)",
            "names.shuffled(using: &random)",
            "func hash(into hasher: inout Hasher) {}", "let text = \"Date() \\(name) async\"",
            "// await the commit",
            "/* Task { } /* nested */ UUID() */ let x = 1", "let date: Date",
            "let raw = #\"UUID() \" Date()\"#",
            "let lines = \"\"\"\nawait \"Date()\"\n\"\"\"", "var actor = 3", "self.await(load)",
        ]
    )
    func allowedCall(line: String) {
        #expect(DeterminismRule.findings(in: source("Raft", line)) == [])
    }

    @Test("A forced try, and a promise to the compiler without its reason, are found")
    func promises() {
        #expect(SafetyRule.findings(in: source("Server", "let a = try! open()")).count == 1)
        #expect(
            SafetyRule.findings(in: source("Server", "let a = try open() // never try! here"))
                .isEmpty
        )
        #expect(SafetyRule.findings(in: source("Server", "let a = try !isOpen()")).isEmpty)
        let promise = "final class Ring: @unchecked Sendable {}"
        #expect(SafetyRule.findings(in: source("Server", promise)).count == 1)
        #expect(
            SafetyRule.findings(in: source("Server", "nonisolated(unsafe) var a = 1")).count == 1
        )
        #expect(
            SafetyRule.findings(in: source("Server", "nonisolated(nonsending) func f() {}")) == []
        )
        let reason = "// Sendable because the loop owns it.\n"
        #expect(SafetyRule.findings(in: source("Server", reason + promise)).isEmpty)
    }

    @Test("A pointer without a proof is found, near the use or once in a file made for pointers")
    func pointers() {
        let use = "func f(_ p: UnsafeRawPointer) {}"
        #expect(SafetyRule.findings(in: source("Broker", use)).count == 1)
        #expect(
            SafetyRule.findings(in: source("Broker", "// Safe: one byte is there.\n" + use)).isEmpty
        )
        let farAway = "// Safe: far away.\n" + String(repeating: "\n", count: 20) + use
        #expect(SafetyRule.findings(in: source("Broker", farAway)).count == 1)
        #expect(SafetyRule.findings(in: source("Records", farAway)).isEmpty)
        #expect(SafetyRule.findings(in: source("Records", use)).count == 1)
    }

    @Test("A format without a table, or with a hole in it, is found")
    func formats() {
        let constant = "static let magic: UInt32 = 7\n"
        let head = "/// | bytes | field |\n/// |---|---|\n/// | 0-3 | magic |\n"
        let whole =
            head + "/// | 4-5 | version |\n/// | 6, 7-8 | kind, size |\n/// | 9… | the rest |\n"
        let other = "///\n/// | kind | body |\n/// |---|---|\n/// | 0 | none |\n/// | 7 | some |\n"
        #expect(FormatRule.findings(in: source("Storage", constant)).count == 1)
        #expect(FormatRule.findings(in: source("Storage", head + constant)).count == 1)
        #expect(FormatRule.findings(in: source("Storage", whole + other + constant)) == [])
        let hole = head + "/// | 5-6 | version |\n"
        #expect(FormatRule.findings(in: source("Storage", hole + constant)).count == 1)
        let endless = whole + "/// | 90 | more |\n"
        #expect(FormatRule.findings(in: source("Storage", endless + constant)).count == 1)
        #expect(
            FormatRule.findings(in: source("Storage", "static let journalMagic = 1")).count == 1
        )
    }

    @Test("Byte tables may stand side by side, and each is checked")
    func columns() {
        let rows = [
            "//    0-7   magic \"FLAG\"       0-47  the frame",
            "//    8     version, 1        48-55  a time",
            "//    9-12  a checksum        56-63  a checksum",
        ]
        let constant = "\nprivate static let magic = 1; let next = 2"
        let whole = source("Storage", rows.joined(separator: "\n") + constant)
        #expect(FormatRule.tables(in: whole).count == 2)
        #expect(FormatRule.findings(in: whole) == [])
        let hole = source("Storage", [rows[0], rows[2]].joined(separator: "\n") + constant)
        #expect(FormatRule.findings(in: hole).count == 3)
        #expect(FormatRule.findings(in: source("Records", "static let magic: Int8 = 2")) == [])
    }

    @Test("A path of one machine and an endless file are found")
    func text() {
        #expect(
            TextRule.findings(path: "docs/a.md", text: "fine\nsee /ro" + "ot/notes").map(\.line)
                == [2]
        )
        #expect(TextRule.findings(path: "docs/a.md", text: "see scripts/demo").isEmpty)
        let long = String(repeating: "\n", count: TextRule.lineLimit + 1)
        #expect(TextRule.findings(path: "Sources/Raft/A.swift", text: long).count == 1)
        #expect(TextRule.findings(path: "Sources/KafkaWire/Generated/A.swift", text: long).isEmpty)
    }

    @Test("Lines are counted through strings and comments")
    func lines() {
        let text = "let a = \"\"\"\n one \\(f(\"x\"))\n\"\"\"\n/* two\nlines */ let b = Date()\n"
        let findings = DeterminismRule.findings(
            in: SwiftSource(path: "Sources/Raft/A.swift", text: text)
        )
        #expect(findings.map(\.line) == [5])
    }

    private func source(_ target: String, _ text: String) -> SwiftSource {
        SwiftSource(path: "Sources/\(target)/A.swift", text: text)
    }

    @Test("A patch that does not fit its file is found, one that fits is not")
    func patches() {
        let patch = """
            # What it does.
            diff --git a/F.swift b/F.swift
            --- a/F.swift
            +++ b/F.swift
            @@ -1,3 +1,3 @@
             one
            -two
            +2
             three
            """
        func findings(_ text: String) -> [Finding] {
            PatchRule.findings(path: "p", patch: patch) { _ in text }
        }
        #expect(findings("zero\none\ntwo\nthree\n").isEmpty)
        #expect(findings("one\n2\nthree\n").map(\.line) == [5])
    }
}
