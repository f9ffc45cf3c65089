import FlotillaEnvironment
import Foundation

/// Where the fields of a message come from when a test builds one.
enum Source {
    /// A JSON object with the schema's names.
    case json([String: Any])
    /// Chance.
    case random
    /// Every default.
    case defaults
}

/// Builds the values of one message version by its schema, and codes them: the slow, obvious model.
struct SchemaCodec {
    var schema: Schema
    var section: Schema.Section
    var version: Int16
    var random = SeededRandom(seed: 0)

    var isFlexible: Bool { schema.isFlexible(version) }

    /// All fields of the message, those that the version lacks with their defaults.
    mutating func message(_ source: Source) -> Value {
        structure(section.fields, source)
    }

    /// The coded body.
    func encoded(_ message: Value) -> [UInt8] {
        var bytes: [UInt8] = []
        encode(section.fields, message, into: &bytes)
        return bytes
    }

    private func children(of field: Schema.Field) -> [Schema.Field] {
        section.shared[field.type] ?? field.children
    }

    // MARK: Values

    private mutating func structure(_ fields: [Schema.Field], _ source: Source) -> Value {
        var result: [String: Value] = [:]
        for field in fields {
            let isHere = field.versions.contains(version)
            switch source {
            case .json(let object):
                let json = object[field.name]
                result[field.property] = json.map { value(field, json: $0) } ?? defaultValue(field)
            case .random where isHere:
                result[field.property] = randomValue(field)
            case .random, .defaults:
                result[field.property] = defaultValue(field)
            }
        }
        if case .random = source, isFlexible, Int.random(in: 0..<8, using: &random) == 0 {
            result["unknownTaggedFields"] = unknownTags()
        }
        return .fields(result)
    }

    private mutating func unknownTags() -> Value {
        let tags = Set((0...1).map { _ in Int64.random(in: 50..<100_000, using: &random) })
        return .array(
            tags.sorted().map { .fields(["tag": .integer($0), "bytes": .bytes(randomBytes(200))]) }
        )
    }

    mutating func defaultValue(_ field: Schema.Field) -> Value {
        if field.defaultValue == "null" { return .null }
        if field.isArray { return .array([]) }
        switch field.type {
        case "bool": return .bool(field.defaultValue == "true")
        case "float64": return .double(0)
        case "string": return .string("")
        case "bytes", "records": return .bytes([])
        case "uuid": return .bytes([UInt8](repeating: 0, count: 16))
        case _ where isStruct(field): return structure(children(of: field), .defaults)
        default: return .integer(field.defaultValue.flatMap { Int64($0) } ?? 0)
        }
    }

    private func isStruct(_ field: Schema.Field) -> Bool {
        field.type.first?.isUppercase ?? false
    }

    private mutating func value(_ field: Schema.Field, json: Any) -> Value {
        if json is NSNull { return .null }
        if field.isArray, let elements = json as? [Any] {
            var element = field
            element.isArray = false
            return .array(elements.map { value(element, json: $0) })
        }
        switch (field.type, json) {
        case ("bool", let json as NSNumber): return .bool(json.boolValue)
        case ("float64", let json as NSNumber): return .double(json.doubleValue.bitPattern)
        case ("uuid", let json as String): return .bytes(hex(json.filter { $0 != "-" }))
        case ("string", let json as String): return .string(json)
        case ("bytes", let json as [String: String]), ("records", let json as [String: String]):
            return .bytes(hex(json["hex"] ?? ""))
        case (_, let json as NSNumber): return .integer(json.int64Value)
        case (_, let json as [String: Any]): return structure(children(of: field), .json(json))
        default: return .string("not understood: \(json)")
        }
    }

    private mutating func randomValue(_ field: Schema.Field) -> Value {
        if field.isNullable(in: version), Bool.random(using: &random) { return .null }
        if field.isTagged(in: version), Bool.random(using: &random) { return defaultValue(field) }
        if field.isArray {
            var element = field
            element.isArray = false
            element.nullable = nil
            element.tagged = nil
            return .array(
                (0..<Int.random(in: 0...3, using: &random)).map { _ in randomValue(element) }
            )
        }
        switch field.type {
        case "bool": return .bool(Bool.random(using: &random))
        case "int8": return .integer(Int64(Int8.random(in: .min ... .max, using: &random)))
        case "int16": return .integer(Int64(Int16.random(in: .min ... .max, using: &random)))
        case "uint16": return .integer(Int64(UInt16.random(in: .min ... .max, using: &random)))
        case "int32": return .integer(Int64(Int32.random(in: .min ... .max, using: &random)))
        case "uint32": return .integer(Int64(UInt32.random(in: .min ... .max, using: &random)))
        case "int64": return .integer(Int64.random(in: .min ... .max, using: &random))
        case "float64": return .double(Double.random(in: -1e9...1e9, using: &random).bitPattern)
        case "uuid": return .bytes((0..<16).map { _ in UInt8.random(in: 0...255, using: &random) })
        case "string": return .string(randomString())
        case "bytes": return .bytes(randomBytes(300))
        case "records": return .bytes(randomBytes(10_000))
        default: return structure(children(of: field), .random)
        }
    }

