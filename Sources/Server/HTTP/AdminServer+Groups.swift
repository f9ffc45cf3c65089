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
        router.get("metrics/detail") { request, _ in
            let query = request.uri.queryParameters
            guard let group = query["group"] else {
                return text(.badRequest, "metrics in detail are those of a group: ?group=NAME\n")
            }
            let outcome = await questions.lag(String(group))
            return try respond(outcome, type: ExpositionWriter.contentType) { report in
                var writer = ExpositionWriter()
                for sample in GroupSamples.samples(report, topic: query["topic"].map(String.init)) {
                    writer.add(sample)
                }
                return writer.text
            }
        }
    }

    private static func answer<Report: Encodable & Sendable>(
        _ context: BasicRequestContext,
        _ ask: (String) async -> GroupQuestions.Outcome<Report>
    ) async throws -> Response {
        guard let name = context.parameters.get("name").flatMap({ PercentText.decoded($0) }) else {
            return text(.badRequest, "a group is named by its name, with %XX for special bytes\n")
        }
        return try respond(await ask(name), type: "application/json") { report in
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
            return String(decoding: try encoder.encode(report), as: UTF8.self) + "\n"
        }
    }

    private static func respond<Report: Sendable>(
        _ outcome: GroupQuestions.Outcome<Report>,
        type: String,
        _ body: (Report) throws -> String
    ) throws -> Response {
        switch outcome {
        case .found(let report): text(.ok, try body(report), type: type)
        case .notFound(let reason): text(.notFound, reason + "\n")
        case .unavailable(let reason): text(.serviceUnavailable, reason + "\n")
        }
    }
}
