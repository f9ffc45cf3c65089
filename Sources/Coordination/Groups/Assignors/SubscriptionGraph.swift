import FlotillaModel

/// Who wants what, by numbers instead of names.
///
/// Members and topics are numbered in the order of their ids. An edge stands for one topic that one member wants; edges are numbered
/// topic by topic, and within a topic in the order of the members. Partitions are numbered through, topic by topic, and only those that
/// somebody wants. Sets have another order in each process, so nothing here depends on it.
struct SubscriptionGraph {
    let members: [AssignmentProblem.Member]
    let topics: [TopicID]
    /// Where the partitions of each topic begin, and at last where they end.
    private let partitionStarts: [Int]
    /// Where the edges of each topic begin, and at last where they end.
    let topicStarts: [Int]
    /// Where each member's part of `memberEdges` begins, and at last where it ends.
    let memberStarts: [Int]
    /// The edges of each member, in the order of the topics.
    let memberEdges: [Int]
    /// The member at each edge.
    let memberOfEdge: [Int]
    /// The topic at each edge.
    let topicOfEdge: [Int]
    /// The topic of each partition.
    let topicOfPartition: [Int]

    init(_ problem: AssignmentProblem) {
        members = problem.members.sorted { $0.id < $1.id }
        topics = problem.topics.keys.sorted()
        let numbers = Dictionary(uniqueKeysWithValues: zip(topics, topics.indices))
        let wanted = members.map { member in member.topics.compactMap { numbers[$0] } }
        var edgeCounts = [Int](repeating: 0, count: topics.count)
        for topic in wanted.joined() {
            edgeCounts[topic] += 1
        }
        topicStarts = Self.starts(edgeCounts)
        memberStarts = Self.starts(wanted.map(\.count))
        (memberOfEdge, topicOfEdge) = Self.edges(wanted, starts: topicStarts)
        memberEdges = Self.byMember(memberOfEdge, starts: memberStarts)

        let partitionCounts = zip(topics, edgeCounts).map { topic, edgeCount in
            edgeCount > 0 ? Int(problem.topics[topic]?.partitionCount ?? 0) : 0
        }
        partitionStarts = Self.starts(partitionCounts)
        topicOfPartition = partitionCounts.enumerated().flatMap { topic, count in
            repeatElement(topic, count: count)
        }
    }

    /// The sum of all numbers before each, and of all at last.
    private static func starts(_ counts: [Int]) -> [Int] {
        var starts = [0]
        var sum = 0
        for count in counts {
            sum += count
            starts.append(sum)
        }
        return starts
    }

    private static func edges(
        _ wanted: [[Int]],
        starts: [Int]
    ) -> (members: [Int], topics: [Int]) {
        var next = starts
        var edges = (
            members: [Int](repeating: 0, count: starts.last ?? 0),
            topics: [Int](repeating: 0, count: starts.last ?? 0)
        )
        for (member, topics) in wanted.enumerated() {
            for topic in topics {
                edges.members[next[topic]] = member
                edges.topics[next[topic]] = topic
                next[topic] += 1
            }
        }
        return edges
    }

    private static func byMember(_ memberOfEdge: [Int], starts: [Int]) -> [Int] {
        var next = starts
        var edges = [Int](repeating: 0, count: memberOfEdge.count)
        for (edge, member) in memberOfEdge.enumerated() {
            edges[next[member]] = edge
            next[member] += 1
        }
        return edges
    }
}

extension SubscriptionGraph {
    var edgeCount: Int { memberOfEdge.count }

    /// The numbers of all partitions.
    var partitions: Range<Int> { topicOfPartition.indices }

    func partitions(ofTopic topic: Int) -> Range<Int> {
        partitionStarts[topic]..<partitionStarts[topic + 1]
    }

    func edges(ofTopic topic: Int) -> Range<Int> {
        topicStarts[topic]..<topicStarts[topic + 1]
    }

    func edges(ofMember member: Int) -> ArraySlice<Int> {
        memberEdges[memberStarts[member]..<memberStarts[member + 1]]
    }

    /// The edge between a member and a topic, or nil if it does not want that topic.
    func edge(member: Int, topic: Int) -> Int? {
        var low = memberStarts[member]
        var high = memberStarts[member + 1]
        while low < high {
            let middle = (low + high) / 2
            if topicOfEdge[memberEdges[middle]] < topic {
                low = middle + 1
            } else {
                high = middle
            }
        }
        guard low < memberStarts[member + 1] else { return nil }
        return topicOfEdge[memberEdges[low]] == topic ? memberEdges[low] : nil
    }

    func name(ofPartition partition: Int) -> TopicPartition {
        let topic = topicOfPartition[partition]
        let number = Int32(partition - partitionStarts[topic])
        return TopicPartition(topic: topics[topic], partition: number)
    }

    /// For each partition the edge to the member that has it now and may keep it.
    ///
    /// Where two members claim one, which no target assignment allows, the first has it.
    func currentEdges() -> [Int?] {
        var edges = [Int?](repeating: nil, count: topicOfPartition.count)
        let numbers = Dictionary(uniqueKeysWithValues: zip(topics, topics.indices))
        for (number, member) in members.enumerated() {
            for current in member.current {
                guard let topic = numbers[current.topic],
                    let edge = edge(member: number, topic: topic)
                else { continue }
                let partition = partitionStarts[topic] + Int(current.partition)
                guard partitions(ofTopic: topic).contains(partition), edges[partition] == nil
                else { continue }
                edges[partition] = edge
            }
        }
        return edges
    }
}
