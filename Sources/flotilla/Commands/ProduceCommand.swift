import ArgumentParser
import FlotillaClient
import FlotillaModel
import NIOCore
import Synchronization

/// `flotilla produce`.
struct ProduceCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "produce",
        abstract: "Publish lines as records.",
        discussion: """
            echo hello | flotilla produce greetings
            flotilla produce orders -K : -z lz4 -l orders.txt    key:value lines of a file
            flotilla produce orders --format '%k\\t%v\\n' -o json     where each record went, one line of JSON each
            """
    )

    @Argument(help: "The topic.")
    var topic: String

    @OptionGroup var client: ClientOptions

    @Option(name: [.customShort("k"), .customLong("key")], help: "The key of every record.")
    var key: String?

    @Option(
        name: [.customShort("K"), .customLong("key-delimiter")],
        help: "What stands between key and value in a line."
    )
    var keyDelimiter: String?

    @Option(
        name: [.customShort("D"), .customLong("delimiter")],
        help: "What ends a record; one byte."
    )
    var delimiter = "\\n"

    @Option(
        name: [.customShort("H"), .customLong("header")],
        help: "NAME=VALUE, a header of every record; may be repeated."
    )
    var headers: [String] = []

    @Option(
        name: [.customShort("p"), .customLong("partition")],
        help: "The partition; otherwise the key decides."
    )
    var partition: Int32?

    @Option(
        name: [.customShort("z"), .customLong("compression")],
        help: "none, gzip, snappy, lz4, zstd."
    )
    var compression = CompressionName(.none)

    @Option(help: "What to wait for: all, 1 (the leader) or 0 (nothing).")
    var acks = AcksName(.all)

    @Option(help: "How a line is made of %k and %v, such as '%k\\t%v\\n'.")
    var format: String?

    @Option(help: "At most so many records: 1000/s.")
    var rate: Rate?

    @Option(
        name: [.customShort("l"), .customLong("lines")],
        help: "A file to read instead of standard input."
    )
    var file: String?

    @Flag(name: .customShort("Z"), help: "An empty value (and key) is null.")
    var emptyIsNull = false

    @Option(
        name: .customShort("o"),
        help: "Print each acknowledged record: json; otherwise nothing."
    )
    var output: String?

    @Option(help: "How long a batch waits for more records.")
    var linger = Span(.milliseconds(5))

    @Option(help: "How long to repeat a record that is not acknowledged.")
    var deliveryTimeout = Span(.seconds(120))

    func run() async throws {
        try await client.run { client in
            guard output == nil || output == "json" else {
                throw CommandFailure.usage("-o takes json")
            }
            let reading = try RecordReading(self)
            try await findTopic(client)
            let deliveries = Deliveries(topic: topic, isPrinting: output == "json")
            let producer = Producer(client, settings) { deliveries.note($0) }
            var reader = reading
            try await publish(&reader, producer)
            await producer.close()
            try deliveries.conclude()
        }
    }

    private var settings: ProducerConfiguration {
        var settings = ProducerConfiguration()
        settings.acks = acks.value
        settings.compression = compression.value
        settings.linger = linger.duration
        settings.deliveryTimeout = deliveryTimeout.duration
        return settings
    }

    /// Makes sure that the topic is there, and says so where it had to be created.
    private func findTopic(_ client: KafkaClient) async throws {
        func look(allowsCreation: Bool) async throws -> ClusterMetadata.Topic? {
            try await client.metadata(topics: [topic], allowsCreation: allowsCreation).topic(topic)
        }
        var found = try await look(allowsCreation: false)
        if found?.error == .unknownTopicOrPartition {
            let end = ContinuousClock.now + .seconds(5)
            found = try await look(allowsCreation: true)
            while found?.error != .noError, ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(20))
                found = try await look(allowsCreation: true)
            }
            if let found, found.error == .noError {
                self.client.note(
                    "created topic \(topic) with \(Words.counted(found.partitions.count, "partition"))"
                )
            }
        }
        guard let found, found.error != .unknownTopicOrPartition else {
            throw CommandFailure.notFound(
                "topic \(topic) does not exist, and the cluster does not create topics; flotilla topic create \(topic)"
            )
        }
        if let partition, partition < 0 || partition >= found.partitions.count {
            throw ClientError.noSuchPartition(NamedPartition(topic: topic, index: partition))
        }
        if !found.error.isRetriable, found.error != .noError {
            throw ClientError.refused(found.error, subject: "topic \(topic)", message: nil)
        }
    }

    private func publish(_ reader: inout RecordReading, _ producer: Producer) async throws {
        var line: UInt64 = 0
        let start = ContinuousClock.now
        while let record = try reader.next() {
            if let rate {
                try await Task.sleep(until: start + .seconds(Double(line) / rate.perSecond))
            }
            line += 1
            while true {
                do throws(ClientError) {
                    try producer.enqueue(record, tag: line)
                    break
                } catch {
                    guard error == .bufferFull else { throw error }
                    await producer.waitForRoom()
                }
            }
        }
    }
}

/// Counts what became of the records, and prints where they went.
private final class Deliveries: Sendable {
    private struct Counts {
        var acknowledged = 0
        var failed = 0
        var firstError: ClientError?
        var isOutputClosed = false
    }

    private let topic: String
    private let isPrinting: Bool
    private let output = StandardOutput()
    private let counts = Mutex(Counts())

    init(topic: String, isPrinting: Bool) {
        self.topic = JSONText.quoted(topic)
        self.isPrinting = isPrinting
    }

