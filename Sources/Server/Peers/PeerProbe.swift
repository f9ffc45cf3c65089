package import FlotillaEnvironment
package import FlotillaReplication
package import NIOCore

/// Asks a broker one thing, before there are links: whether it is there, who it is, and what
/// cluster formation says.
package enum PeerProbe {
    /// Dials, says hello, returns the answer and hangs up.
    ///
    /// - Parameters:
    ///   - address: a peer listener.
    ///   - hello: what to say; its purpose is `.question`, unless it is a petition.
    ///   - timeout: for all of it; the dial alone has no more than `PeerSettings.connectTimeout`.
    ///   - group: one of its loops is used.
    ///   - settings: limits, and encryption.
    /// - Returns: the answer, whatever it says; the connection is closed.
    /// - Throws: `PeerLinkError` when there is no answer in time, none that can be understood, or none before the task
    ///   is cancelled.
    package static func ask(
        _ address: NetworkAddress,
        _ hello: PeerHello,
        timeout: Duration,
        on group: any EventLoopGroup,
        settings: PeerSettings = PeerSettings()
    ) async throws -> PeerHelloAnswer {
        let eventLoop = group.next()
        var hello = hello
        if hello.purpose == .link { hello.purpose = .question }
        var settings = settings
        settings.connectTimeout = min(timeout, settings.connectTimeout)
        let deadline = NIODeadline.now() + .init(timeout)
        let dialled = PeerDialler.dial(address, settings, on: eventLoop)
            .flatMapErrorThrowing { throw PeerLinkError(dialling: address, $0) }
        // On the loop from the dial to the answer: a task may wait longer for its turn than the answer may take.
        let answered = dialled.flatMap { [hello] channel in
            let answer = eventLoop.makePromise(of: PeerHelloAnswer.self)
            let left = Duration.nanoseconds((deadline - .now()).nanoseconds)
            let handler = PeerDialHandler(
                hello,
                to: address,
                helloTimeout: max(left, .zero),
                answered: { answer.succeed($0) },
                ended: { answer.fail($0) }
            )
            handler.begin(on: channel)
            answer.futureResult.whenComplete { _ in channel.close(promise: nil) }
            return channel.closeFuture.flatMap { answer.futureResult }
        }
        do {
            return try await withTaskCancellationHandler {
                try await answered.get()
            } onCancel: {
                dialled.whenSuccess { $0.close(promise: nil) }
            }
        } catch PeerLinkError.noAnswer {
            throw PeerLinkError.noAnswer(address, timeout)
        }
    }
}
