package import FlotillaModel

/// The metadata group as its leader knows it.
package struct QuorumDescription: Hashable, Sendable {
    /// One member and how far it is.
    package struct Member: Hashable, Sendable {
        package var member: GroupMember
        /// One past the last entry that it is known to have; zero when nothing is known.
        package var logEndIndex: LogIndex
        /// When it was last heard; none when that is not known.
        package var lastHeard: Timestamp = .none
        /// When it last had all that was committed; none when that is not known.
        package var lastCaughtUp: Timestamp = .none
    }

    package var leader: BrokerID
    package var term: Term
    /// One past the last committed entry.
    package var highWatermark: LogIndex
    package var voters: [Member]
    package var learners: [Member]
}
