import ArgumentParser
import CFlotilla
import FlotillaClient
import FlotillaModel
import Synchronization

/// Reads as a member of a group, and prints: `flotilla consume -g`.
///
/// What is printed is committed afterwards; whoever is killed in between has it printed again by another. A signal ends it
/// as the end of the partitions does: what was printed is committed, and the group is left.
struct GroupReading {
    /// How often signals and ends are looked at while nothing comes.
    private static let step = Duration.milliseconds(100)
    /// A member that is given no partition for so long will not be given any.
    private static let emptyShareLimit = Duration.seconds(5)
    /// What a shell expects of a process that was interrupted.
    private static let interrupted: Int32 = 130

    let client: KafkaClient
    let configuration: GroupConfiguration
    let printing: RecordPrinting
    let count: Int?
    let endsAtEnd: Bool
    /// Says something beside the records; what the membership tells is said at once, from where it is told.
    let note: @Sendable (String) -> Void

    func run() async throws {
        let left = count ?? .max
        guard left > 0 else { return }
        let counted = flotilla_count_stop_signals()
        guard counted == 0 else {
            throw CommandFailure.failed("signals: \(DevProcess.reason(-counted))")
        }
        let news = News(note: note)
        var configuration = configuration
        // Each batch is committed when it is printed, not when the next one is asked for.
        configuration.autoCommitInterval = nil
        configuration.listener = listener(news)
        let consumer = try GroupConsumer(client, configuration)
        do {
            try await read(consumer, news, left)
        } catch {
            await consumer.close()
            throw error
        }
        await consumer.close()
        if flotilla_stop_signal_count() > 0 { throw ExitCode(Self.interrupted) }
    }

    private func read(_ consumer: GroupConsumer, _ news: News, _ limit: Int) async throws {
        let output = StandardOutput()
        var left = limit
        while left > 0, flotilla_stop_signal_count() == 0 {
            let batch = try await consumer.next(within: Self.step)
            let ends = try news.ends()
            if let batch {
                let end = endsAtEnd ? ends[batch.partition] ?? .zero : Offset(.max)
                let done = try write(batch, before: end, &left, to: output)
                try await settle(batch.partition, at: done, isOver: done >= end, consumer)
            }
            if endsAtEnd, isAtEnd(await consumer.positions, ends, news) { return }
        }
    }

    /// Prints what is wanted of a batch, and returns up to where it is done.
    private func write(
        _ batch: ConsumedRecords,
        before end: Offset,
        _ left: inout Int,
        to output: StandardOutput
    ) throws -> Offset {
        var done = min(batch.nextOffset, end)
        var rest = left
        try output.write { output in
            for record in batch.records where record.offset < end {
                guard rest > 0 else {
                    done = min(done, record.offset)
                    break
                }
                guard printing.wants(record) else { continue }
                printing.write(record, into: &output)
                rest -= 1
            }
        }
        try output.flush()
        left = rest
        return done
    }

    /// Has the group remember what was printed, unless the partition is somebody else's by now.
    private func settle(
        _ partition: NamedPartition,
        at offset: Offset,
        isOver: Bool,
        _ consumer: GroupConsumer
    ) async throws {
        do throws(ClientError) {
            try await consumer.commitSoon([partition: offset])
            if isOver { try await consumer.pause([partition]) }
        } catch {
            guard case .notAssigned = error else { throw error }
            note("\(partition) was lost: what was just printed will be read again")
        }
    }

    private func isAtEnd(
        _ positions: [NamedPartition: Offset],
        _ ends: [NamedPartition: Offset],
        _ news: News
    ) -> Bool {
        guard let since = news.shareTime else { return false }
        guard !positions.isEmpty else { return .now - since > Self.emptyShareLimit }
        return positions.allSatisfy { partition, offset in
            ends[partition].map { offset >= $0 } ?? false
        }
    }

    // MARK: News

    private func listener(_ news: News) -> RebalanceListener {
        let (client, endsAtEnd) = (client, endsAtEnd)
        let level = configuration.fetching.isolationLevel
        var listener = RebalanceListener()
        listener.assigned = { _, partitions in
            var ends: [NamedPartition: Offset] = [:]
            if endsAtEnd {
                do {
                    ends = try await Place.named(.latest).resolve(partitions, Admin(client), level)
                } catch {
                    return news.fail(error)
                }
            }
            news.assign(partitions, ends)
        }
        listener.revoked = { _, partitions in news.drop(partitions, "given up") }
        listener.lost = { _, partitions in news.drop(partitions, "lost") }
        listener.troubled = { error in news.note("flotilla: \(error)") }
        return listener
    }

    /// What the membership tells: said at once, and kept for the one who reads where that needs it.
    private final class News: Sendable {
        private struct State {
            var lastNote: String?
            var ends: [NamedPartition: Offset] = [:]
            var shareTime: ContinuousClock.Instant?
            var failure: (any Error)?
        }

        private let say: @Sendable (String) -> Void
        /// Guards what the callbacks of the membership leave.
        private let state = Mutex(State())

        init(note: @escaping @Sendable (String) -> Void) { say = note }

        /// Says something, once where it is said again and again.
        func note(_ text: String) {
            let isNew = state.withLock { state in
                defer { state.lastNote = text }
                return state.lastNote != text
            }
            if isNew { say(text) }
        }

        func assign(_ partitions: [NamedPartition], _ ends: [NamedPartition: Offset]) {
            note("assigned \(GroupText.partitions(partitions))")
            state.withLock { state in
                state.ends.merge(ends) { $1 }
                state.shareTime = .now
            }
        }

        func drop(_ partitions: [NamedPartition], _ word: String) {
            note("\(word) \(GroupText.partitions(partitions))")
            state.withLock { state in
                for partition in partitions { state.ends[partition] = nil }
            }
        }

        func fail(_ error: any Error) {
            state.withLock { $0.failure = error }
        }

        /// When the group last gave this member a share, perhaps an empty one.
        var shareTime: ContinuousClock.Instant? {
            state.withLock { $0.shareTime }
        }

        /// Where the partitions of this member end; throws when that could not be found out.
        func ends() throws -> [NamedPartition: Offset] {
            let (ends, failure) = state.withLock { ($0.ends, $0.failure) }
            if let failure { throw failure }
            return ends
        }
    }
}

/// A group protocol by its name.
struct GroupProtocolName: ExpressibleByArgument {
    let value: GroupProtocol

    init(_ value: GroupProtocol) { self.value = value }

    init?(argument: String) {
        guard let value = GroupProtocol(rawValue: argument) else { return nil }
        self.value = value
    }

    var defaultValueDescription: String { value.rawValue }
    static var allValueStrings: [String] { GroupProtocol.allCases.map(\.rawValue) }
}

/// An assignor by its name.
struct AssignorName: ExpressibleByArgument {
    let value: Assignor

    init?(argument: String) {
        guard let value = Assignor(rawValue: argument) else { return nil }
        self.value = value
    }

    static var allValueStrings: [String] { Assignor.allCases.map(\.rawValue) }
}
