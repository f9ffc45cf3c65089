import FoundationEssentials
import Hummingbird
import NIOCore

/// Questions about groups.
extension AdminServer {
    static func addGroups(_ questions: GroupQuestions, to router: Router<BasicRequestContext>) {
        router.get("v1/groups/:name/history") { _, context in
            try await answer(context) { await questions.history($0) }
        }
        router.get("v1/groups/:name/lag") { _, context in
            try await answer(context) { await questions.lag($0) }
        }
    }

    private static func answer<Report: Encodable & Sendable>(
        _ context: BasicRequestContext,
        _ ask: (String) async -> GroupQuestions.Outcome<Report>
    ) async throws -> Response {
        guard let name = context.parameters.get("name").flatMap({ PercentText.decoded($0) }) else {
            return text(.badRequest, "a group is named by its name, with %XX for special bytes\n")
        }
        switch await ask(name) {
        case .found(let report):
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            let json = String(decoding: try encoder.encode(report), as: UTF8.self)
            return text(.ok, json + "\n", type: "application/json")
        case .notFound(let reason): return text(.notFound, reason + "\n")
        case .unavailable(let reason): return text(.serviceUnavailable, reason + "\n")
        }
    }
}
