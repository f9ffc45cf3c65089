import ArgumentParser
import FlotillaClient
import FoundationEssentials
import NIOCore
import NIOPosix

/// Where a broker's HTTP listener is, for what Kafka's protocol cannot say.
struct AdminOptions: ParsableArguments {
    @Option(
        help: "HOST:PORT of a broker's HTTP listener ($FLOTILLA_ADMIN; localhost:9644)."
    )
    var admin: String?

    /// The address that is meant.
    func address() throws(CommandFailure) -> BrokerAddress {
        let environment = ProcessInfo.processInfo.environment
        let text = admin ?? environment["FLOTILLA_ADMIN"] ?? "localhost:9644"
        guard let address = BrokerAddress(text.contains(":") ? text : "\(text):9644") else {
            throw .usage("--admin: \(Addresses.problem(text))")
        }
        return address
    }
}

/// One request to a broker's HTTP listener.
struct AdminRequest {
    /// What the broker answered.
    struct Answer: Hashable, Sendable {
        var status: Int
        var body: String

        /// Reads all that came until the broker hung up; nil for what is no answer.
        init?(_ bytes: ByteBuffer) {
            let text = String(buffer: bytes)
            let words = text.prefix { $0 != "\r\n" }.split(separator: " ")
            guard words.count > 1, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
                let end = text.firstRange(of: "\r\n\r\n")
            else { return nil }
            self.status = status
            body = Words.trimmed(text[end.upperBound...])
        }
    }

    /// Collects what comes until the connection ends.
    private final class Collector: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private static let byteLimit = 1 << 20
        private var received = ByteBuffer()
        private let answer: EventLoopPromise<ByteBuffer>

        init(_ answer: EventLoopPromise<ByteBuffer>) {
            self.answer = answer
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            received.writeBuffer(&bytes)
            if received.readableBytes > Self.byteLimit { context.close(promise: nil) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            answer.fail(error)
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            answer.succeed(received)
        }
    }

    var method: String
    var path: String

    /// Sends it.
    ///
    /// - Throws: `.unreachable` when nobody answers in time, and how to name somebody else.
    func send(to address: BrokerAddress, timeout: Duration) async throws(CommandFailure) -> Answer {
        let end = NIODeadline.now() + .init(timeout)
        let loop = MultiThreadedEventLoopGroup.singleton.next()
        let answer = loop.makePromise(of: ByteBuffer.self)
        let request =
            "\(method) \(path) HTTP/1.1\r\nHost: \(address)\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        do {
            let channel = try await ClientBootstrap(group: loop).connectTimeout(.init(timeout))
                .connect(host: address.host, port: address.port).get()
            let deadline = loop.scheduleTask(deadline: end) {
                answer.fail(ChannelError.connectTimeout(.init(timeout)))
                channel.close(promise: nil)
            }
            try await loop.submit {
                try channel.pipeline.syncOperations.addHandler(Collector(answer))
                channel.writeAndFlush(ByteBuffer(string: request), promise: nil)
            }.get()
            let bytes = try await answer.futureResult.get()
            deadline.cancel()
            guard let answer = Answer(bytes) else {
                throw CommandFailure.unreachable(
                    "\(address) does not speak HTTP; \(Self.advice)"
                )
            }
            return answer
        } catch let failure as CommandFailure {
            throw failure
        } catch {
            // Nobody waits for what a connection that was never made would have said.
            answer.fail(error)
            throw .unreachable(
                "no broker's HTTP listener reached at \(address): \(ClientError.reason(error)); \(Self.advice)"
            )
        }
    }

    /// What to do where nobody answers.
    private static let advice =
        "--admin HOST:PORT ($FLOTILLA_ADMIN) names the one that a broker's --admin or http.listen says"
}
