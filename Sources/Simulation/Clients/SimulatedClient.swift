import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import struct NIOCore.ByteBuffer

/// Why a request has no answer: the connection could not be made, ended, or nothing came in time.
struct ClientFailure: Error {
    var reason: String
}

/// A Kafka client without threads: real request bytes to any broker, and what comes back.
final class SimulatedClient {
    unowned let world: World
    let name: String
    /// The connection to each broker.
    private var connections: [Int: Int] = [:]
    private var pending: [Int32: Pending] = [:]
    private var input: [Int: ByteBuffer] = [:]
    private var nextID: Int32 = 1

    private struct Pending {
        var connection: Int
        var finish: (Result<ByteBuffer, ClientFailure>) -> Void
    }

    init(_ name: String, world: World) {
        self.name = name
        self.world = world
    }

    /// Asks a broker; the answer or its absence comes later, once.
    func ask<Request: KafkaRequest>(
        _ request: Request,
        version: Int16,
        of broker: Int,
        within timeout: Duration = .seconds(4),
        then completion: @escaping (Result<Request.Response, ClientFailure>) -> Void
    ) {
        guard let connection = connection(to: broker) else {
            return world.act("\(name) cannot connect", after: .milliseconds(20)) {
                completion(.failure(ClientFailure(reason: "no connection")))
            }
        }
        let id = nextID
        pending[id] = Pending(connection: connection) { [unowned self] result in
            switch result {
            case .failure(let failure): completion(.failure(failure))
            case .success(let frame): self.decode(frame, Request.self, version, completion)
            }
        }
        write(request, version, on: connection)
        world.act("\(name) waits no longer", after: timeout) { [weak self] in
            guard let self, self.pending[id] != nil else { return }
            // A client that waited in vain does not trust the connection any more.
            self.world.clients.close(connection)
            self.disconnected(connection)
        }
    }

    /// Sends a request that nobody answers.
    func send<Request: KafkaRequest>(_ request: Request, version: Int16, to broker: Int) {
        if let connection = connection(to: broker) { write(request, version, on: connection) }
    }

    private func connection(to broker: Int) -> Int? {
        if let known = connections[broker] { return known }
        let connection = world.clients.connect(self, to: broker)
        connections[broker] = connection
        return connection
    }

    private func write<Request: KafkaRequest>(
        _ request: Request,
        _ version: Int16,
        on connection: Int
    ) {
        do {
            var frame = try request.frame(version: version, correlationId: nextID, clientId: name)
                .contiguousBytes()
            nextID += 1
            frame.moveReaderIndex(forwardBy: FrameLength.byteCount)
            world.clients.send(frame, on: connection)
        } catch {
            world.violate("\(Request.name) cannot be written: \(error)")
        }
    }

    private func decode<Request: KafkaRequest>(
        _ frame: ByteBuffer,
        _ request: Request.Type,
        _ version: Int16,
        _ completion: (Result<Request.Response, ClientFailure>) -> Void
    ) {
        var frame = frame
        do {
            _ = try ResponseHeader(consuming: &frame, api: Request.apiKey, version: version)
            completion(.success(try Request.Response(from: frame, version: version)))
        } catch {
            world.violate("an answer to \(Request.name) cannot be read: \(error)")
        }
    }

    // MARK: What happens

    /// Bytes arrived.
    func received(_ bytes: ByteBuffer, on connection: Int) {
        var buffer = input.removeValue(forKey: connection) ?? ByteBuffer()
        buffer.writeImmutableBuffer(bytes)
        while let length = buffer.getInteger(at: buffer.readerIndex, as: Int32.self),
            buffer.readableBytes >= 4 + Int(length)
        {
            buffer.moveReaderIndex(forwardBy: 4)
            guard let frame = buffer.readSlice(length: Int(length)),
                let id = frame.getInteger(at: frame.readerIndex, as: Int32.self)
            else {
                return world.violate("an answer has no correlation id")
            }
            guard let waiting = pending.removeValue(forKey: id) else {
                return world.violate("an answer came to nothing that was asked")
            }
            waiting.finish(.success(frame))
        }
        input[connection] = buffer
    }

    /// A connection ended; what waited on it gets no answer.
    func disconnected(_ connection: Int) {
        for (broker, number) in connections where number == connection {
            connections[broker] = nil
        }
        input[connection] = nil
        for id in pending.filter({ $0.value.connection == connection }).keys.sorted() {
            pending.removeValue(forKey: id)?.finish(
                .failure(ClientFailure(reason: "connection lost"))
            )
        }
    }
}
