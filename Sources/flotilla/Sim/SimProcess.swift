import Glibc

/// Seeds that run in a process of their own, so that a trap ends that process and not the one who has to tell of it.
final class SimProcess {
    private let process: DevProcess
    private var traps = TrapReader()
    private var lastSign = ContinuousClock.now
    private var isStuck = false

    /// How long a seed may go on in real time; one that takes longer does not end, for it needs seconds.
    static let patience = Duration.seconds(600)
    /// How long to wait for the next line.
    private static let stepMillis: Int32 = 1_000

    /// How the process ended.
    enum End: Equatable {
        /// By itself, after all that it had to run.
        case done
        /// In the middle of a seed; a sentence.
        case died(String)
        /// It had to be ended.
        case stuck
    }

    /// Starts the program that runs seeds.
    init(_ path: String, _ arguments: [String]) throws(CommandFailure) {
        process = try DevProcess(path, arguments)
    }

    /// Has the runtime of processes that are started from now on tell the reason of a trap, which it does only in a backtrace.
    ///
    /// Who has set the variable knows what they want. To be called before there are other threads.
    static func askForReasons() {
        // Safe: the call copies both strings, and nobody else reads the environment meanwhile.
        _ = unsafe setenv("SWIFT_BACKTRACE", "enable=yes,color=no", 0)
    }

    /// Hands each line on until the process ends.
    func read(_ body: (SimLine) -> Void) -> End {
        while true {
            let code = process.end()
            for text in process.lines(isLast: code != nil) {
                if let line = SimLine(text) {
                    if case .seed = line { lastSign = .now }
                    body(line)
                } else {
                    traps.read(text)
                }
            }
            if let code { return end(code) }
            if ContinuousClock.now - lastSign > Self.patience {
                isStuck = true
                process.signal(SIGKILL)
            }
            wait()
        }
    }

    private func end(_ code: Int32) -> End {
        if isStuck { return .stuck }
        switch code {
        case 0: return .done
        case 128...: return .died(traps.sentence ?? "the process is ended by signal \(code - 128)")
        default:
            return .died(
                "the process ends with code \(code)\(traps.sentence.map { ": \($0)" } ?? "")"
            )
        }
    }

    private func wait() {
        var polled = pollfd(fd: process.outputDescriptor, events: Int16(POLLIN), revents: 0)
        // Safe: the call reads and writes the one element, which lives until it returns.
        _ = unsafe poll(&polled, 1, Self.stepMillis)
        // A closed pipe is ready for good until its process is reaped: do not spin on it.
        if Int32(polled.revents) & POLLIN == 0, polled.revents != 0 { usleep(1_000) }
    }
}

/// Finds the reason and the place of a trap in what the runtime prints of it.
struct TrapReader {
    private var reason: String?
    private var place: String?

    /// What comes before a reason: a message of its own, or one of the backtrace where the message was left out.
    private static let marks = ["Fatal error: ", "Swift runtime failure: "]

    /// Takes the next line.
    mutating func read(_ line: String) {
        if reason == nil {
            for mark in Self.marks {
                guard let found = line.firstRange(of: mark) else { continue }
                reason = line[found.upperBound...].split(separator: " in ", maxSplits: 1).first
                    .map(String.init)
            }
        }
        guard place == nil, let found = line.firstRange(of: "/Sources/"), line.contains(" at /")
        else { return }
        place = line[found.upperBound...].split(separator: ":").prefix(2).joined(separator: ":")
    }

    /// The trap as a sentence; nil where there was none.
    var sentence: String? {
        guard reason != nil || place != nil else { return nil }
        return "a trap\(reason.map { ": \($0)" } ?? "")\(place.map { " in \($0)" } ?? "")"
    }
}
