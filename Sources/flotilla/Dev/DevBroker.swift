import Glibc

/// One broker of a cluster on this machine: its process, and whether it is ready.
final class DevBroker {
    let address: DevAddress
    private let binary: String
    private let arguments: [String]
    private var process: DevProcess?
    private var probe: ReadyProbe?
    private var isPaused = false
    private var killAt: ContinuousClock.Instant?
    private var startAfterEnd = false

    /// A broker that was asked to stop gets SIGKILL after this; it allows itself 30 s.
    static let stopTimeout = Duration.seconds(40)

    /// What happened since the last step.
    enum Event: Equatable {
        case ready
        case ended(code: Int32)
        case failed(String)
    }

    init(binary: String, address: DevAddress, directory: DevDirectory, join: [String]) {
        self.binary = binary
        self.address = address
        var arguments = [
            "serve", "--node-id", String(address.broker), "--data-dir",
            directory.dataDirectory(of: address.broker), "--kafka", address.kafka, "--admin",
            address.admin,
        ]
        // A broker alone has nobody to meet.
        if join.count > 1 {
            arguments += ["--peer", address.peer, "--join", join.joined(separator: ",")]
        }
        self.arguments = arguments
    }

    /// Whether there is a process.
    var isRunning: Bool { process != nil }

    /// Whether it said that it is ready, and runs.
    var isReady: Bool { isRunning && probe == nil && killAt == nil && !isPaused }

    /// The running process.
    var processID: Int32? { process?.id }

    /// The descriptor that tells when it printed something.
    var outputDescriptor: Int32? { process?.outputDescriptor }

    /// In a word.
    var state: String {
        guard let process else { return "ended" }
        let word =
            isPaused ? "paused" : killAt != nil ? "stopping" : probe != nil ? "starting" : "ready"
        return "\(word), process \(process.id)"
    }

    /// Starts the process; readiness comes as an event.
    func start() throws(CommandFailure) {
        precondition(process == nil, "a broker has one process")
        process = try DevProcess(binary, arguments)
        probe = ReadyProbe(port: address.adminPort)
        isPaused = false
        killAt = nil
    }

    /// SIGKILL.
    func kill() { process?.signal(SIGKILL) }

    /// SIGTERM, and SIGKILL when that takes too long; a paused process would not hear it and goes on first.
    func stop(thenStart: Bool = false) {
        startAfterEnd = thenStart
        guard killAt == nil else { return }
        resume()
        process?.signal(SIGTERM)
        killAt = ContinuousClock.now + Self.stopTimeout
    }

    /// SIGSTOP.
    func pause() {
        process?.signal(SIGSTOP)
        isPaused = true
    }

    /// SIGCONT.
    func resume() {
        process?.signal(SIGCONT)
        isPaused = false
    }

    /// Shows what it printed, looks after its process, and tells what happened.
    func step(show: (String) -> Void) -> [Event] {
        guard let process else { return [] }
        let code = process.end()
        for line in process.lines(isLast: code != nil) { show(line) }
        if let code { return ended(code) }
        if let killAt, ContinuousClock.now > killAt {
            show("did not stop within \(Self.stopTimeout); killing it")
            process.signal(SIGKILL)
        }
        if !isPaused, probe?.step() == true {
            probe = nil
            return [.ready]
        }
        return []
    }

    private func ended(_ code: Int32) -> [Event] {
        probe?.cancel()
        probe = nil
        process = nil
        killAt = nil
        isPaused = false
        guard startAfterEnd else { return [.ended(code: code)] }
        startAfterEnd = false
        do throws(CommandFailure) {
            try start()
            return []
        } catch {
            return [.failed(error.text)]
        }
    }
}
