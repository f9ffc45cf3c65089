import ArgumentParser
import FoundationEssentials
import TOMLKit

/// Reads a workload's file.
///
/// All that is wrong with a file is told at once, each with its key.
struct WorkloadFile {
    private var workload: Workload
    private var problems: [String] = []
    private let table: TOMLTable

    private static let keys = [
        "description", "topics", "partitions", "replicas", "record-size", "payload", "keys", "rate",
        "producers", "groups", "consumers", "acks", "codec", "idempotent", "batch-size", "linger",
        "in-flight", "backlog", "warmup", "duration", "topic-settings", "faults",
    ]
    private static let faultKeys = ["at", "do", "for"]
    /// More of anything is a slip of the finger.
    private static let largestCount = 100_000

    /// Reads the file at `path`; the workload has its name, without the ending.
    static func read(_ path: String) throws(CommandFailure) -> Workload {
        guard let bytes = try? Data(contentsOf: URL(filePath: path)) else {
            throw .notFound("\(path) cannot be read")
        }
        let name = path.split(separator: "/").last ?? ""
        return try parse(
            String(decoding: bytes, as: UTF8.self),
            name: String(name.hasSuffix(".toml") ? name.dropLast(5) : name),
            path: path
        )
    }

    /// Reads a file's text.
    static func parse(
        _ text: String,
        name: String,
        path: String
    ) throws(CommandFailure) -> Workload {
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch let error as TOMLParseError {
            throw .usage("\(path): line \(error.source.begin.line): \(error.description)")
        } catch {
            throw .usage("\(path): \(error)")
        }
        var file = WorkloadFile(workload: Workload(name: name), table: table)
        file.read()
        guard file.problems.isEmpty else {
            throw .usage(file.problems.map { "\(path): \($0)" }.joined(separator: "\n"))
        }
        return file.workload
    }

    private init(workload: Workload, table: TOMLTable) {
        self.workload = workload
        self.table = table
    }

    private mutating func read() {
        refuseStrangers(table, Self.keys, "")
        workload.description = text("description") ?? ""
        count("topics", 1) { $0.topicCount = $1 }
        count("partitions", 1) { $0.partitionCount = $1 }
        count("replicas", 1) { $0.replicaCount = $1 }
        count("producers", 1) { $0.producerCount = $1 }
        count("groups", 0) { $0.groupCount = $1 }
        count("consumers", 1) { $0.consumerCount = $1 }
        count("in-flight", 1) { $0.inFlight = $1 }
        value("record-size", Size.self, "a size such as 1KiB") { $0.recordByteCount = $1.byteCount }
        value("batch-size", Size.self, "a size such as 256KiB") {
            $0.batchByteCount = max($1.byteCount, 1)
        }
        value("backlog", Size.self, "a size such as 10GB") { $0.backlogByteCount = $1.byteCount }
        value("payload", PayloadKind.self, "random or json") { $0.payload = $1 }
        value("keys", KeyKind.self, "none or random") { $0.isKeyed = $1 == .random }
        value("acks", AcksName.self, "all, 1 or 0") { $0.acks = $1 }
        value("codec", CompressionName.self, "none, gzip, snappy, lz4 or zstd") { $0.codec = $1 }
        value("linger", Span.self, "a time such as 5ms") { $0.linger = $1 }
        value("warmup", Span.self, "a time such as 5s") { $0.warmup = $1 }
        value("duration", Span.self, "a time such as 30s") { $0.duration = $1 }
        value("rate", Workload.Pace.self, "max, a rate such as 50k/s, or a share such as 33%") {
            $0.pace = $1
        }
        if let value = table["idempotent"] {
            if let isIdempotent = value.bool {
                workload.isIdempotent = isIdempotent
            } else {
                problems.append("idempotent takes true or false")
            }
        }
        readSettings()
        readFaults()
        if workload.duration.milliseconds < 1000 {
            problems.append("duration is a second at least")
        }
        if workload.backlogByteCount > 0, workload.groupCount == 0 {
            problems.append("a backlog wants groups that read it")
        }
    }

