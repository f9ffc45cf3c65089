package import FlotillaModel

/// What an assignor has to share out.
package struct AssignmentProblem: Sendable {
    /// A member that takes partitions.
    package struct Member: Sendable {
        /// The member's id; no two members have the same.
        package var id: String
        /// The id that a static member keeps over restarts.
        package var instanceID: String?
        /// Where the member runs, if it told.
        package var rack: String?
        /// The topics it wants; those that do not exist are ignored.
        package var topics: Set<TopicID>
        /// What the last target assignment gave it.
        package var current: Set<TopicPartition>

        /// Describes a member.
        package init(
            id: String,
            instanceID: String? = nil,
            rack: String? = nil,
            topics: Set<TopicID>,
            current: Set<TopicPartition> = []
        ) {
            self.id = id
            self.instanceID = instanceID
            self.rack = rack
            self.topics = topics
            self.current = current
        }
    }

    /// A topic that is there.
    package struct Topic: Sendable {
        /// Its partitions are numbered from 0 up to this, exclusive.
        package var partitionCount: Int32
        /// The racks of each partition's replicas; empty where none is known.
        ///
        /// It may be shorter than the topic: of the partitions beyond its end nothing is known.
        package var racks: [Set<String>]

        /// Describes a topic.
        package init(partitionCount: Int32, racks: [Set<String>] = []) {
            self.partitionCount = partitionCount
            self.racks = racks
        }
    }

    /// The members, in any order; the answer does not depend on it.
    package var members: [Member]
    /// The topics that exist.
    package var topics: [TopicID: Topic]

    /// States a problem.
    package init(members: [Member], topics: [TopicID: Topic]) {
        self.members = members
        self.topics = topics
    }
}
