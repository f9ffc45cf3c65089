/// What a journal's thread drives: a journal in the shape that the thread needs.
///
/// Made on the thread, used there only, and dropped there.
package protocol JournalRounds: AnyObject, SendableMetatype {
    /// What a shard asks to be made durable.
    associatedtype Request: Sendable

    /// Writes all requests as one round and makes it durable; afterwards answers whom it concerns.
    ///
    /// - Parameter requests: in the order in which they were submitted; never empty.
    /// - Throws: when the disk failed, and then the thread ends: what was not answered stays
    ///   unanswered.
    func performRound(_ requests: [Request]) throws

    /// Called when nothing was submitted for the idle delay since the last round: seals that round.
    ///
    /// - Returns: whether there may be more to do after another idle delay.
    func becomeIdle() throws -> Bool

    /// Called once, after the last round of a clean stop.
    func finish() throws
}

/// The thread of one data directory's journal: group commit.
///
/// While a round is being written and synced the next one's requests gather; whoever submits first
/// after a pause wakes the thread. The number of requests in wait is bounded by the shards, which
/// hold back produce beyond their budget of unwritten bytes.
///
/// - Source: one thread that owns the journal costs as much per hand-over as a pool, and group
///   commit wants one owner (measured: 1.7 million durable appends a second at 1,000 partitions).
package final class JournalThread<Rounds: JournalRounds>: Sendable {
    private struct Mailbox {
        var requests: [Rounds.Request] = []
        var isStopping = false
    }

    private enum Wake {
        case requests([Rounds.Request])
        case stop
    }

    private let mailbox = Monitor(Mailbox())
    private let thread: OperatingThread

    /// Starts the thread.
    ///
    /// - Parameters:
    ///   - name: shown by the system's tools.
    ///   - idleDelay: how long nothing must be submitted before `becomeIdle` is called.
    ///   - makeRounds: opens the journal, on the thread.
    ///   - failed: called on the thread when a call threw, as its last act; it must stop the
    ///     process, since nobody knows what the disk still holds.
    package init(
        name: String = "journal",
        idleDelay: Duration = .milliseconds(50),
        makeRounds: @escaping @Sendable () throws -> Rounds,
        failed: @escaping @Sendable (any Error) -> Void
    ) {
        let mailbox = mailbox
        thread = OperatingThread(name: name) {
            do {
                try Self.serve(makeRounds(), from: mailbox, idleDelay: idleDelay)
            } catch {
                failed(error)
            }
        }
    }

    private static func serve(_ rounds: Rounds, from mailbox: Monitor<Mailbox>, idleDelay: Duration)
        throws
    {
        var hasIdleWork = true
        while true {
            switch mailbox.wait(timeout: hasIdleWork ? idleDelay : nil, until: take) {
            case .requests(let requests):
                try rounds.performRound(requests)
                hasIdleWork = true
            case .stop:
                try rounds.finish()
                return
            case nil:
                hasIdleWork = try rounds.becomeIdle()
            }
        }
    }

    private static func take(from mailbox: inout Mailbox) -> Wake? {
        guard mailbox.requests.isEmpty else {
            let requests = mailbox.requests
            mailbox.requests = []
            return .requests(requests)
        }
        return mailbox.isStopping ? .stop : nil
    }

    /// Hands over what one shard gathered in a turn; it becomes part of the next round.
    ///
    /// After a stop it is dropped: nobody is told that it is durable, so nobody may rest on it.
    package func submit(_ requests: some Sequence<Rounds.Request>) {
        mailbox.update { mailbox in
            guard !mailbox.isStopping else {
                return ((), wakes: false)
            }
            let wasEmpty = mailbox.requests.isEmpty
            mailbox.requests.append(contentsOf: requests)
            return ((), wakes: wasEmpty && !mailbox.requests.isEmpty)
        }
    }

    /// The number of requests that the next round will hold.
    package var waitingCount: Int {
        mailbox.update { ($0.requests.count, wakes: false) }
    }

    /// Writes what was submitted, calls `finish`, and ends the thread.
    ///
    /// Blocks; called once, not on the thread.
    package func stop() {
        mailbox.update { mailbox in
            mailbox.isStopping = true
            return ((), wakes: true)
        }
        thread.join()
    }
}
