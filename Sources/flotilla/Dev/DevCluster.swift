import CFlotilla
import Glibc

/// `flotilla dev cluster`: brokers as processes of their own, started, watched and stopped by one loop.
///
/// The loop stays on one thread, because the brokers end with the thread that started them. It never waits for anything
/// but output and time, so that a broker that hangs holds up nobody.
final class DevCluster {
    private let directory: DevDirectory
    private let brokers: [DevBroker]
    private var control: DevControl
    private var keyboard: DevKeyboard?
    private var promises: [Promise] = []
    private let begin = ContinuousClock.now
    private var isAnnounced = false
    private var isStopping = false
    private var stopSignals: Int32 = 0
    private var wasKilled = false
    private var didNotStart = false

    /// How long the loop waits when nobody says anything.
    private static let stepMillis: Int32 = 25
    /// A restart that takes longer is told as failed, and goes on.
    private static let readyTimeout = Duration.seconds(60)

    /// An answer that is due when a broker is ready, or has ended.
    private struct Promise {
        let asker: Int32?
        let broker: Int
        let isForReady: Bool
        let deadline: ContinuousClock.Instant
    }

    init(directory: DevDirectory, binary: String, addresses: [DevAddress]) throws(CommandFailure) {
        self.directory = directory
        let join = addresses.map(\.peer)
        brokers = addresses.map { address in
            DevBroker(binary: binary, address: address, directory: directory, join: join)
        }
        control = try DevControl(directory: directory.path)
    }

    /// Starts all brokers, and stays until all have ended.
    func run() throws(CommandFailure) {
        defer { control.end(directory: directory.path) }
        let counted = flotilla_count_stop_signals()
        guard counted == 0 else { throw .failed("signals: \(DevProcess.reason(-counted))") }
        keyboard = DevKeyboard()
        for broker in brokers { try broker.start() }
        while !isStopping || brokers.contains(where: \.isRunning) {
            wait()
            takeSignals()
            takeRequests()
            for broker in brokers { watch(broker) }
            giveUpLatePromises()
        }
        CommandOutput.note("all brokers have stopped")
        if didNotStart {
            throw .failed("a broker ended before the cluster was ready; its last lines say why")
        }
        if wasKilled { throw .failed("a broker did not stop by itself") }
    }

    // MARK: The loop

    /// Waits until somebody prints or asks something, or a moment.
    private func wait() {
        var watched = [control.descriptor] + brokers.compactMap(\.outputDescriptor)
        if let keyboard { watched.append(keyboard.descriptor) }
        var polled = watched.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        // Safe: the call reads and writes the elements of the array, which lives until it returns.
        let found = unsafe poll(&polled, nfds_t(polled.count), Self.stepMillis)
        // A closed pipe is "readable" for good until its process is reaped: do not spin on it.
        let isHangUp = polled.contains { Int32($0.revents) & POLLIN == 0 && $0.revents != 0 }
        if found > 0, isHangUp { usleep(UInt32(Self.stepMillis) * 1000) }
    }

    /// The first signal stops the brokers, the second one kills them.
    private func takeSignals() {
        let count = flotilla_stop_signal_count()
        guard count > stopSignals else { return }
        stopSignals = count
        if isStopping {
            wasKilled = true
            for broker in brokers { broker.kill() }
        } else {
            stopAll()
        }
    }

    private func watch(_ broker: DevBroker) {
        let number = broker.address.broker
        let events = broker.step { line in CommandOutput.note("\(number) | \(line)") }
        for event in events {
            switch event {
            case .ready:
                keep(number, isReady: true, "broker \(number) is ready")
                if !isAnnounced, brokers.allSatisfy(\.isReady) { announce() }
            case .ended(let code):
                if code == 128 + SIGKILL, isStopping { wasKilled = true }
                if !isAnnounced, !isStopping { giveUp(number) }
                keep(number, isReady: false, "broker \(number) has ended (\(Self.words(code)))")
            case .failed(let text):
                keep(number, isReady: false, text)
            }
        }
    }

    /// A broker that ends before the cluster was ever ready will not do better the next time: its settings or ports are wrong.
    private func giveUp(_ number: Int) {
        guard !promises.contains(where: { $0.broker == number }) else { return }
        didNotStart = true
        stopAll()
    }

    private func stopAll() {
        isStopping = true
        CommandOutput.note("stopping \(Words.counted(brokers.count, "broker"))")
        for broker in brokers where broker.isRunning { broker.stop() }
    }

