import ArgumentParser
import FlotillaClient
import FlotillaModel

/// Why a command failed, and the exit code that says so to scripts.
enum CommandFailure: Error {
    /// 1: the operation failed.
    case failed(String)
    /// 2: the command line makes no sense.
    case usage(String)
    /// 3: what was named does not exist.
    case notFound(String)
    /// 4: nobody answered.
    case unreachable(String)
    /// 5: who we say we are is not believed.
    case unauthenticated(String)
    /// 6: we may not do that.
    case denied(String)
    /// 7: some of it was done.
    case partial(String)
    /// 8: things differ.
    case differs(String)

    init(_ error: ClientError) {
        let text = error.description
        switch error {
        case _ where error.isNotFound: self = .notFound(text)
        case .unreachable, .notKafka, .disconnected, .requestTimedOut, .deliveryTimedOut:
            self = .unreachable(text)
        case .refused(let code, _, _): self = Self.refusal(code, text)
        default: self = .failed(text)
        }
    }

    private static func refusal(_ code: ErrorCode, _ text: String) -> CommandFailure {
        switch code {
        case .saslAuthenticationFailed, .unsupportedSaslMechanism, .illegalSaslState:
            .unauthenticated(text)
        case .topicAuthorizationFailed, .groupAuthorizationFailed, .clusterAuthorizationFailed,
            .transactionalIdAuthorizationFailed, .delegationTokenAuthorizationFailed:
            .denied(text)
        case .requestTimedOut, .brokerNotAvailable, .leaderNotAvailable, .coordinatorNotAvailable,
            .coordinatorLoadInProgress, .notCoordinator:
            .unreachable(text)
        case .groupIdNotFound, .resourceNotFound, .transactionalIdNotFound,
            .brokerIdNotRegistered:
            .notFound(text)
        default: .failed(text)
        }
    }

    /// What happened, as a sentence.
    var text: String {
        switch self {
        case .failed(let text), .usage(let text), .notFound(let text), .unreachable(let text),
            .unauthenticated(let text), .denied(let text), .partial(let text), .differs(let text):
            text
        }
    }

    /// What the process ends with.
    var exitCode: Int32 {
        switch self {
        case .failed: 1
        case .usage: 2
        case .notFound: 3
        case .unreachable: 4
        case .unauthenticated: 5
        case .denied: 6
        case .partial: 7
        case .differs: 8
        }
    }

    /// Says what happened on standard error; the process ends with what is returned.
    func report() -> ArgumentParser.ExitCode {
        CommandOutput.note("flotilla: \(text)")
        return ArgumentParser.ExitCode(exitCode)
    }
}
