package import FlotillaModel

/// Commands about topics and their partitions.
extension Controller {
    /// Creates topics; each succeeds or fails alone.
    ///
    /// - Parameters:
    ///   - requests: the topics, in the order of the answers.
    ///   - defaults: for requests with -1.
    ///   - liveBrokers: who is alive; nil when nobody knows.
    ///   - validateOnly: checks all and creates nothing.
    /// - Returns: one outcome per name; a name that comes twice has one, a refusal.
    /// - Throws: when this broker does not lead, or the cluster is not formed.
    /// - Source: SEMANTICS rules GEN-5 and CT-2 to CT-6.
    package mutating func createTopics(
        _ requests: [TopicRequest],
        defaults: TopicDefaults,
        liveBrokers: Set<BrokerID>? = nil,
        validateOnly: Bool = false
    ) throws(Refusal) -> Decision<TopicOutcome> {
        try decide(validateOnly: validateOnly) { draft throws(Refusal) in
            try Self.requireCluster(draft.image)
            let names = Occurrences(requests.map(\.name))
            var budget = Self.maximumPartitionCountPerRequest
            var outcomes: [TopicOutcome] = []
            for (place, request) in requests.enumerated() where names.isFirst(at: place) {
                let result = Self.result { () throws(Refusal) in
                    guard !names.isRepeated(request.name) else {
                        throw Refusal(
                            .invalidRequest,
                            "topic \(request.name) comes twice in the request"
                        )
                    }
                    return try draft.create(
                        request,
                        defaults: defaults,
                        liveBrokers: liveBrokers,
                        budget: &budget
                    )
                }
                outcomes.append(TopicOutcome(name: request.name, result: result))
            }
            return outcomes
        }
    }

    /// Deletes topics; each succeeds or fails alone.
    ///
    /// Their replicas stay listed until their brokers confirm.
    ///
    /// - Returns: one outcome per element; a topic that comes twice, by name or by id, is refused each time.
    /// - Source: SEMANTICS rules DT-1 and DT-2.
    package mutating func deleteTopics(
        _ references: [TopicReference]
    ) throws(Refusal) -> Decision<TopicDeletionOutcome> {
        try decide { draft throws(Refusal) in
            let before = draft.image
            let ids = references.map { before.topic($0)?.id }
            let known = Occurrences(ids.compactMap(\.self))
            return references.enumerated().map { place, reference in
                let result = Self.result { () throws(Refusal) in
                    guard let id = ids[place], let topic = before.topic(id) else {
                        throw Self.unknown(reference)
                    }
                    guard !known.isRepeated(id) else {
                        throw Refusal(
                            .invalidRequest,
                            "topic \(topic.name) comes twice in the request"
                        )
                    }
                    draft.add(.topicDeleted(id))
                    return topic
                }
                return TopicDeletionOutcome(reference: reference, result: result)
            }
        }
    }

    /// Adds partitions to topics; each succeeds or fails alone.
    ///
    /// - Returns: one outcome per name; a name that comes twice has one, a refusal.
    /// - Source: SEMANTICS rule CP-1.
    package mutating func createPartitions(
        _ requests: [PartitionsRequest],
        liveBrokers: Set<BrokerID>? = nil,
        validateOnly: Bool = false
    ) throws(Refusal) -> Decision<TopicOutcome> {
        try decide(validateOnly: validateOnly) { draft throws(Refusal) in
            let names = Occurrences(requests.map(\.name))
            var budget = Self.maximumPartitionCountPerRequest
            var outcomes: [TopicOutcome] = []
            for (place, request) in requests.enumerated() where names.isFirst(at: place) {
                let result = Self.result { () throws(Refusal) in
                    guard !names.isRepeated(request.name) else {
                        throw Refusal(
                            .invalidRequest,
                            "topic \(request.name) comes twice in the request"
                        )
                    }
                    return try draft.grow(request, liveBrokers: liveBrokers, budget: &budget)
                }
                outcomes.append(TopicOutcome(name: request.name, result: result))
            }
            return outcomes
        }
    }

    static func result<Value>(_ body: () throws(Refusal) -> Value) -> Result<Value, Refusal> {
        do {
            return .success(try body())
        } catch {
            return .failure(error)
        }
    }

    private static func unknown(_ reference: TopicReference) -> Refusal {
        switch reference {
        case .name(let name): Refusal(.unknownTopicOrPartition, "there is no topic \(name)")
        case .id(let id): Refusal(.unknownTopicId, "there is no topic with the id \(id)")
        }
    }
}

