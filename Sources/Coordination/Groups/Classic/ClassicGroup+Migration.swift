package import FlotillaEnvironment
package import FlotillaModel

/// How a classic group becomes one of the consumer protocol, and what it is when it comes back.
extension ClassicGroup {
    /// What each member knows, by id.
    package var supportedProtocols: [String: [GroupProtocol]] { members.mapValues(\.protocols) }

    /// The group goes on with the other protocol: whoever waits joins again.
    package mutating func dissolve(into effects: inout [Effect]) {
        for member in sortedMembers {
            if let join = member.join {
                let refusal = JoinAnswer.refused(.rebalanceInProgress, memberID: member.id)
                effects.append(.joined(join, refusal))
            }
            if let sync = member.sync {
                effects.append(.synced(sync, .refused(.rebalanceInProgress)))
            }
        }
    }

    /// Everybody joins again, since nobody of the classic protocol has assigned yet.
    package mutating func rebalance(
        now: Instant,
        wallTime: Timestamp,
        into effects: inout [Effect]
    ) {
        self.wallTime = wallTime
        prepareRebalance(.downgraded, now: now, into: &effects)
    }
}
