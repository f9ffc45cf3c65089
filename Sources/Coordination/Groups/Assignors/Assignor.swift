package import FlotillaModel

/// How the coordinator shares the partitions of a consumer group out among its members.
///
/// Whichever is chosen: every partition of a topic that somebody wants goes to exactly one member, and that member wants the topic. The
/// answer is a function of the problem alone, whatever the order of its members.
///
/// - Source: KIP-848; SEMANTICS rules CG-15 and CG-16. The raw value is the name by which a member asks for one.
package enum Assignor: String, Sendable, CaseIterable {
    /// Equal numbers of partitions for all, few movements, and members near the replicas: `UniformAssignor`.
    case uniform
    /// Of each topic a range for each member, so that topics of one shape line up: `RangeAssignor`.
    case range

    /// Every member's share, also an empty one.
    package func assign(_ problem: AssignmentProblem) -> [String: Set<TopicPartition>] {
        switch self {
        case .uniform: UniformAssignor.assign(problem)
        case .range: RangeAssignor.assign(problem)
        }
    }
}
