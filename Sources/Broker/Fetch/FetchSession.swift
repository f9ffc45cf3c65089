import FlotillaEnvironment
import FlotillaModel

/// What a consumer asks of one partition, remembered between the requests of a session.
struct FetchPartitionRequest {
    /// The topic as the request names it: by id from version 13 on, by name before.
    var topic: FetchTopicKey
    /// The partition's number.
    var partition: Int32
    /// The first offset wanted.
    var fetchOffset: Offset
    /// The most bytes wanted of this partition.
    var maxByteCount: Int
    /// The leader epoch that the client believes in; -1 for no check.
    var currentLeaderEpoch: Int32
    /// The epoch of the last record that the client has; -1 for no check.
    var lastFetchedEpoch: Int32
}

/// How a fetch names a topic.
enum FetchTopicKey: Hashable {
    /// Up to version 12.
    case name(String)
    /// From version 13 on.
    case id(TopicID)
}

/// A partition's place in a session.
struct FetchPartitionKey: Hashable {
    var topic: FetchTopicKey
    var partition: Int32
}

/// An incremental fetch session: the client names a partition once, and later only what changes.
///
/// The order of the partitions is the order of the answers; it is turned so that a partition that returned data comes
/// last next time (SESS-8).
///
/// - Source: KIP-227.
final class FetchSession {
    /// What was last told to the client about a partition.
    struct Told: Equatable {
        var highWatermark: Offset
        var logStartOffset: Offset
        var wasError: Bool
    }

    private struct Slot {
        var request: FetchPartitionRequest
        var told: Told?
    }

    let id: Int32
    let usesTopicIDs: Bool
    /// The epoch that the next request must carry.
    private(set) var nextEpoch: Int32 = 1
    var lastUsed: Instant
    private var slots: [Slot] = []
    private var places: [FetchPartitionKey: Int] = [:]
    private var firstSlot = 0

    init(id: Int32, usesTopicIDs: Bool, now: Instant) {
        self.id = id
        self.usesTopicIDs = usesTopicIDs
        self.lastUsed = now
    }

    /// The number of partitions in the session.
    var count: Int { slots.count }

    /// Counts a request: epochs run 1, 2, … and wrap from the largest to 1.
    func advanceEpoch() {
        nextEpoch = nextEpoch == Int32.max ? 1 : nextEpoch + 1
    }

    /// Adds a partition or replaces what is asked of it.
    func update(_ request: FetchPartitionRequest) {
        let key = FetchPartitionKey(topic: request.topic, partition: request.partition)
        if let place = places[key] {
            slots[place].request = request
        } else {
            places[key] = slots.count
            slots.append(Slot(request: request, told: nil))
        }
    }

    /// Takes partitions out; names that are not in the session are fine.
    func forget(_ keys: Set<FetchPartitionKey>) {
        guard !keys.isEmpty else { return }
        slots.removeAll { slot in
            keys.contains(
                FetchPartitionKey(topic: slot.request.topic, partition: slot.request.partition)
            )
        }
        places.removeAll(keepingCapacity: true)
        for (place, slot) in slots.enumerated() {
            places[
                FetchPartitionKey(topic: slot.request.topic, partition: slot.request.partition)
            ] = place
        }
        firstSlot = 0
    }

    /// All that is to be fetched now, in the order of the answers.
    var requests: [FetchPartitionRequest] {
        var result: [FetchPartitionRequest] = []
        result.reserveCapacity(slots.count)
        for step in slots.indices {
            result.append(slots[(firstSlot + step) % slots.count].request)
        }
        return result
    }

    /// Whether an answer is worth telling, and remembers it as told (SESS-6).
    ///
    /// `hasNews`: records, a preferred replica, an error or a diverging epoch.
    func shouldTell(_ key: FetchPartitionKey, _ told: Told, hasNews: Bool) -> Bool {
        guard let place = places[key] else { return true }
        let isChanged = slots[place].told != told
        slots[place].told = told
        return hasNews || isChanged || told.wasError
    }

    /// The partition that returned data last goes to the end of the order.
    func noteData(_ key: FetchPartitionKey) {
        guard let place = places[key], !slots.isEmpty else { return }
        firstSlot = (place + 1) % slots.count
    }
}

/// The sessions of one shard, with a bound on their number.
///
/// A session that nobody used for two minutes gives way to a new one; where none does, the new client simply gets no
/// session, which every client copes with (SESS-2).
struct FetchSessionCache {
    /// How long an idle session is safe from being replaced.
    static let protection = Duration.seconds(120)

    /// The room for answers; beside the sessions, since both are what a shard holds for consumers.
    var answers = AnswerBudget()

    private let slotCount: Int
    private var sessions: [Int32: FetchSession] = [:]
    private var random: SeededRandom

    init(slotCount: Int, random: SeededRandom) {
        self.slotCount = slotCount
        self.random = random
    }

    /// The number of live sessions.
    var count: Int { sessions.count }

    /// The session with this id.
    func session(_ id: Int32) -> FetchSession? {
        sessions[id]
    }

    /// Ends a session; an id that is not there is fine.
    mutating func remove(_ id: Int32) {
        sessions[id] = nil
    }

    /// Opens a session, or returns nil when the cache is full of sessions in use.
    mutating func open(usesTopicIDs: Bool, now: Instant) -> FetchSession? {
        if sessions.count >= slotCount {
            guard let idle = longestIdle(), idle.lastUsed + Self.protection < now else {
                return nil
            }
            sessions[idle.id] = nil
        }
        var id: Int32
        repeat {
            id = Int32.random(in: 1...Int32.max, using: &random)
        } while sessions[id] != nil
        let session = FetchSession(id: id, usesTopicIDs: usesTopicIDs, now: now)
        sessions[id] = session
        return session
    }

    private func longestIdle() -> FetchSession? {
        // The order of the dictionary does not escape: the least (time, id) is the same in every order.
        sessions.values.min { ($0.lastUsed, $0.id) < ($1.lastUsed, $1.id) }
    }
}
