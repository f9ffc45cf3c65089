package import FlotillaModel

/// What a member must never forget: the term it has reached and whom it voted for in it.
///
/// The vote belongs to the term: it changes from `nil` to a member once per term and is cleared
/// only by a newer term, never by stepping down or by handing leadership over.
///
/// - Source: Ongaro and Ousterhout (2014), figure 2, "persistent state on all servers".
package struct HardState: Hashable, Sendable {
    /// The newest term this member has seen.
    package var term: Term
    /// The member that has this member's vote in `term`, or `nil` while the vote is free.
    package var votedFor: GroupMember?

    /// Remembers a term and a vote.
    package init(term: Term, votedFor: GroupMember?) {
        self.term = term
        self.votedFor = votedFor
    }

    /// A member that has seen nothing yet.
    package static let initial = HardState(term: .zero, votedFor: nil)
}