    private mutating func readSettings() {
        guard let value = table["topic-settings"] else { return }
        guard let settings = value.table else {
            problems.append("topic-settings is a table: [topic-settings]")
            return
        }
        for (name, value) in settings {
            if let text = Self.text(of: value) {
                workload.topicSettings[name] = text
            } else {
                problems.append(
                    "topic-settings: \(name) takes a text; write names with a dot in quotes"
                )
            }
        }
    }

    private mutating func readFaults() {
        guard let value = table["faults"] else { return }
        guard let faults = value.array else {
            problems.append("faults is a list of tables: [[faults]]")
            return
        }
        for (index, value) in faults.enumerated() {
            guard let fault = value.table else {
                problems.append("faults is a list of tables: [[faults]]")
                return
            }
            let place = "fault \(index + 1): "
            refuseStrangers(fault, Self.faultKeys, place)
            let kind = fault["do"]?.string.flatMap(Workload.Fault.Kind.init)
            let time = fault["at"].flatMap(Self.text).flatMap(Span.init(argument:))
            let length = fault["for"].flatMap(Self.text).flatMap(Span.init(argument:))
            if let kind, let time, let length {
                workload.faults.append(.init(kind: kind, time: time, length: length))
            } else {
                let kinds = Workload.Fault.Kind.allCases.map(\.rawValue).joined(separator: ", ")
                problems.append(
                    "\(place)it has do (one of \(kinds)), at and for (times such as 5s)"
                )
            }
        }
        workload.faults.sort { $0.time.duration < $1.time.duration }
    }

    // MARK: Values

    private mutating func refuseStrangers(_ table: TOMLTable, _ known: [String], _ place: String) {
        for key in table.keys.sorted() where !known.contains(key) {
            let nearest = Words.nearest(to: key, among: known)
            problems.append(
                "\(place)\(key): no such key" + (nearest.map { "; did you mean \($0)?" } ?? "")
            )
        }
    }

    private mutating func text(_ key: String) -> String? {
        guard let value = table[key] else { return nil }
        guard let text = Self.text(of: value) else {
            problems.append("\(key) takes one value")
            return nil
        }
        return text
    }

    private mutating func count(
        _ key: String,
        _ least: Int,
        _ set: (inout Workload, Int) -> Void
    ) {
        guard let text = text(key) else { return }
        guard let count = Int(text), (least...Self.largestCount).contains(count) else {
            problems.append("\(key) takes a number from \(least) to \(Self.largestCount)")
            return
        }
        set(&workload, count)
    }

    private mutating func value<Value: ExpressibleByArgument>(
        _ key: String,
        _ type: Value.Type,
        _ wanted: String,
        _ set: (inout Workload, Value) -> Void
    ) {
        guard let text = text(key) else { return }
        guard let value = Value(argument: text) else {
            problems.append("\(key) takes \(wanted), not \"\(text)\"")
            return
        }
        set(&workload, value)
    }

    private static func text(of value: any TOMLValueConvertible) -> String? {
        value.string ?? value.int.map { String($0) } ?? value.double.map { Decimals.text($0, 3) }
            ?? value.bool.map { String($0) }
    }
}

/// What keys records have.
private enum KeyKind: String, ExpressibleByArgument {
    case none, random
}

extension Workload.Pace: ExpressibleByArgument {
    /// `max`, `33%`, or a rate.
    init?(argument: String) {
        if argument == "max" {
            self = .flatOut
        } else if argument.hasSuffix("%") {
            guard let percent = Double(argument.dropLast()), percent > 0, percent <= 100 else {
                return nil
            }
            self = .share(percent / 100)
        } else {
            guard let rate = Rate(argument: argument) else { return nil }
            self = .fixed(rate.perSecond)
        }
    }
}
