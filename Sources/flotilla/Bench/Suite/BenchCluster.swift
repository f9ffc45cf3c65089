import CFlotilla
import FoundationEssentials
import Glibc
import NIOPosix
import Synchronization

/// Brokers of this binary as processes of their own, for as long as a bench needs them.
///
/// One thread starts, watches and ends them, because a process ends with the thread that started it.
final class BenchCluster: Sendable {
    /// What the thread is asked to do to a broker.
    fileprivate enum Command {
        case kill(Int)
        case stop(Int)
        case start(Int)
        case pause(Int)
        case resume(Int)
    }

    private struct State {
        var commands: [Command] = []
        var isEnding = false
        var hasEnded = false
        var processes: [Int: Int32] = [:]
        var ready: Set<Int> = []
        var failure: String?
    }

    /// How long a start, and an end, may take.
    private static let patience = Duration.seconds(60)
    private static let stepMicros: UInt32 = 2000

    let addresses: [DevAddress]
    /// Where the brokers' data lies; removed at the end.
    let directory: String
    // Sendable because: cold, asked for a few times a second; guards what the thread and the bench tell each other.
    private let state = Mutex(State())
    private let pool = NIOThreadPool(numberOfThreads: 1)

    /// Starts `count` brokers with their data under `directory`, which is made.
    init(count: Int, directory: String) async throws {
        self.directory = directory
        addresses = try Self.freeAddresses(count)
        let manager = FileManager.default
        try manager.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let binary = try DevProcess.ownPath()
        pool.start()
        pool.submit { [self] _ in work(binary) }
        do {
            try await wait("brokers are not ready") { $0.ready.count == self.addresses.count }
        } catch {
            await close()
            throw error
        }
    }

    /// Addresses for clients.
    var brokers: String { addresses.map(\.kafka).joined(separator: ",") }

    /// The running processes.
    var processes: [Int32] { state.withLock { Array($0.processes.values) } }

    /// Does to a broker what a fault does to it.
    func begin(_ kind: Workload.Fault.Kind, _ broker: Int) {
        ask(kind.begin(broker))
    }

    /// Makes up for a fault.
    func end(_ kind: Workload.Fault.Kind, _ broker: Int) {
        ask(kind.end(broker))
    }

    /// Ends all brokers and removes their data.
    func close() async {
        state.withLock { $0.isEnding = true }
        do {
            try await wait("brokers do not end") { $0.hasEnded }
        } catch {
            CommandOutput.note("flotilla: \(error)")
        }
        do {
            try await pool.shutdownGracefully()
        } catch {
            CommandOutput.note("flotilla: \(error)")
        }
        do {
            try FileManager.default.removeItem(atPath: directory)
        } catch {
            CommandOutput.note("flotilla: \(directory) is left behind: \(error)")
        }
    }

    private func ask(_ command: Command) {
        state.withLock { $0.commands.append(command) }
    }

    private func wait(_ what: String, _ condition: (State) -> Bool) async throws {
        let deadline = ContinuousClock.now + Self.patience
        while true {
            let (isTrue, failure) = state.withLock { (condition($0), $0.failure) }
            if isTrue { return }
            if let failure { throw CommandFailure.failed(failure) }
            guard ContinuousClock.now < deadline else {
                throw CommandFailure.failed("after \(Self.patience) \(what)")
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    private static func freeAddresses(_ count: Int) throws(CommandFailure) -> [DevAddress] {
        var ports: [UInt16] = []
        while ports.count < 3 * count {
            let port = flotilla_free_port()
            guard port > 0 else { throw .failed("no free port: \(DevProcess.reason(-port))") }
            if !ports.contains(UInt16(port)) { ports.append(UInt16(port)) }
        }
        return (0..<count).map { index in
            DevAddress(
                broker: index + 1,
                kafkaPort: ports[3 * index],
                adminPort: ports[3 * index + 1],
                peerPort: ports[3 * index + 2]
            )
        }
    }

    // MARK: The thread

    private func work(_ binary: String) {
        let join = addresses.map(\.peer)
        let brokers = addresses.map { address in
            DevBroker(
                binary: binary,
                address: address,
                directory: DevDirectory(path: directory),
                join: join
            )
        }
        do throws(CommandFailure) {
            for broker in brokers { try broker.start() }
        } catch {
            state.withLock { $0.failure = error.text }
        }
        var isStopping = false
        while true {
            let (commands, isEnding) = state.withLock { state in
                defer { state.commands = [] }
                return (state.commands, state.isEnding)
            }
            for command in commands { perform(command, brokers) }
            if isEnding, !isStopping {
                isStopping = true
                for broker in brokers where broker.isRunning { broker.stop() }
            }
            for broker in brokers { watch(broker, isStopping) }
            if isStopping, !brokers.contains(where: \.isRunning) { break }
            usleep(Self.stepMicros)
        }
        state.withLock { $0.hasEnded = true }
    }

    private func perform(_ command: Command, _ brokers: [DevBroker]) {
        switch command {
        case .kill(let number): brokers[number - 1].kill()
        case .stop(let number): brokers[number - 1].stop()
        case .pause(let number): brokers[number - 1].pause()
        case .resume(let number): brokers[number - 1].resume()
        case .start(let number):
            guard !brokers[number - 1].isRunning else { return }
            do throws(CommandFailure) {
                try brokers[number - 1].start()
            } catch {
                state.withLock { $0.failure = error.text }
            }
        }
    }

    private func watch(_ broker: DevBroker, _ isStopping: Bool) {
        let number = broker.address.broker
        var last = ""
        let events = broker.step { last = $0 }
        state.withLock { state in
            state.processes[number] = broker.processID
            if broker.isReady { state.ready.insert(number) } else { state.ready.remove(number) }
            for case .ended(let code) in events
            where code != 128 + SIGKILL && code != 0 && !isStopping {
                state.failure = "broker \(number) ended with \(code): \(last)"
            }
        }
    }
}

extension Workload.Fault.Kind {
    fileprivate func begin(_ broker: Int) -> BenchCluster.Command {
        switch self {
        case .killLeader: .kill(broker)
        case .pauseLeader: .pause(broker)
        case .stopLeader: .stop(broker)
        }
    }

    fileprivate func end(_ broker: Int) -> BenchCluster.Command {
        switch self {
        case .killLeader, .stopLeader: .start(broker)
        case .pauseLeader: .resume(broker)
        }
    }

    /// As a participle.
    var words: String {
        switch self {
        case .killLeader: "killed"
        case .pauseLeader: "paused"
        case .stopLeader: "stopped"
        }
    }
}
