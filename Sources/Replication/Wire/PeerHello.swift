package import FlotillaEnvironment
package import FlotillaModel

package import struct NIOCore.ByteBuffer

/// The first bytes of a peer connection, from the broker that dialled.
///
/// Little endian. The first 16 bytes mean the same in every version, so that a broker of another
/// version can take all of a hello and answer it.
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotPeer` |
/// | 8-9 | version |
/// | 10 | purpose: 0 link, 1 question, 2 petition |
/// | 11 | lane: 0 live, 1 bulk |
/// | 12-15 | length of the whole hello |
/// | 16-19 | the dialler's broker id |
/// | 20-23 | the dialler's shard |
/// | 24-31, 32-39 | the dialler's incarnation, its two halves |
/// | 40-43 | length of the cluster id |
/// | 44-47 | length of the body |
/// | 48- | the cluster id, empty before there is one, and the body |
package struct PeerHello: Hashable, Sendable {
    static let magic: UInt64 = 0x7265_6550_746F_6C46

    /// What a connection is for.
    package enum Purpose: UInt8, Hashable, Sendable, CaseIterable {
        /// It stays, and carries the frames of one shard and lane.
        case link = 0
        /// The dialler wants the answer only, and hangs up.
        case question = 1
        /// The dialler wants to be a broker of the cluster; the answer takes as long as the controller does.
        case petition = 2
    }

    /// What the connection is for.
    package var purpose: Purpose
    /// Which of the dialling shard's two connections it is.
    package var lane: PeerLane
    /// Who dials.
    package var broker: BrokerID
    /// Which life of the dialler's directories.
    package var incarnation: BrokerIncarnation
    /// The dialler's cluster, at most `PeerGreeting.clusterIDLimit` bytes; empty before it has one.
    package var clusterID: String
    /// Which shard of the dialler sends.
    package var shard: UInt32
    /// What cluster formation has to say, or the petition; at most `PeerGreeting.bodyLimit` bytes.
    package var body: ByteBuffer

    /// Introduces a broker to a peer.
    package init(
        purpose: Purpose = .link,
        lane: PeerLane = .live,
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        clusterID: String,
        shard: UInt32 = 0,
        body: ByteBuffer = ByteBuffer()
    ) {
        self.purpose = purpose
        self.lane = lane
        self.broker = broker
        self.incarnation = incarnation
        self.clusterID = clusterID
        self.shard = shard
        self.body = body
    }

    /// The hello as it goes over the wire.
    package var encoded: ByteBuffer {
        PeerGreeting.checkLimits(clusterID: clusterID, body: body)
        var bytes = PeerGreeting.head(Self.magic, purpose.rawValue, lane.rawValue)
        bytes.writeInteger(broker.rawValue, endianness: .little)
        bytes.writeInteger(shard, endianness: .little)
        PeerGreeting.write(incarnation, to: &bytes)
        bytes.writeInteger(UInt32(clusterID.utf8.count), endianness: .little)
        bytes.writeInteger(UInt32(body.readableBytes), endianness: .little)
        bytes.writeString(clusterID)
        bytes.writeImmutableBuffer(body)
        PeerGreeting.setLength(of: &bytes)
        return bytes
    }

    /// Takes a hello off the front of `stream`.
    ///
    /// - Parameter stream: what the dialler said so far; untouched while the hello is incomplete.
    /// - Returns: nil when more bytes are needed.
    /// - Throws: what makes the bytes no hello of this version. With `.unsupportedVersion` the
    ///   dialler has said all of it, and listens for an answer.
    package static func take(from stream: inout ByteBuffer) throws(PeerHelloError) -> PeerHello? {
        guard var greeting = try PeerGreeting.take(from: &stream, magic) else { return nil }
        guard let purpose = Purpose(rawValue: greeting.first) else {
            throw .valueOutOfBounds(field: "purpose", value: greeting.first)
        }
        guard let lane = PeerLane(rawValue: greeting.second) else {
            throw .valueOutOfBounds(field: "lane", value: greeting.second)
        }
        let broker = try greeting.integer(Int32.self)
        let shard = try greeting.integer(UInt32.self)
        let incarnation = try greeting.incarnation()
        let clusterIDLength = Int(try greeting.integer(UInt32.self))
        let bodyLength = Int(try greeting.integer(UInt32.self))
        let hello = PeerHello(
            purpose: purpose,
            lane: lane,
            broker: BrokerID(broker),
            incarnation: incarnation,
            clusterID: try greeting.text(
                "cluster id",
                clusterIDLength,
                PeerGreeting.clusterIDLimit
            ),
            shard: shard,
            body: try greeting.bytes("body", bodyLength, PeerGreeting.bodyLimit)
        )
        try greeting.finish()
        return hello
    }
}

/// The only bytes that the broker that was dialled sends: whether it takes the connection.
///
/// Little endian; the first 16 bytes mean the same in every version.
///
/// | bytes | field |
/// |---|---|
/// | 0-7 | magic `FlotAnsw` |
/// | 8-9 | version |
/// | 10 | verdict: 1 accepted, 0 refused, 2 not yet |
/// | 11 | zero |
/// | 12-15 | length of the whole answer |
/// | 16-19 | the answering broker's id |
/// | 20-23 | length of the sentence |
/// | 24-31, 32-39 | the answering broker's incarnation, its two halves |
/// | 40-43 | length of the cluster id |
/// | 44-47 | length of the body |
/// | 48- | the cluster id, the sentence that says why not, or not yet (empty when accepted), and the body |
package struct PeerHelloAnswer: Hashable, Sendable {
    static let magic: UInt64 = 0x7773_6E41_746F_6C46

    /// Whether the connection is taken.
    package enum Verdict: Hashable, Sendable {
        /// Frames may follow.
        case accepted
        /// The connection ends here, for the reason that the sentence names.
        case refused(String)
        /// The connection ends here, and another one will be taken once what the sentence names is done.
        case notYet(String)

        /// The byte on the wire.
        fileprivate var code: UInt8 {
            switch self {
            case .refused: 0
            case .accepted: 1
            case .notYet: 2
            }
        }

        /// Why the connection ends; empty when it does not.
        fileprivate var sentence: String {
            switch self {
            case .accepted: ""
            case .refused(let sentence), .notYet(let sentence): PeerGreeting.cut(sentence)
            }
        }
    }

    /// Whether the connection is taken.
    package var verdict: Verdict
    /// Who answers.
    package var broker: BrokerID
    /// Which life of its directories.
    package var incarnation: BrokerIncarnation
    /// Its cluster, at most `PeerGreeting.clusterIDLimit` bytes; empty before it has one.
    package var clusterID: String
    /// What cluster formation has to say, or what became of a petition; at most `PeerGreeting.bodyLimit`
    /// bytes.
    package var body: ByteBuffer

    /// Answers a hello.
    ///
    /// A sentence of more than `PeerGreeting.sentenceLimit` bytes is cut when it is sent.
    package init(
        _ verdict: Verdict,
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        clusterID: String,
        body: ByteBuffer = ByteBuffer()
    ) {
        self.verdict = verdict
        self.broker = broker
        self.incarnation = incarnation
        self.clusterID = clusterID
        self.body = body
    }

    /// The answer as it goes over the wire.
    package var encoded: ByteBuffer {
        PeerGreeting.checkLimits(clusterID: clusterID, body: body)
        let sentence = verdict.sentence
        var bytes = PeerGreeting.head(Self.magic, verdict.code, 0)
        bytes.writeInteger(broker.rawValue, endianness: .little)
        bytes.writeInteger(UInt32(sentence.utf8.count), endianness: .little)
        PeerGreeting.write(incarnation, to: &bytes)
        bytes.writeInteger(UInt32(clusterID.utf8.count), endianness: .little)
        bytes.writeInteger(UInt32(body.readableBytes), endianness: .little)
        bytes.writeString(clusterID)
        bytes.writeString(sentence)
        bytes.writeImmutableBuffer(body)
        PeerGreeting.setLength(of: &bytes)
        return bytes
    }

    /// Takes an answer off the front of `stream`.
    ///
    /// - Parameter stream: what was answered so far; untouched while the answer is incomplete.
    /// - Returns: nil when more bytes are needed.
    /// - Throws: what makes the bytes no answer of this version.
    package static func take(from stream: inout ByteBuffer) throws(PeerHelloError)
        -> PeerHelloAnswer?
    {
        guard var greeting = try PeerGreeting.take(from: &stream, magic) else { return nil }
        guard greeting.first <= 2 else {
            throw .valueOutOfBounds(field: "verdict", value: greeting.first)
        }
        guard greeting.second == 0 else {
            throw .valueOutOfBounds(field: "reserved byte", value: greeting.second)
        }
        let broker = try greeting.integer(Int32.self)
        let sentenceLength = Int(try greeting.integer(UInt32.self))
        let incarnation = try greeting.incarnation()
        let clusterIDLength = Int(try greeting.integer(UInt32.self))
        let bodyLength = Int(try greeting.integer(UInt32.self))
        let clusterID = try greeting.text(
            "cluster id",
            clusterIDLength,
            PeerGreeting.clusterIDLimit
        )
        let sentence = try greeting.text("sentence", sentenceLength, PeerGreeting.sentenceLimit)
        let verdict: Verdict =
            switch greeting.first {
            case 0: .refused(sentence)
            case 1: .accepted
            default: .notYet(sentence)
            }
        let answer = PeerHelloAnswer(
            verdict,
            broker: BrokerID(broker),
            incarnation: incarnation,
            clusterID: clusterID,
            body: try greeting.bytes("body", bodyLength, PeerGreeting.bodyLimit)
        )
        try greeting.finish()
        return answer
    }
}
