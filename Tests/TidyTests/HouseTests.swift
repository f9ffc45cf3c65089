import Testing

/// The rules of the house, held against the whole repository; `RuleTests` proves that each of them can fail.
@Suite("The house is tidy")
struct HouseTests {
    @Test(
        "Every target imports only what stands above it, and the core nothing that reaches the world"
    )
    func imports() throws {
        try expectNone(ImportRule.findings)
    }

    @Test("The deterministic targets call nothing that answers differently twice")
    func determinism() throws {
        try expectNone(DeterminismRule.findings)
    }

    @Test("Nothing is forced, and what the compiler cannot check carries its proof")
    func safety() throws {
        try expectNone(SafetyRule.findings)
    }

    @Test("Every file format shows its bytes, its magic and its version")
    func formats() throws {
        try expectNone(FormatRule.findings)
    }

    @Test("Files are of a readable length and name no machine")
    func text() throws {
        let endings = [
            ".swift", ".c", ".h", ".py", ".md", ".toml", ".txt", ".kmsg", "/demo", "/deps", "/venv",
            "/fuzz",
        ]
        let paths = Checkout.files(endingWith: endings)
        let findings = try paths.flatMap {
            TextRule.findings(path: $0, text: try Checkout.text(of: $0))
        }
        #expect(findings.isEmpty, "\(report(findings))")
    }

    @Test("The patches of planted bugs apply")
    func patches() throws {
        let paths = Checkout.files(endingWith: [".patch"])
        let findings = try paths.flatMap { path in
            try PatchRule.findings(path: path, patch: try Checkout.text(of: path)) {
                try Checkout.text(of: $0)
            }
        }
        #expect(findings.isEmpty, "\(report(findings))")
        #expect(paths.count > 30)
    }

    @Test("The rules read the files they are meant for")
    func reach() throws {
        let paths = Checkout.files(endingWith: [".swift"])
        #expect(paths.contains("Sources/Model/Offset.swift"))
        #expect(paths.contains("Tests/TidyTests/HouseTests.swift"))
        #expect(
            House.deterministic == Set(House.targets).subtracting(["Server", "Client", "flotilla"])
        )
    }

    private func expectNone(
        _ rule: (SwiftSource) -> [Finding],
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let findings = try Checkout.swiftSources().flatMap(rule)
        #expect(findings.isEmpty, "\(report(findings))", sourceLocation: sourceLocation)
    }

    private func report(_ findings: [Finding]) -> String {
        "\n" + findings.map(\.description).joined(separator: "\n")
    }
}
