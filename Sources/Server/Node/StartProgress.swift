import Synchronization

/// How far a broker's start has come, for whoever asks: `/readyz`, `/startupz`.
package final class StartProgress: Sendable {
    private enum Stage {
        case starting([String])
        case started(BrokerNode)
    }

    // Guards what start-up writes now and then and health checks read.
    private let stage = Mutex(Stage.starting([]))

    /// The start has not begun.
    package init() {}

    /// The start waits for this, one sentence each.
    package func waits(for what: [String]) {
        // A start that is between two waits is still what the last one was for.
        guard !what.isEmpty else { return }
        stage.withLock { $0 = .starting(what) }
    }

    /// The broker serves.
    func serves(_ node: BrokerNode) {
        stage.withLock { $0 = .started(node) }
    }

    /// The changes that can be asked of the broker, once it serves.
    package var administration: Administration {
        Administration { [self] broker, isDraining in
            switch stage.withLock({ $0 }) {
            case .starting: .unavailable("the broker is starting")
            case .started(let node): await node.setDraining(broker, isDraining)
            }
        }
    }

    /// The questions about groups that can be asked of the broker, once it serves.
    package var groups: GroupQuestions {
        GroupQuestions(
            history: { [self] group in
                switch stage.withLock({ $0 }) {
                case .starting: .unavailable("the broker is starting")
                case .started(let node): await node.groupHistory(group)
                }
            },
            lag: { [self] group in
                switch stage.withLock({ $0 }) {
                case .starting: .unavailable("the broker is starting")
                case .started(let node): await node.groupLag(group)
                }
            }
        )
    }

    /// The health endpoints of the broker that starts.
    package var checks: HealthChecks {
        HealthChecks(
            readiness: { [self] in
                switch stage.withLock({ $0 }) {
                case .starting(let waits): waits.isEmpty ? ["the broker is starting"] : waits
                case .started(let node): await node.whatIsMissing()
                }
            },
            startup: { [self] in
                switch stage.withLock({ $0 }) {
                case .starting(let waits): .starting(waits.joined(separator: "\n"))
                case .started: .started
                }
            }
        )
    }
}

/// Decides when the log is told again what a start waits for.
struct WaitReport {
    /// The log is told of what the broker waits for not more often than this.
    static let quietTime = Duration.seconds(1)
    /// And not more rarely than this, also when nothing changes.
    static let reminderTime = Duration.seconds(30)

    private var told: String?
    private var lastTime: ContinuousClock.Instant?

    /// The sentence to be logged now; nil when it is too early or there is nothing new.
    mutating func due(_ waiting: [String], at now: ContinuousClock.Instant) -> String? {
        guard let last = lastTime else {
            // At a common start everybody is missing for a moment.
            lastTime = now
            return nil
        }
        let sentence = waiting.joined(separator: "; ")
        guard !sentence.isEmpty, now - last >= Self.quietTime,
            sentence != told || now - last >= Self.reminderTime
        else { return nil }
        told = sentence
        lastTime = now
        return sentence
    }
}