    private mutating func randomString() -> String {
        let alphabet = Array("abcXYZ019._-äß☃🚢 ")
        let longest = Int.random(in: 0..<10, using: &random) == 0 ? 300 : 12
        return String(
            (0..<Int.random(in: 0...longest, using: &random)).map { _ in
                alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
            }
        )
    }

    private mutating func randomBytes(_ limit: Int) -> [UInt8] {
        let first = UInt8.random(in: 0...255, using: &random)
        return (0..<Int.random(in: 0...limit, using: &random)).map {
            first &+ UInt8(truncatingIfNeeded: $0)
        }
    }

    // MARK: Bytes

    private func encode(_ fields: [Schema.Field], _ value: Value, into bytes: inout [UInt8]) {
        guard case .fields(let values) = value else { return }
        var tags: [(tag: UInt32, bytes: [UInt8])] = []
        var defaults = self
        for field in fields where field.versions.contains(version) {
            guard let value = values[field.property] else { continue }
            if field.isTagged(in: version) {
                guard value != defaults.defaultValue(field) else { continue }
                var content: [UInt8] = []
                encode(field, value, into: &content)
                tags.append((field.tag, content))
            } else {
                encode(field, value, into: &bytes)
            }
        }
        guard isFlexible else { return }
        if case .array(let unknown)? = values["unknownTaggedFields"] {
            for case .fields(let field) in unknown {
                if case .integer(let tag)? = field["tag"],
                    case .bytes(let content)? = field["bytes"]
                {
                    tags.append((UInt32(tag), content))
                }
            }
        }
        bytes += uvarint(tags.count)
        for (tag, content) in tags.sorted(by: { $0.tag < $1.tag }) {
            bytes += uvarint(Int(tag)) + uvarint(content.count) + content
        }
    }

    private func encode(_ field: Schema.Field, _ value: Value, into bytes: inout [UInt8]) {
        let isCompact = isFlexible && !field.isNeverCompact
        let lengthSize = field.type == "string" && !field.isArray ? 2 : 4
        func length(_ count: Int) -> [UInt8] {
            isCompact ? uvarint(count + 1) : bigEndian(Int64(count), lengthSize)
        }
        if field.isArray {
            guard case .array(let elements) = value else { return bytes += length(-1) }
            bytes += length(elements.count)
            var element = field
            element.isArray = false
            element.nullable = nil
            elements.forEach { encode(element, $0, into: &bytes) }
        } else if isStruct(field) {
            if field.isNullable(in: version) {
                bytes.append(value == .null ? 0xFF : 1)
            }
            encode(children(of: field), value, into: &bytes)
        } else {
            switch value {
            case .null: bytes += length(-1)
            case .string(let string): bytes += length(string.utf8.count) + string.utf8
            case .bytes(let content) where field.type == "uuid": bytes += content
            case .bytes(let content): bytes += length(content.count) + content
            case .bool(let isTrue): bytes.append(isTrue ? 1 : 0)
            case .double(let pattern): bytes += bigEndian(Int64(bitPattern: pattern), 8)
            case .integer(let integer): bytes += bigEndian(integer, size(of: field.type))
            case .array, .fields: break
            }
        }
    }

    private func size(of type: String) -> Int {
        switch type {
        case "int8": 1
        case "int16", "uint16": 2
        case "int32", "uint32": 4
        default: 8
        }
    }

    private func bigEndian(_ value: Int64, _ size: Int) -> [UInt8] {
        stride(from: (size - 1) * 8, through: 0, by: -8).map {
            UInt8(truncatingIfNeeded: value >> Int64($0))
        }
    }

    private func uvarint(_ value: Int) -> [UInt8] {
        value < 128 ? [UInt8(value)] : [UInt8(value & 127) | 128] + uvarint(value >> 7)
    }
}

/// The bytes of a text of hexadecimal digits.
func hex(_ text: String) -> [UInt8] {
    let digits = text.compactMap { $0.hexDigitValue }
    return stride(from: 0, to: digits.count - 1, by: 2).map {
        UInt8(digits[$0] << 4 | digits[$0 + 1])
    }
}