extension MetadataImage {
    /// The topic that is meant; nil when there is none.
    package func topic(_ reference: TopicReference) -> TopicImage? {
        switch reference {
        case .name(let name): topic(named: name)
        case .id(let id): topic(id)
        }
    }
}

extension Draft {
    fileprivate mutating func create(
        _ request: TopicRequest,
        defaults: TopicDefaults,
        liveBrokers: Set<BrokerID>?,
        budget: inout Int
    ) throws(Refusal) -> TopicImage {
        try checkName(request.name)
        let configs = try Self.configs(request.configs)
        let brokers = try brokers(
            for: request,
            defaults: defaults,
            liveBrokers: liveBrokers,
            budget: &budget
        )
        let partitions = members(on: brokers)
        let id = freshTopicID()
        add(.topicCreated(id: id, name: request.name, partitions: partitions, configs: configs))
        return created(id)
    }

    fileprivate mutating func grow(
        _ request: PartitionsRequest,
        liveBrokers: Set<BrokerID>?,
        budget: inout Int
    ) throws(Refusal) -> TopicImage {
        guard let topic = image.topic(named: request.name) else {
            throw Refusal(.unknownTopicOrPartition, "there is no topic \(request.name)")
        }
        guard !topic.isInternal else {
            throw Refusal(
                .invalidTopicException,
                "what lies where in \(topic.name) rests on the number of its partitions"
            )
        }
        let added = Int(request.partitionCount) - topic.partitions.count
        guard added > 0 else {
            throw Refusal(
                .invalidPartitions,
                "topic \(request.name) has \(topic.partitions.count) partitions; \(request.partitionCount) is not more"
            )
        }
        try take(added, from: &budget)
        let brokers: [[BrokerID]]
        if let assignments = request.assignments {
            guard assignments.count == added else {
                throw Refusal(
                    .invalidReplicaAssignment,
                    "\(added) partitions are new, but brokers are named for \(assignments.count)"
                )
            }
            try check(assignments, liveBrokers, replicationFactor: topic.replicationFactor)
            brokers = assignments
        } else {
            brokers = try place(added, liveBrokers, replicationFactor: topic.replicationFactor)
        }
        add(.partitionsAdded(topic: topic.id, partitions: members(on: brokers)))
        return created(topic.id)
    }

    private func created(_ id: TopicID) -> TopicImage {
        guard let topic = image.topic(id) else {
            preconditionFailure("a record that was applied is in the image")
        }
        return topic
    }

    private func checkName(_ name: String) throws(Refusal) {
        if let fault = TopicName.fault(in: name) {
            throw Refusal(.invalidTopicException, fault)
        }
        guard image.topic(named: name) == nil else {
            throw Refusal(.topicAlreadyExists, "topic \(name) exists")
        }
        if let other = image.collision(with: name) {
            throw Refusal(
                .invalidTopicException,
                "topic \(name) would collide with topic \(other): metrics do not tell '.' from '_'"
            )
        }
    }

    /// The settings of a new topic; a name that comes twice, an unknown one and a bad or null value are refused (CT-5).
    private static func configs(_ changes: [ConfigChange]) throws(Refusal) -> ConfigValues {
        var entries: [ConfigEntry] = []
        for change in changes {
            guard let value = change.value else {
                throw Refusal(.invalidConfig, "\(change.name) has no value")
            }
            guard !entries.contains(where: { $0.name == change.name }) else {
                throw Refusal(.invalidConfig, "\(change.name) comes twice")
            }
            entries.append(ConfigEntry(change.name, value))
        }
        do {
            let configs = try TopicConfigTable.table.validated(entries)
            try TopicConfig.checkTogether(configs)
            return configs
        } catch {
            throw Refusal(error)
        }
    }

    private mutating func brokers(
        for request: TopicRequest,
        defaults: TopicDefaults,
        liveBrokers: Set<BrokerID>?,
        budget: inout Int
    ) throws(Refusal) -> [[BrokerID]] {
        guard request.assignments.isEmpty else {
            let brokers = try Self.assigned(request)
            try check(brokers, liveBrokers, replicationFactor: brokers.first?.count ?? 0)
            try take(brokers.count, from: &budget)
            return brokers
        }
        let partitionCount =
            request.partitionCount == -1 ? defaults.partitionCount : request.partitionCount
        guard partitionCount >= 1 else {
            throw Refusal(
                .invalidPartitions,
                "\(partitionCount) partitions: there must be at least 1"
            )
        }
        var replicationFactor = Int(request.replicationFactor)
        if replicationFactor == -1 {
            replicationFactor = min(
                defaults.wantedReplicationFactor,
                max(1, image.activeBrokers.count)
            )
        }
        try take(Int(partitionCount), from: &budget)
        return try place(Int(partitionCount), liveBrokers, replicationFactor: replicationFactor)
    }

