import ArgumentParser
import FlotillaClient
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

    @Option(help: "How long to wait for a cluster that does not answer.")
    var timeout = Span(.seconds(15))

    /// What the flags, the environment and the property file say together.
    func configuration() throws(CommandFailure) -> ClientConfiguration {
        let environment = ProcessInfo.processInfo.environment
        var text = brokers ?? environment["FLOTILLA_BROKERS"]
        if text == nil, let path = environment["KCAT_CONFIG"] {
            text = try PropertyFile.read(path)["bootstrap.servers"]
        }
        let list = text ?? "localhost:\(BrokerAddress.defaultPort)"
        guard let addresses = BrokerAddress.list(list) else {
            throw .usage("\"\(list)\" is no list of brokers; write HOST:PORT,HOST:PORT")
        }
        var configuration = ClientConfiguration(brokers: addresses)
        configuration.retryTimeout = timeout.duration
        configuration.connectTimeout = min(configuration.connectTimeout, timeout.duration)
        return configuration
    }

    /// Runs `body` with a client, and ends the process with the exit code that its failure asks for.
    func run(_ body: (KafkaClient) async throws -> Void) async throws {
        do {
            let client = KafkaClient(try configuration(), logger: Self.logger)
            do {
                try await body(client)
            } catch {
                await client.close()
                throw error
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

    static func counted(_ count: Int, _ noun: String) -> String {
        "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
}
