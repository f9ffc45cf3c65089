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
    let note: (String) -> Void

    func run() async throws {
        let left = count ?? .max
        guard left > 0 else { return }
        let counted = flotilla_count_stop_signals()
        guard counted == 0 else {
            throw CommandFailure.failed("signals: \(DevProcess.reason(-counted))")
        }
        let news = News()
        var configuration = configuration
        // Each batch is committed when it is printed, not when the next one is asked for.
        configuration.autoCommitInterval = nil
        configuration.listener = listener(news)
        let consumer = try GroupConsumer(client, configuration)
        do {
            try await read(consumer, news, left)
        } catch {
            await end(consumer, news)
            throw error
        }
        await end(consumer, news)
        if flotilla_stop_signal_count() > 0 { throw ExitCode(Self.interrupted) }
    }

    private func end(_ consumer: GroupConsumer, _ news: News) async {
        await consumer.close()
        for text in news.take().notes { note(text) }
    }

    private func read(_ consumer: GroupConsumer, _ news: News, _ limit: Int) async throws {
        let output = StandardOutput()
        var left = limit
        while left > 0, flotilla_stop_signal_count() == 0 {
            let batch = try await consumer.next(within: Self.step)
            let (notes, ends, failure) = news.take()
            for text in notes { note(text) }
            if let failure { throw failure }
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

    /// What the membership has told, for the one who prints.
    private final class News: Sendable {
        private struct State {
            var notes: [String] = []
            var lastNote: String?
            var ends: [NamedPartition: Offset] = [:]
            var shareTime: ContinuousClock.Instant?
            var failure: (any Error)?
        }

        /// Guards what the callbacks of the membership leave.
        private let state = Mutex(State())

        /// Says something, once where it is said again and again.
        func note(_ text: String) {
            state.withLock { state in
                guard state.lastNote != text else { return }
                state.lastNote = text
                state.notes.append(text)
            }
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

        /// What is new, and where partitions end.
        func take() -> (
            notes: [String], ends: [NamedPartition: Offset], failure: (any Error)?
        ) {
            state.withLock { state in
                defer { state.notes = [] }
                return (state.notes, state.ends, state.failure)
            }
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
