/// Which partitions go where, once it is settled how many of each topic a member gets.
///
/// A place is one partition of one topic that a member still lacks. There are exactly as many places of a topic as partitions of it that
/// are not placed yet, before and after each step.
struct PartitionPlacement {
    /// How many pairs of members are looked at to bring one partition nearer; a preference is not worth a longer search.
    static let exchangeLimit = 64

    private let graph: SubscriptionGraph
    private let proximity: Proximity
    /// For each partition the edge to its member; nil until it is placed.
    private(set) var edges: [Int?]
    /// For each edge, how many places are open.
    private var openCounts: [Int]
    /// For each member, how many places are open.
    private var openCountOfMember: [Int]

    /// Where to look for open places of a topic; what is found there may have been taken meanwhile.
    private var placesOfTopic: [[Int]] = []
    /// The same, by topic and rack.
    private var placesNear: [Place: [Int]] = [:]
    /// For each rack, how many of its first members have no open place any more.
    private var exhaustedCountOfRack: [Int]

    private struct Place: Hashable {
        let topic: Int
        let rack: Int
    }

    /// Takes for each edge how many of the topic's partitions the member gets, and opens as many places.
    init(_ graph: SubscriptionGraph, counts: [Int], proximity: Proximity) {
        self.graph = graph
        self.proximity = proximity
        edges = [Int?](repeating: nil, count: graph.partitions.count)
        openCounts = counts
        openCountOfMember = [Int](repeating: 0, count: graph.members.count)
        for (edge, count) in counts.enumerated() {
            openCountOfMember[graph.memberOfEdge[edge]] += count
        }
        exhaustedCountOfRack = proximity.membersOfRack.map { _ in 0 }
    }

    /// Lets members keep what they have, as far as they have places for it: what is near first, then in the order of the partitions.
    mutating func keep(_ current: [Int?]) {
        for isNear in [true, false] {
            for (partition, edge) in current.enumerated() {
                guard let edge, openCounts[edge] > 0 else { continue }
                let member = graph.memberOfEdge[edge]
                if proximity.isNear(partition: partition, member: member) == isNear {
                    place(partition, at: edge)
                }
            }
        }
    }

    /// Fills the open places with what is left, near or not.
    mutating func placeRest() {
        for topic in graph.topics.indices {
            var edge = graph.topicStarts[topic]
            for partition in graph.partitions(ofTopic: topic) where edges[partition] == nil {
                while openCounts[edge] == 0 {
                    edge += 1
                }
                place(partition, at: edge)
            }
        }
    }

    private mutating func place(_ partition: Int, at edge: Int) {
        assert(openCounts[edge] > 0, "a place is taken once")
        assert(graph.topicOfEdge[edge] == graph.topicOfPartition[partition], "a place has a topic")
        edges[partition] = edge
        openCounts[edge] -= 1
        openCountOfMember[graph.memberOfEdge[edge]] -= 1
    }
}

// MARK: - Racks

extension PartitionPlacement {
    /// Puts partitions into open places of members that are near them, those with the fewest racks first.
    mutating func placeNear() {
        let waiting = graph.partitions
            .filter { edges[$0] == nil && !proximity.racks(ofPartition: $0).isEmpty }
            .map { (partition: $0, rackCount: proximity.racks(ofPartition: $0).count) }
            .sorted { ($0.rackCount, $0.partition) < ($1.rackCount, $1.partition) }
            .map(\.partition)
        guard !waiting.isEmpty else { return }
        listOpenPlaces()
        // Only when all that fits is in place do members exchange places: then nobody loses by it.
        let distant = waiting.filter { !placeDirectly($0) }
        let unlucky = distant.filter { !placeDirectly($0) && !placeByExchange($0) }
        for partition in unlucky {
            _ = placeDirectly(partition)
        }
    }

    private mutating func listOpenPlaces() {
        placesOfTopic = graph.topics.map { _ in [] }
        for edge in openCounts.indices {
            for _ in 0..<openCounts[edge] {
                listPlace(at: edge)
            }
        }
    }

    private mutating func listPlace(at edge: Int) {
        let topic = graph.topicOfEdge[edge]
        placesOfTopic[topic].append(edge)
        if let rack = proximity.rackOfMember[graph.memberOfEdge[edge]] {
            placesNear[Place(topic: topic, rack: rack), default: []].append(edge)
        }
    }

    /// Places a partition where a near member lacks one of its topic; of several racks in the one with the most places.
    private mutating func placeDirectly(_ partition: Int) -> Bool {
        let topic = graph.topicOfPartition[partition]
        var best: (place: Place, count: Int)?
        for rack in proximity.racks(ofPartition: partition) {
            let place = Place(topic: topic, rack: rack)
            while let edge = placesNear[place]?.last, openCounts[edge] == 0 {
                placesNear[place]?.removeLast()
            }
            let count = placesNear[place]?.count ?? 0
            if count > best?.count ?? 0 {
                best = (place, count)
            }
        }
        guard let best, let edge = placesNear[best.place]?.popLast() else { return false }
        place(partition, at: edge)
        return true
    }

    /// Lets a near member that lacks something else exchange that place with a member that lacks one of this topic.
    private mutating func placeByExchange(_ partition: Int) -> Bool {
        let topic = graph.topicOfPartition[partition]
        while let edge = placesOfTopic[topic].last, openCounts[edge] == 0 {
            placesOfTopic[topic].removeLast()
        }
        var attemptCount = 0
        for rack in proximity.racks(ofPartition: partition) {
            dropExhausted(in: rack)
            let members = proximity.membersOfRack[rack].dropFirst(exhaustedCountOfRack[rack])
            for member in members.prefix(Self.exchangeLimit) where openCountOfMember[member] > 0 {
                guard let wanted = graph.edge(member: member, topic: topic) else { continue }
                for offered in graph.edges(ofMember: member) where openCounts[offered] > 0 {
                    let limit = Self.exchangeLimit - attemptCount
                    for given in placesOfTopic[topic].suffix(max(0, limit)).reversed() {
                        attemptCount += 1
                        if exchange(offered, for: given) {
                            openCounts[wanted] += 1
                            openCountOfMember[member] += 1
                            place(partition, at: wanted)
                            return true
                        }
                    }
                }
            }
        }
        return false
    }

    private mutating func dropExhausted(in rack: Int) {
        let members = proximity.membersOfRack[rack]
        while exhaustedCountOfRack[rack] < members.count,
            openCountOfMember[members[exhaustedCountOfRack[rack]]] == 0
        {
            exhaustedCountOfRack[rack] += 1
        }
    }

    /// Closes the places `offered` and `given`, and opens one of the first one's topic at the second one's member, if it wants that.
    private mutating func exchange(_ offered: Int, for given: Int) -> Bool {
        let giver = graph.memberOfEdge[given]
        let topic = graph.topicOfEdge[offered]
        guard openCounts[given] > 0, let opened = graph.edge(member: giver, topic: topic)
        else { return false }
        openCounts[offered] -= 1
        openCountOfMember[graph.memberOfEdge[offered]] -= 1
        openCounts[given] -= 1
        openCounts[opened] += 1
        listPlace(at: opened)
        return true
    }
}
