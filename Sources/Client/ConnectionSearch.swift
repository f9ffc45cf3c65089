import NIOCore

/// A search for whoever takes a connection first, among addresses in order of preference.
///
/// An address that fails gives way to the next one at once. One that keeps us waiting, as a broker that hangs does, is not
/// given up, but after a moment the next one is asked beside it (as in RFC 8305). Each address is asked once.
///
/// Lives on the client's event loop.
final class ConnectionSearch {
    private let core: Core
    private let purpose: Core.Purpose
    private let addresses: [BrokerAddress]
    private let complete: Completion<Connection>
    private var nextPlace = 0
    private var failures: [BrokerAddress: ClientError] = [:]
    private var timer: Scheduled<Void>?
    private var deadlineTimer: Scheduled<Void>?
    private var isOver = false

    init(
        _ core: Core,
        _ addresses: [BrokerAddress],
        for purpose: Core.Purpose,
        _ complete: @escaping Completion<Connection>
    ) {
        self.core = core
        self.addresses = addresses
        self.purpose = purpose
        self.complete = complete
    }

    /// Begins; it ends by the deadline, if there is one.
    func start(by deadline: NIODeadline?) {
        deadlineTimer = deadline.map { deadline in
            core.loop.assumeIsolated().scheduleTask(deadline: deadline) { self.giveUp() }
        }
        askNext()
    }

    /// Asks the next address, and plans to ask the one after it.
    private func askNext() {
        timer?.cancel()
        guard !isOver, nextPlace < addresses.count else { return concludeIfAllFailed() }
        let address = addresses[nextPlace]
        nextPlace += 1
        timer = core.loop.assumeIsolated().scheduleTask(
            in: TimeAmount(core.configuration.nextBrokerDelay)
        ) {
            self.core.noteSlow(address)
            self.askNext()
        }
        core.withConnection(to: address, for: purpose) { self.take($0, from: address) }
    }

    private func take(_ result: Result<Connection, ClientError>, from address: BrokerAddress) {
        guard !isOver else { return }
        switch result {
        case .success, .failure(.closed): finish(result)
        case .failure(let error):
            failures[address] = error
            // One that was slow to fail had others asked in its place already.
            if addresses[nextPlace - 1] == address { askNext() } else { concludeIfAllFailed() }
        }
    }

    /// The time for it is over: nobody who still keeps us waiting is waited for any longer.
    private func giveUp() {
        guard !isOver else { return }
        for address in addresses[..<nextPlace] where failures[address] == nil {
            failures[address] = .requestTimedOut(api: "", broker: address)
        }
        finish(.failure(Self.summary(addresses, failures)))
    }

    private func concludeIfAllFailed() {
        guard !isOver, failures.count == addresses.count else { return }
        finish(.failure(Self.summary(addresses, failures)))
    }

    private func finish(_ result: Result<Connection, ClientError>) {
        isOver = true
        timer?.cancel()
        deadlineTimer?.cancel()
        complete(result)
    }

    /// One error for several: the reason once where it is the same for all.
    static func summary(
        _ addresses: [BrokerAddress],
        _ failures: [BrokerAddress: ClientError]
    ) -> ClientError {
        let known = addresses.compactMap { address in failures[address].map { (address, $0) } }
        // Nothing that may pass: waiting would not help.
        if let (_, error) = known.first, known.allSatisfy({ !$0.1.isRetriable }) { return error }
        let reasons = known.map { reason($0.1) }
        let isSame = Set(reasons).count <= 1
        return .unreachable(
            brokers: addresses,
            reason: isSame
                ? reasons.first ?? "none given"
                : zip(known, reasons).map { "\($0.0): \($1)" }.joined(separator: "; "),
            isRefusal: !known.isEmpty
                && known.allSatisfy {
                    guard case .unreachable(_, _, isRefusal: true) = $0.1 else { return false }
                    return true
                }
        )
    }

    /// Why an address failed, without its name where it can do without.
    static func reason(_ error: ClientError) -> String {
        switch error {
        case .unreachable(_, let reason, _): reason
        case .requestTimedOut: "no answer in time"
        default: error.description
        }
    }
}