    private static func assigned(_ request: TopicRequest) throws(Refusal) -> [[BrokerID]] {
        guard request.partitionCount == -1, request.replicationFactor == -1 else {
            throw Refusal(
                .invalidRequest,
                "topic \(request.name): brokers are named, so the numbers of partitions and replicas must be -1"
            )
        }
        let sorted = request.assignments.sorted { $0.partition < $1.partition }
        guard sorted.enumerated().allSatisfy({ $0.element.partition == Int32(clamping: $0.offset) })
        else {
            throw Refusal(
                .invalidReplicaAssignment,
                "topic \(request.name): partitions must be numbered from 0 without a gap or a repetition"
            )
        }
        return sorted.map(\.brokers)
    }

    private func check(
        _ assignments: [[BrokerID]],
        _ liveBrokers: Set<BrokerID>?,
        replicationFactor: Int
    ) throws(Refusal) {
        for brokers in assignments {
            guard !brokers.isEmpty, brokers.count == replicationFactor else {
                throw Refusal(
                    .invalidReplicaAssignment,
                    "every partition must have \(max(1, replicationFactor)) replicas, one has \(brokers.count)"
                )
            }
            guard Set(brokers).count == brokers.count else {
                throw Refusal(
                    .invalidReplicaAssignment,
                    "a broker is named twice for one partition"
                )
            }
            if let broker = brokers.first(where: { image.state(of: $0) != .active }) {
                let reason =
                    image.state(of: broker) == nil
                    ? "there is no broker \(broker)" : "broker \(broker) is draining"
                throw Refusal(.invalidReplicaAssignment, reason)
            }
            if let broker = brokers.first(where: { liveBrokers?.contains($0) == false }) {
                throw Refusal(.invalidReplicaAssignment, "broker \(broker) is not alive")
            }
        }
    }

    private func take(_ count: Int, from budget: inout Int) throws(Refusal) {
        guard count <= budget else {
            throw Refusal(
                .policyViolation,
                "one request creates at most \(Controller.maximumPartitionCountPerRequest) partitions"
            )
        }
        budget -= count
    }

    private mutating func place(
        _ count: Int,
        _ liveBrokers: Set<BrokerID>?,
        replicationFactor: Int
    ) throws(Refusal) -> [[BrokerID]] {
        let brokerCount = image.activeBrokers.count
        guard 1...max(1, brokerCount) ~= replicationFactor, brokerCount > 0 else {
            throw Refusal(
                .invalidReplicationFactor,
                "\(replicationFactor) replicas: there must be at least 1 and at most one per broker, "
                    + "and there are \(brokerCount) brokers that take replicas"
            )
        }
        var placement = ReplicaPlacement(
            image: image,
            liveBrokers: liveBrokers,
            random: &random
        )
        return (0..<count).map { _ in placement.place(replicationFactor: replicationFactor) }
    }

    /// New members of new groups: an epoch that no replica had before.
    private func members(on brokers: [[BrokerID]]) -> [PartitionImage] {
        let epoch = image.nextCreationEpoch
        return brokers.map { brokers in
            PartitionImage(replicas: brokers.map { GroupMember(broker: $0, epoch: epoch) })
        }
    }

    /// An id that no topic has or had lately.
    ///
    /// Kafka's tools take an id that begins with '-' for an option.
    private mutating func freshTopicID() -> TopicID {
        while true {
            let id = TopicID(high: random.next(), low: random.next())
            let isReserved = id == .zero || id == .clusterMetadata || id.description.hasPrefix("-")
            if !isReserved, image.topic(id) == nil, image.deletedTopics[id] == nil {
                return id
            }
        }
    }
}

/// Which elements of a request come more than once.
struct Occurrences<Element: Comparable & Sendable> {
    private var firstPlaces = SortedTable<Element, Int>()
    private var repeated = SortedTable<Element, Bool>()
    private let elements: [Element]

    init(_ elements: [Element]) {
        self.elements = elements
        for (place, element) in elements.enumerated() {
            if firstPlaces[element] == nil {
                firstPlaces[element] = place
            } else {
                repeated[element] = true
            }
        }
    }

    /// Whether the element at this place was not met before.
    func isFirst(at place: Int) -> Bool {
        firstPlaces[elements[place]] == place
    }

    /// Whether the element comes more than once.
    func isRepeated(_ element: Element) -> Bool {
        repeated[element] == true
    }
}
