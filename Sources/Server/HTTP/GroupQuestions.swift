/// What can be asked over HTTP about groups, because Kafka's protocol has no words for it.
package struct GroupQuestions: Sendable {
    /// An answer, or why there is none.
    package enum Outcome<Answer: Sendable>: Sendable {
        /// The answer.
        case found(Answer)
        /// There is no such group.
        case notFound(String)
        /// Nobody could tell now.
        case unavailable(String)
    }

    /// What happened to a group lately.
    package var history: @Sendable (_ group: String) async -> Outcome<GroupHistoryReport>
    /// How far a group is behind.
    package var lag: @Sendable (_ group: String) async -> Outcome<GroupLagReport>

    /// Bundles the questions.
    package init(
        history: @escaping @Sendable (_ group: String) async -> Outcome<GroupHistoryReport>,
        lag: @escaping @Sendable (_ group: String) async -> Outcome<GroupLagReport>
    ) {
        self.history = history
        self.lag = lag
    }
}

/// The history of a group as JSON.
package struct GroupHistoryReport: Codable, Hashable, Sendable {
    /// Something that happened, once or several times in a row.
    package struct Event: Codable, Hashable, Sendable {
        /// When it happened first, in milliseconds since 1970.
        package var time: Int64
        /// When it happened last.
        package var lastTime: Int64
        /// How often.
        package var count: Int
        /// What happened, in a word for programs.
        package var event: String
        /// The same in a sentence for people.
        package var text: String
        /// The names in it, by what they are.
        package var names: [String: String]
        /// The numbers in it, by what they are.
        package var numbers: [String: Int64]
    }

    /// The group's name.
    package var group: String
    /// The broker that remembers it.
    package var coordinator: Int32
    /// How many older events it has forgotten.
    package var dropped: Int
    /// What happened, the oldest first.
    package var events: [Event]

    /// States a history.
    package init(group: String, coordinator: Int32, dropped: Int, events: [Event]) {
        self.group = group
        self.coordinator = coordinator
        self.dropped = dropped
        self.events = events
    }
}

/// How far a group is behind, as JSON; what is not known is left out.
package struct GroupLagReport: Codable, Hashable, Sendable {
    /// One partition.
    package struct Partition: Codable, Hashable, Sendable {
        /// The topic's name.
        package var topic: String
        /// The partition's number.
        package var partition: Int32
        /// The next record that the group will read, as it committed.
        package var committed: Int64
        /// One past the last record.
        package var end: Int64?
        /// The records that are not read.
        package var records: Int64?
        /// The age of the first of them; 0 where all are read.
        package var milliseconds: Int64?
    }

    /// The group's name.
    package var group: String
    /// The broker that looked.
    package var coordinator: Int32
    /// When it looked, in milliseconds since 1970.
    package var time: Int64
    /// The records that are not read, in all partitions of which that is known.
    package var records: Int64?
    /// The age of the oldest of them.
    package var milliseconds: Int64?
    /// By topic and number.
    package var partitions: [Partition]
}