    private func announce() {
        isAnnounced = true
        let elapsed = (ContinuousClock.now - begin) / Duration.milliseconds(1)
        print("\(Words.counted(brokers.count, "broker")) ready in \(Int(elapsed)) ms")
        print(table)
        print(
            """
            clients: -b \(brokers.map(\.address.kafka).joined(separator: ","))
            try: flotilla dev kill 1 --data-dir \(directory.path)   (also stop, pause, resume, restart, status)
            """
        )
        CommandOutput.flush()
    }

    private var table: String {
        var table = Table("BROKER", "KAFKA", "ADMIN", "PEERS", "DATA", "STATE")
        for broker in brokers {
            let address = broker.address
            table.add(
                String(address.broker),
                address.kafka,
                "http://\(address.admin)",
                address.peer,
                directory.dataDirectory(of: address.broker),
                broker.state
            )
        }
        return table.text
    }

    private static func words(_ code: Int32) -> String {
        code > 128 ? "signal \(code - 128)" : "exit code \(code)"
    }

    // MARK: Requests

    private func takeRequests() {
        for (line, asker) in control.requests() { take(line, asker: asker) }
        for line in keyboard?.lines() ?? [] { take(line, asker: nil) }
    }

    private func take(_ line: String, asker: Int32?) {
        guard let request = DevRequest(line) else {
            return answer(
                asker,
                "\"\(line)\" is neither status nor one of kill, stop, pause, resume, restart with a number",
                isDone: false
            )
        }
        guard let number = request.broker else { return answer(asker, table, isDone: true) }
        guard let broker = brokers.first(where: { $0.address.broker == number }) else {
            return answer(asker, "there is no broker \(number)", isDone: false)
        }
        do throws(CommandFailure) {
            try perform(request.action, on: broker, asker: asker)
        } catch {
            answer(asker, error.text, isDone: false)
        }
    }

    private func perform(_ action: DevRequest.Action, on broker: DevBroker, asker: Int32?)
        throws(CommandFailure)
    {
        let number = broker.address.broker
        guard broker.isRunning || action == .restart else {
            throw .failed("broker \(number) does not run")
        }
        guard !isStopping else { throw .failed("the cluster is stopping") }
        switch action {
        case .status: preconditionFailure("status names no broker")
        case .kill:
            broker.kill()
            promise(asker, broker, isForReady: false)
        case .stop:
            broker.stop()
            promise(asker, broker, isForReady: false)
        case .pause:
            broker.pause()
            answer(asker, "broker \(number) is paused", isDone: true)
        case .resume:
            broker.resume()
            answer(asker, "broker \(number) goes on", isDone: true)
        case .restart:
            if broker.isRunning { broker.stop(thenStart: true) } else { try broker.start() }
            promise(asker, broker, isForReady: true)
        }
    }

    private func promise(_ asker: Int32?, _ broker: DevBroker, isForReady: Bool) {
        let deadline = ContinuousClock.now + Self.readyTimeout
        promises.append(
            Promise(
                asker: asker,
                broker: broker.address.broker,
                isForReady: isForReady,
                deadline: deadline
            )
        )
    }

    /// Answers those who waited for what has happened; what nobody waited for is said aloud.
    private func keep(_ broker: Int, isReady: Bool, _ text: String) {
        let kept = promises.filter { $0.broker == broker }
        promises.removeAll { $0.broker == broker }
        for promise in kept { answer(promise.asker, text, isDone: promise.isForReady == isReady) }
        if kept.isEmpty, isAnnounced || !isReady { CommandOutput.note(text) }
    }

    private func giveUpLatePromises() {
        let now = ContinuousClock.now
        for promise in promises where promise.deadline < now {
            let wanted = promise.isForReady ? "ready" : "at its end"
            answer(promise.asker, "broker \(promise.broker) is not \(wanted) yet", isDone: false)
        }
        promises.removeAll { $0.deadline < now }
    }

    private func answer(_ asker: Int32?, _ text: String, isDone: Bool) {
        guard let asker else { return CommandOutput.note(text) }
        control.answer(asker, text, isDone: isDone)
    }
}

/// Lines typed at the terminal in whose foreground the command runs.
struct DevKeyboard {
    let descriptor = STDIN_FILENO
    private var isOpen = true

    /// Nil where nobody can type.
    init?() {
        guard isatty(STDIN_FILENO) == 1, tcgetpgrp(STDIN_FILENO) == getpgrp() else { return nil }
    }

    /// What was typed since; a terminal hands over whole lines.
    mutating func lines() -> [String] {
        var polled = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        // Safe: the call reads and writes the one element, which lives until it returns.
        guard isOpen, unsafe poll(&polled, 1, 0) > 0 else { return [] }
        guard case .bytes(let bytes) = DevProcess.read(descriptor) else {
            isOpen = false
            return []
        }
        return String(decoding: bytes, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}
