import FlotillaEnvironment
import FlotillaKafkaWire
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// Something that happened, kept until a broken promise wants it in words.
struct SeenEvent {
    var time: Instant
    var what: What

    enum What {
        /// An event of the queue, with the bytes that arrive by it.
        case event(Event, ByteBuffer?)
        /// A replica has another role, or another term.
        case role(Role, Term, ReplicaPlace)
        /// A replica learned that more is committed.
        case commit(LogIndex, ReplicaPlace)
    }
}

extension World {
    /// The bytes that arrive by an event, before it is performed.
    func bytes(of event: Event) -> ByteBuffer? {
        switch event {
        case .frame(let link, let generation):
            network.links[link].generation == generation
                ? network.links[link].frames.first?.frame : nil
        case .request(let connection): clients.nextRequest(connection)
        case .answer(let connection): clients.nextAnswer(connection)
        case .mail, .turnEnd, .timer, .work, .round, .dial, .hangUp, .action: nil
        }
    }

    /// What happened, in words.
    func words(_ seen: SeenEvent) -> String {
        switch seen.what {
        case .event(let event, let bytes): words(event, bytes)
        case .role(let role, let term, let place):
            "broker \(place.broker): \(place.group) is \(role) in term \(term)"
        case .commit(let index, let place):
            "broker \(place.broker): \(place.group) has committed up to \(index)"
        }
    }

    private func words(_ event: Event, _ bytes: ByteBuffer?) -> String {
        switch event {
        case .mail(let place, let lane): "\(place): a message from lane \(lane)"
        case .turnEnd(let place): "\(place): the turn ends"
        case .timer(let place, _): "\(place): timers"
        case .work(let place, let number): "\(place): job \(number) is done"
        case .round(let broker, let life):
            "broker \(broker + 1) in life \(life): the journal's round is durable"
        case .frame(let link, _):
            "\(end(of: link)): \(bytes.map(Self.frameWords) ?? "nothing any more")"
        case .dial(let link, _): "\(end(of: link)): connects"
        case .hangUp(let link, _): "\(end(of: link)): the end of the connection is noticed"
        case .request(let connection):
            "client connection \(connection)"
                + (clients.broker(of: connection).map { " to broker \($0 + 1)" } ?? "")
                + ": \(bytes.map(Self.requestWords) ?? "no request")"
        case .answer(let connection):
            "client connection \(connection): \(bytes.map(Self.answerWords) ?? "no answer")"
        case .action(let action): action.name
        }
    }

    /// Where what a connection between brokers carries comes from and goes to.
    private func end(of number: Int) -> String {
        let link = network.links[number]
        return
            "broker \(link.source.broker + 1) to \(link.target + 1), shard \(link.source.shard), \(link.lane)"
    }

    private static func requestWords(_ frame: ByteBuffer) -> String {
        guard let prefix = try? RequestPrefix(peeking: frame) else { return "an unknown request" }
        let name = APIKey(rawValue: prefix.apiKey).map { "\($0)" } ?? "API \(prefix.apiKey)"
        return
            "request \(prefix.correlationId), \(name) v\(prefix.apiVersion), \(frame.readableBytes) bytes"
    }

    private static func answerWords(_ bytes: ByteBuffer) -> String {
        // The length comes first.
        guard let number = bytes.getInteger(at: bytes.readerIndex + 4, as: Int32.self) else {
            return "\(bytes.readableBytes) bytes"
        }
        return "answer to request \(number), \(bytes.readableBytes) bytes"
    }

    private static func frameWords(_ frame: ByteBuffer) -> String {
        let kind: String
        switch try? PeerMessage(decoding: frame) {
        case .raft(let envelope): kind = "\(envelope.partition): \(envelope.message)"
        case .beat: kind = "a beat"
        case .beatAnswer: kind = "the answer to a beat"
        case .application(let number, _): kind = "application message \(number)"
        case .replica(let message):
            let name = "\(message)".prefix { $0 != "(" }
            kind = "\(PeerMessage.destination(of: frame).map { "\($0): " } ?? "")\(name)"
        case nil: kind = "a frame that cannot be read"
        }
        let text = kind.count > wordLimit ? kind.prefix(wordLimit) + "…" : kind[...]
        return "\(text), \(frame.readableBytes) bytes"
    }

    /// The longest description of a message.
    private static let wordLimit = 240
}
