import Foundation
import Testing

/// A schema file as the tests read it: a second interpreter, written apart from the generator, so that a
/// mistake would have to be made twice to go unnoticed.
struct Schema: CustomTestStringConvertible, Sendable {
    /// A field and its place in versions.
    struct Field: Sendable {
        var name: String
        var type: String
        var isArray: Bool
        var versions: ClosedRange<Int16>
        var nullable: ClosedRange<Int16>?
        var tagged: ClosedRange<Int16>?
        var tag: UInt32 = 0
        var defaultValue: String?
        var isNeverCompact = false
        var children: [Field] = []

        var property: String {
            name.prefix(1).lowercased() + name.dropFirst()
        }

        func isTagged(in version: Int16) -> Bool {
            tagged?.contains(version) ?? false
        }

        func isNullable(in version: Int16) -> Bool {
            nullable?.contains(version) ?? false
        }
    }

    /// One request, response or other message.
    struct Section: Sendable {
        var fields: [Field] = []
        var shared: [String: [Field]] = [:]
    }

    var fileName: String
    var headlines: [String: String] = [:]
    var sections: [String: Section] = [:]

    var testDescription: String { fileName }

    /// The last word of the first headline: the API's or the message's name.
    var name: String {
        let line =
            headlines["api"] ?? headlines["header"] ?? headlines["data"] ?? headlines["record"]
        return String(line?.split(separator: " ").last ?? "")
    }

    var apiKey: Int16? {
        headlines["api"].flatMap { $0.split(separator: " ").first }.flatMap { Int16($0) }
    }

    var versions: ClosedRange<Int16> { range("versions") ?? 0...0 }

    func range(_ headline: String) -> ClosedRange<Int16>? {
        headlines[headline].flatMap { Self.range($0[...]) }
    }

    func isFlexible(_ version: Int16) -> Bool {
        range("flexible")?.contains(version) ?? false
    }

    /// All schemas of the repository.
    static let all: [Schema] = {
        let directory = URL(fileURLWithPath: #filePath)
            .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Sources/KafkaWire/Schema")
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory.path)) ?? []
        return names.filter { $0.hasSuffix(".kmsg") }.sorted().compactMap { name in
            let text = try? String(
                contentsOf: directory.appendingPathComponent(name),
                encoding: .utf8
            )
            return text.map { Schema(fileName: name, text: $0) }
        }
    }()

    static let apis = all.filter { $0.apiKey != nil }

    static func of(_ name: String) -> Schema? {
        all.first { $0.name == name }
    }

    private static func range(_ text: Substring) -> ClosedRange<Int16>? {
        if text == "none" { return nil }
        let bounds = text.split(separator: "-").compactMap { Int16($0) }
        if let low = bounds.first, let high = bounds.last { return low...high }
        return text.hasSuffix("+") ? Int16(text.dropLast()).map { $0...Int16.max } : nil
    }

    init(fileName: String, text: String) {
        self.fileName = fileName
        var lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }[...]
        while let line = lines.popFirst() {
            if line == "request" || line == "response" || line == "fields" {
                sections[String(line)] = Self.section(&lines)
            } else {
                let words = line.split(separator: " ", maxSplits: 1)
                headlines[String(words[0])] = words.count > 1 ? String(words[1]) : ""
            }
        }
    }

    private static func section(_ lines: inout ArraySlice<Substring>) -> Section {
        var section = Section()
        section.fields = fields(&lines, indent: 2)
        while let line = lines.popFirst(), line != "end" {
            section.shared[String(line.split(separator: " ")[1])] = fields(&lines, indent: 2)
        }
        return section
    }

    private static func fields(_ lines: inout ArraySlice<Substring>, indent: Int) -> [Field] {
        var fields: [Field] = []
        while let line = lines.first, line.prefix(while: { $0 == " " }).count == indent {
            lines.removeFirst()
            var field = field(line)
            field.children = Self.fields(&lines, indent: indent + 2)
            fields.append(field)
        }
        return fields
    }

    private static func field(_ line: Substring) -> Field {
        // No default of today's schemas has a space in it.
        let words = line.split(separator: " ")
        var field = Field(
            name: String(words[0]),
            type: String(words[1].hasPrefix("[]") ? words[1].dropFirst(2) : words[1]),
            isArray: words[1].hasPrefix("[]"),
            versions: range(words[2]) ?? -1 ... -1
        )
        for word in words.dropFirst(3) {
            let pair = word.split(separator: "=", maxSplits: 1)
            switch pair[0] {
            case "null": field.nullable = range(pair[1])
            case "tagged": field.tagged = range(pair[1])
            case "tag": field.tag = UInt32(pair[1]) ?? 0
            case "default": field.defaultValue = String(pair[1])
            case "flexible": field.isNeverCompact = true
            default: break
            }
        }
        return field
    }
}