    func note(_ report: DeliveryReport) {
        if let error = report.error {
            counts.withLock { counts in
                counts.failed += report.tags.count
                if counts.firstError == nil { counts.firstError = error }
            }
            return
        }
        counts.withLock { $0.acknowledged += report.tags.count }
        guard isPrinting else { return }
        do throws(CommandFailure) {
            try output.write { output in
                for (index, tag) in report.tags.enumerated() {
                    let offset = report.baseOffset.map { "\($0 + Int64(index))" } ?? "null"
                    output.writeString(
                        "{\"line\":\(tag),\"topic\":\(topic),\"partition\":\(report.partition.index),\"offset\":\(offset)}\n"
                    )
                }
            }
            try output.flush()
        } catch {
            counts.withLock { $0.isOutputClosed = true }
        }
    }

    func conclude() throws {
        let (acknowledged, failed, error, isOutputClosed) = counts.withLock {
            ($0.acknowledged, $0.failed, $0.firstError, $0.isOutputClosed)
        }
        if let error {
            if acknowledged == 0 { throw error }
            throw CommandFailure.partial(
                "\(Words.counted(failed, "record")) of \(acknowledged + failed) failed: \(error)"
            )
        }
        if isOutputClosed { throw CommandFailure.failed("standard output is closed") }
    }
}

/// Makes records of lines.
private struct RecordReading {
    private var lines: LineReader
    private let topic: String
    private let key: ByteBuffer?
    private let separator: [UInt8]?
    private let isKeyFirst: Bool
    private let headers: [Header]
    private let partition: Int32?
    private let emptyIsNull: Bool

    init(_ command: ProduceCommand) throws(CommandFailure) {
        var delimiter = try RecordFormat.bytes(command.delimiter)
        var separator: [UInt8]?
        var isKeyFirst = true
        if let keyDelimiter = command.keyDelimiter {
            separator = try RecordFormat.bytes(keyDelimiter)
        }
        if let format = command.format {
            (separator, isKeyFirst, delimiter) = try Self.read(format, delimiter)
        }
        if separator?.isEmpty == true { throw .usage("key and value need something between them") }
        guard delimiter.count == 1 else { throw .usage("a record ends with one byte") }
        if let file = command.file {
            guard let descriptor = LineReader.open(file) else {
                throw .notFound("cannot read \(file)")
            }
            lines = LineReader(delimiter: delimiter[0], descriptor: descriptor)
        } else {
            lines = LineReader(delimiter: delimiter[0])
        }
        self.separator = separator
        self.isKeyFirst = isKeyFirst
        topic = command.topic
        key = command.key.map { ByteBuffer(string: $0) }
        partition = command.partition
        emptyIsNull = command.emptyIsNull
        var headers: [Header] = []
        for text in command.headers {
            let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            let value = parts.count > 1 ? ByteBuffer(substring: parts[1]) : nil
            headers.append(Header(name: String(parts[0]), value: value))
        }
        self.headers = headers
    }

    /// `%v`, `%k<text>%v`, `%v<text>%k`, each with the byte that ends a record behind it or without.
    private static func read(
        _ format: String,
        _ end: [UInt8]
    ) throws(CommandFailure) -> (separator: [UInt8]?, isKeyFirst: Bool, end: [UInt8]) {
        var pieces = try RecordFormat(format).pieces
        var end = end
        if case .text(let text)? = pieces.last, pieces.count % 2 == 0 {
            end = text
            pieces.removeLast()
        }
        if pieces == [.value] { return (nil, true, end) }
        guard pieces.count == 3, case .text(let separator) = pieces[1] else {
            throw .usage(
                "--format is made of %k and %v with text between them, and one byte that ends the record"
            )
        }
        if pieces[0] == .key, pieces[2] == .value { return (separator, true, end) }
        if pieces[0] == .value, pieces[2] == .key { return (separator, false, end) }
        throw .usage("--format names %k once and %v once")
    }

    /// The next record; nil after the last line.
    mutating func next() throws -> ProducerRecord? {
        guard var line = lines.next() else { return nil }
        var key = key
        if let separator, let place = Self.find(separator, in: line) {
            let first = line.readSlice(length: place)
            line.moveReaderIndex(forwardBy: separator.count)
            if isKeyFirst {
                key = first
            } else {
                key = line
                line = first ?? ByteBuffer()
            }
        }
        if emptyIsNull, key?.readableBytes == 0 { key = nil }
        let value: ByteBuffer? = emptyIsNull && line.readableBytes == 0 ? nil : line
        return ProducerRecord(
            topic: topic,
            partition: partition,
            key: key,
            value: value,
            headers: headers
        )
    }

    private static func find(_ separator: [UInt8], in line: ByteBuffer) -> Int? {
        let view = line.readableBytesView
        if separator.count == 1 {
            return view.firstIndex(of: separator[0]).map { $0 - view.startIndex }
        }
        guard view.count >= separator.count else { return nil }
        for start in view.startIndex...(view.endIndex - separator.count)
        where view[start..<(start + separator.count)].elementsEqual(separator) {
            return start - view.startIndex
        }
        return nil
    }
}

/// A codec by its name.
struct CompressionName: ExpressibleByArgument {
    let value: Compression

    init(_ value: Compression) { self.value = value }

    init?(argument: String) {
        guard let value = Compression(rawValue: argument) else { return nil }
        self.value = value
    }

    var defaultValueDescription: String { value.rawValue }
    static var allValueStrings: [String] { Compression.allCases.map(\.rawValue) }
}

/// What to wait for, by Kafka's names.
struct AcksName: ExpressibleByArgument {
    let value: Acks

    init(_ value: Acks) { self.value = value }

    init?(argument: String) {
        switch argument {
        case "all", "-1": value = .all
        case "1", "leader": value = .leader
        case "0", "none": value = .none
        default: return nil
        }
    }

    var defaultValueDescription: String { value == .all ? "all" : String(value.rawValue) }
    static var allValueStrings: [String] { ["all", "1", "0"] }
}
