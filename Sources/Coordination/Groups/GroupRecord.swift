/// One fact about a group in the log of `__consumer_offsets`; the last one of its kind and key counts.
package enum GroupRecord: Hashable, Sendable {
    /// A commit; nil forgets it.
    case offset(group: String, key: OffsetKey, CommittedOffset?)
    /// The members of a classic group and what each of them has; nil forgets the group with all its commits.
    case classicGroup(name: String, ClassicGroupState?)
    /// A fact about a group of the consumer protocol; nil forgets the group with all its commits.
    case consumerGroup(name: String, ConsumerGroupRecord?)
}
