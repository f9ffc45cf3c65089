/// What the health endpoints ask the broker.
package struct HealthChecks: Sendable {
    /// How far start-up has come.
    package enum Startup: Hashable, Sendable {
        /// Still starting: what is being done, for people.
        case starting(String)
        /// Started.
        case started
    }

    /// What keeps the broker from serving, one sentence each; empty means ready.
    package var readiness: @Sendable () async -> [String]
    /// How far start-up has come.
    package var startup: @Sendable () async -> Startup
    /// Whether the process still makes progress; a false answer asks the supervisor for a restart.
    package var isAlive: @Sendable () async -> Bool

    /// Bundles the questions.
    package init(
        readiness: @escaping @Sendable () async -> [String],
        startup: @escaping @Sendable () async -> Startup,
        isAlive: @escaping @Sendable () async -> Bool = { true }
    ) {
        self.readiness = readiness
        self.startup = startup
        self.isAlive = isAlive
    }
}
