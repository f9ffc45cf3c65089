/// Changes that are asked for over HTTP, because Kafka's protocol has no words for them.
package struct Administration: Sendable {
    /// What became of a change.
    package enum Outcome: Hashable, Sendable {
        /// It is committed.
        case done
        /// The cluster does not want it, and says why.
        case refused(String)
        /// Nobody could decide now.
        case unavailable(String)
    }

    /// Has a broker give its replicas away, or take replicas again.
    package var setDraining: @Sendable (_ broker: Int32, _ isDraining: Bool) async -> Outcome

    /// Bundles the changes.
    package init(
        setDraining: @escaping @Sendable (_ broker: Int32, _ isDraining: Bool) async -> Outcome
    ) {
        self.setDraining = setDraining
    }
}
