/// How many of a set of voters must have something before it counts.
///
/// A commit needs a majority. An acknowledgement to a producer may ask for more: the topic's
/// `min.insync.replicas`, never for less than a majority.
package struct Quorum: Hashable, Sendable {
    /// The least number of voters, whatever the majority is.
    package var minimum: Int

    /// A majority, and at least `minimum` voters.
    ///
    /// - Parameter minimum: 0 or less asks for the majority alone; more than there are voters can
    ///   never be met.
    package init(atLeast minimum: Int) {
        self.minimum = minimum
    }

    /// The quorum of elections and commits.
    package static let majority = Quorum(atLeast: 0)

    /// The number of voters that must agree, of `voterCount`.
    package func size(of voterCount: Int) -> Int {
        max(voterCount / 2 + 1, minimum)
    }
}
