import FlotillaKafkaWire
import FlotillaModel
import NIOCore

/// A decoded field without its Swift type, so that messages, schemas and JSON can be compared.
indirect enum Value: Equatable {
    case null
    case bool(Bool)
    case integer(Int64)
    case double(UInt64)
    case string(String)
    case bytes([UInt8])
    case array([Value])
    case fields([String: Value])

    /// What a message holds, property by property; empty `unknownTaggedFields` are left out.
    init(reflecting any: Any) {
        let mirror = Mirror(reflecting: any)
        switch any {
        case _ where mirror.displayStyle == .optional:
            self = mirror.children.first.map { Value(reflecting: $0.value) } ?? .null
        case let value as Bool: self = .bool(value)
        case let value as any FixedWidthInteger: self = .integer(Int64(value))
        case let value as Double: self = .double(value.bitPattern)
        case let value as String: self = .string(value)
        case let value as ByteBuffer: self = .bytes(Array(value.readableBytesView))
        case let value as TopicID: self = .bytes(value.bytes)
        case let value as Records:
            self = .bytes(value.buffer.map { Array($0.readableBytesView) } ?? [])
        case _ where mirror.displayStyle == .collection:
            self = .array(mirror.children.map { Value(reflecting: $0.value) })
        default:
            let pairs = mirror.children.map { ($0.label ?? "", Value(reflecting: $0.value)) }
            var fields = Dictionary(uniqueKeysWithValues: pairs)
            if fields["unknownTaggedFields"] == .array([]) {
                fields["unknownTaggedFields"] = nil
            }
            self = .fields(fields)
        }
    }

    /// The first place at which two values differ, for a readable failure; nil if they are equal.
    func difference(from other: Value, path: String = "") -> String? {
        switch (self, other) {
        case (.fields(let left), .fields(let right)):
            for key in Set(left.keys).union(right.keys).sorted() {
                guard let leftValue = left[key], let rightValue = right[key] else {
                    return "\(path).\(key) is missing on one side"
                }
                if let found = leftValue.difference(from: rightValue, path: "\(path).\(key)") {
                    return found
                }
            }
            return nil
        case (.array(let left), .array(let right)) where left.count == right.count:
            for (index, pair) in zip(left, right).enumerated() {
                if let found = pair.0.difference(from: pair.1, path: "\(path)[\(index)]") {
                    return found
                }
            }
            return nil
        default:
            return self == other ? nil : "\(path): \(self) is not \(other)"
        }
    }
}

extension TopicID {
    /// The sixteen bytes, most significant first.
    var bytes: [UInt8] {
        [high, low].flatMap { half in
            stride(from: 56, through: 0, by: -8).map {
                UInt8(truncatingIfNeeded: half >> UInt64($0))
            }
        }
    }
}
