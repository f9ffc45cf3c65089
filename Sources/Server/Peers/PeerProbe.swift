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
    ///   - timeout: for the dial, which has no more than `PeerSettings.connectTimeout`, and then for the answer: a task may wait for its turn
    ///     in between, which is not the peer's fault.
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
        let channel: any Channel
        do {
            channel = try await PeerDialler.dial(address, settings, on: eventLoop).get()
        } catch {
            throw PeerLinkError(dialling: address, error)
        }
        let answer = eventLoop.makePromise(of: PeerHelloAnswer.self)
        eventLoop.execute { [hello] in
            let handler = PeerDialHandler(
                hello,
                to: address,
                helloTimeout: timeout,
                answered: { answer.succeed($0) },
                ended: { answer.fail($0) }
            )
            handler.begin(on: channel)
        }
        do {
            let result = try await withTaskCancellationHandler {
                try await answer.futureResult.get()
            } onCancel: {
                channel.close(promise: nil)
            }
            await hangUp(channel)
            return result
        } catch PeerLinkError.noAnswer {
            await hangUp(channel)
            throw PeerLinkError.noAnswer(address, timeout)
        } catch {
            await hangUp(channel)
            throw error
        }
    }

    private static func hangUp(_ channel: any Channel) async {
        channel.close(promise: nil)
        await channel.hasClosed()
    }
}
