import FlotillaBroker
import FlotillaModel
import FlotillaReplication

/// When a broker asks whether it still belongs to its cluster.
struct RemovalSuspicion {
    /// An election or a start may take as long without a question.
    static let patience = Duration.seconds(1)
    /// The time between two rounds of questions.
    static let pause = Duration.seconds(5)

    private var heardAt: ContinuousClock.Instant
    private var askedAt: ContinuousClock.Instant?

    /// A leader counts as heard at the start.
    init(now: ContinuousClock.Instant) {
        heardAt = now
    }

    /// Whether it is time to ask; `hears`: whether a leader of the metadata speaks to the broker now.
    mutating func shouldAsk(hears: Bool, now: ContinuousClock.Instant) -> Bool {
        if hears { heardAt = now }
        guard now - heardAt >= Self.patience, askedAt.map({ now - $0 >= Self.pause }) ?? true
        else { return false }
        askedAt = now
        return true
    }
}

/// What a broker was told of its place in the metadata's group.
enum RemovalWord: Equatable {
    /// The leader knows its id as this member.
    case member(GroupMember)
    /// The leader knows no member of its id.
    case stranger
    /// No leader spoke: nothing follows from that.
    case silence

    init(_ answer: PeerHelloAnswer) {
        guard answer.verdict == .accepted, let reply = try? MetadataReply(decoding: answer.body),
            case .member(let member) = reply
        else {
            self = .silence
            return
        }
        self = member.map { .member($0) } ?? .stranger
    }

    /// Whether the cluster goes on without this member.
    func proves(removalOf member: GroupMember) -> Bool {
        switch self {
        case .member(let other): other != member
        case .stranger: true
        case .silence: false
        }
    }
}
