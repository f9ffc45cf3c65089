import ArgumentParser
import FlotillaClient
import FlotillaCoordination
import FlotillaModel
import FoundationEssentials
import Logging

/// What every command that talks to a cluster takes.
struct ClientOptions: ParsableArguments {
    @Option(
        name: [.customShort("b"), .long],
        help: ArgumentHelp(
            "Brokers to ask first: HOST:PORT,... ($FLOTILLA_BROKERS, or bootstrap.servers of the file that $KCAT_CONFIG names; localhost:9092)."
        )
    )
    var brokers: String?

    @Flag(name: [.customShort("q"), .long], help: "Say nothing on standard error but errors.")
    var quiet = false

    @Option(
        help: ArgumentHelp(
            "How long each request may take, with connecting and repeating (15s; 3s where every address refuses connections)."
        )
    )
    var timeout: Span?

    /// How long each request may take.
    var patience: Duration { timeout?.duration ?? .seconds(15) }
    /// How long a broker may take to tell sizes, which are worth less than an answer soon.
    var sizePatience: Duration { min(patience, .seconds(3)) }
    /// The same while nobody is there: long enough for a broker that is just starting.
    private static let refusalPatience = Duration.seconds(3)

    /// What the flags, the environment and the property file say together.
    func configuration() throws(CommandFailure) -> ClientConfiguration {
        let environment = ProcessInfo.processInfo.environment
        var text = brokers ?? environment["FLOTILLA_BROKERS"]
        if text == nil, let path = environment["KCAT_CONFIG"] {
            text = try PropertyFile.read(path)["bootstrap.servers"]
        }
        let list = text ?? "localhost:\(BrokerAddress.defaultPort)"
        guard patience > .zero else {
            throw .usage("--timeout takes a time above zero, such as 5s")
        }
        var configuration = ClientConfiguration(brokers: try Addresses.brokers(list))
        configuration.limit(to: patience)
        if timeout == nil { configuration.refusalTimeout = Self.refusalPatience }
        if !quiet { configuration.onWait = { CommandOutput.note($0) } }
        return configuration
    }

    /// Runs `body` with a client, and ends the process with the exit code that its failure asks for.
    func run(_ body: (KafkaClient) async throws -> Void) async throws {
        do {
            let client = KafkaClient(try configuration(), logger: Self.logger)
            do {
                try await body(client)
            } catch {
                let explained = await Topics.explain(error, client)
                await client.close()
                throw explained
            }
            await client.close()
        } catch let error as ClientError {
            throw CommandFailure(error).report()
        } catch let error as CommandFailure {
            throw error.report()
        }
    }

    /// The client's own remarks are for developers.
    private static var logger: Logger {
        Logger(label: "flotilla.client", factory: { _ in SwiftLogNoOpLogHandler() })
    }

    /// Says something beside the data, unless it should not.
    func note(_ text: String) {
        if !quiet { CommandOutput.note(text) }
    }
}

extension ClientConfiguration {
    /// Lets nothing that is asked of the cluster take longer.
    mutating func limit(to patience: Duration) {
        connectTimeout = min(connectTimeout, patience)
        requestTimeout = patience
        retryTimeout = patience
    }
}

/// Addresses on the command line.
enum Addresses {
    /// Reads `HOST:PORT,HOST:PORT`; the port may be left out.
    static func brokers(_ text: String) throws(CommandFailure) -> [BrokerAddress] {
        var addresses: [BrokerAddress] = []
        for part in text.split(separator: ",") where !Words.trimmed(part).isEmpty {
            guard let address = BrokerAddress(part) else { throw .usage(problem(part)) }
            addresses.append(address)
        }
        guard !addresses.isEmpty else {
            throw .usage("the list of brokers is empty; write HOST:PORT,HOST:PORT")
        }
        return addresses
    }

    /// Why a text is no address.
    static func problem(_ text: some StringProtocol) -> String {
        let name = Words.trimmed(text)
        let port = name.split(separator: ":", omittingEmptySubsequences: false).last ?? ""
        if name.contains(":"), Int(port).map({ !(1...65535).contains($0) }) ?? false {
            return "\"\(name)\" is no address: ports lie between 1 and 65535"
        }
        if let end = name.firstRange(of: "://") {
            return "\"\(name)\" is no address: write HOST:PORT without \(name[..<end.upperBound])"
        }
        return "\"\(name)\" is no address; write HOST:PORT"
    }
}

/// `key=value` lines, as librdkafka's tools read them.
enum PropertyFile {
    static func read(_ path: String) throws(CommandFailure) -> [String: String] {
        guard let bytes = try? Data(contentsOf: URL(filePath: path)) else {
            throw .usage("cannot read the property file \(path)")
        }
        var properties: [String: String] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
            let text = line.drop(while: \.isWhitespace)
            guard !text.hasPrefix("#"), let equals = text.firstIndex(of: "=") else { continue }
            let key = Words.trimmed(text[..<equals])
            properties[key] = Words.trimmed(text[text.index(after: equals)...])
        }
        return properties
    }
}

/// Small things about text.
enum Words {
    static func trimmed(_ text: some StringProtocol) -> String {
        var rest = text[...].drop(while: \.isWhitespace)
        while rest.last?.isWhitespace == true { rest.removeLast() }
        return String(rest)
    }

    /// The word that a person may have meant; nil when none is like it.
    static func nearest(to word: String, among words: some Sequence<String>) -> String? {
        guard word.count <= EditDistance.maximumCharacterCount else { return nil }
        // A slip or two; of a short word less, or everything would be like it.
        let limit = min(2, word.count / 3)
        let near = words.compactMap { other -> (distance: Int, word: String)? in
            guard other != word, abs(other.count - word.count) <= limit else { return nil }
            let distance = EditDistance.between(word, other)
            return distance <= limit ? (distance, other) : nil
        }
        return near.min { ($0.distance, $0.word) < ($1.distance, $1.word) }?.word
    }

    static func counted(_ count: Int, _ noun: String) -> String {
        "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
}
