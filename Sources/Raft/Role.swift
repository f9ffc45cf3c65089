/// What a member is in its group at the moment.
///
/// - Source: Ongaro and Ousterhout (2014), §5.1; the pre-candidate is §9.6 of Ongaro's thesis.
package enum Role: Hashable, Sendable, CaseIterable {
    /// Follows a leader, or waits for one; learners are followers too.
    case follower
    /// Asks whether a campaign could succeed.
    case preCandidate
    /// Campaigns in a term of its own.
    case candidate
    /// Leads.
    case leader
}
