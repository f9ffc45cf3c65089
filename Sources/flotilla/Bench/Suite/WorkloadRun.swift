import CFlotilla
import FlotillaClient
import FlotillaModel
import NIOCore
import Synchronization

/// One run of a workload: topics of its own, consumers in their places, then producers for the warm-up and the measured time.
struct WorkloadRun {
    /// Somebody pressed Ctrl-C.
    struct Interrupted: Error {}

    let workload: Workload
    let configuration: ClientConfiguration
    /// Brokers that this command started; nil: they are somebody else's.
    let cluster: BenchCluster?
    /// On the servers' disk; nil where that is not known.
    let directory: String?

    /// How long consumers may take to get their partitions, and what was published to reach them in the end.
    private static let patience = Duration.seconds(60)
    private static let drainPatience = Duration.seconds(10)
    /// A run that finds out how much goes flat out.
    private static let probe = (warmup: Span(.seconds(2)), duration: Span(.seconds(3)))
    /// From the moment at which all is in place to the first record.
    private static let leadNanos: UInt64 = 100_000_000

    /// Runs it; a share of the peak finds the peak first.
    func run() async throws -> RunMeasurement {
        switch workload.pace {
        case .flatOut: return try await measure(rate: nil)
        case .fixed(let rate): return try await measure(rate: rate)
        case .share(let share):
            var probing = workload
            probing.pace = .flatOut
            probing.faults = []
            probing.backlogByteCount = 0
            (probing.warmup, probing.duration) = (Self.probe.warmup, Self.probe.duration)
            let peak = try await WorkloadRun(
                workload: probing,
                configuration: configuration,
                cluster: cluster,
                directory: directory
            ).measure(rate: nil).producedPerSecond
            guard peak > 0 else { throw CommandFailure.failed("a run flat out reached nothing") }
            return try await measure(rate: peak * share)
        }
    }

    // MARK: Topics

    private func measure(rate: Double?) async throws -> RunMeasurement {
        let client = KafkaClient(configuration)
        do {
            let names = try await createTopics(client)
            let measurement: RunMeasurement
            do {
                measurement = try await measure(names, rate, client)
            } catch {
                await deleteTopics(names, client)
                throw error
            }
            await deleteTopics(names, client)
            await client.close()
            return measurement
        } catch {
            await client.close()
            throw error
        }
    }

    private func createTopics(_ client: KafkaClient) async throws -> [String] {
        let run = String(UInt32.random(in: .min ... .max), radix: 36)
        let names = (0..<workload.topicCount).map { "bench-\(run)-\($0)" }
        let brokerCount = try await client.metadata(topics: []).brokers.count
        let replicaCount = workload.replicaCount ?? min(3, max(brokerCount, 1))
        let topics = names.map { name in
            Admin.NewTopic(
                name: name,
                partitionCount: Int32(workload.partitionCount),
                replicationFactor: Int16(replicaCount),
                configs: workload.topicSettings
            )
        }
        for case let error? in try await Admin(client).createTopics(topics).values { throw error }
        try await BenchTopics.waitForLeaders(names, client)
        return names
    }

    /// What is left behind is told, and hides no other error.
    private func deleteTopics(_ names: [String], _ client: KafkaClient) async {
        do throws(ClientError) {
            for case (let name, let error?) in try await Admin(client).deleteTopics(names) {
                CommandOutput.note("flotilla: topic \(name) is left behind: \(error)")
            }
        } catch {
            CommandOutput.note("flotilla: topics are left behind: \(error)")
        }
    }

    // MARK: Measuring

    private func measure(
        _ topics: [String],
        _ rate: Double?,
        _ client: KafkaClient
    ) async throws -> RunMeasurement {
        let readers = try BenchReaders(workload, topics, configuration)
        let replicaCount = try await client.metadata(topics: topics).topics.first?.partitions.first?
            .replicas.count
        return try await withThrowingTaskGroup(of: RunMeasurement?.self) { group in
            if workload.backlogByteCount == 0 {
                try await readers.start(in: &group, patience: Self.patience)
            }
            let window = RunWindow(workload, leadNanos: Self.leadNanos)
            let produced = RunRecorder(start: window.start, end: window.end)
            let consumed = RunRecorder(start: window.start, end: window.end)
            readers.count(into: consumed)
            let events = RunEvents(start: window.start)
            addProducers(topics, rate, window, produced, to: &group)
            addFaults(topics, client, window, events, to: &group)
            if workload.backlogByteCount > 0 {
                try await waitForBacklog(produced, until: window.end)
                events.note("the backlog is there: consumers begin")
                try await readers.start(in: &group, patience: Self.patience)
            }
            group.addTask { try await sample(window, produced, consumed, readers) }
            return try await finish(&group, readers, produced, consumed, events, rate, replicaCount)
        }
    }

    /// Waits until everything has ended, in the order in which it may.
    private func finish(
        _ group: inout ThrowingTaskGroup<RunMeasurement?, any Error>,
        _ readers: BenchReaders,
        _ produced: RunRecorder,
        _ consumed: RunRecorder,
        _ events: RunEvents,
        _ rate: Double?,
        _ replicaCount: Int?
    ) async throws -> RunMeasurement {
        var left =
            workload.topicCount * workload.producerCount + 1 + (workload.faults.isEmpty ? 0 : 1)
        var sampled: RunMeasurement?
        while left > 0, let ended = try await group.next() {
            left -= 1
            sampled = sampled ?? ended
        }
        try await readers.drain(
            produced.everyRecordCount,
            consumed,
            patience: Self.drainPatience
        )
        await readers.close()
        try await group.waitForAll()
        guard var measurement = sampled else { preconditionFailure("the sampler ends with one") }
        measurement.produced = produced.total
        measurement.failures = produced.failures
        measurement.consumed = workload.groupCount > 0 ? consumed.total : nil
        measurement.rate = rate
        measurement.replicaCount = replicaCount
        measurement.events = events.all
        return measurement
    }

    // MARK: Producers

    private func addProducers(
        _ topics: [String],
        _ rate: Double?,
        _ window: RunWindow,
        _ recorder: RunRecorder,
        to group: inout ThrowingTaskGroup<RunMeasurement?, any Error>
    ) {
        let count = topics.count * workload.producerCount
        for topic in topics {
            for _ in 0..<workload.producerCount {
                let generator = LoadGenerator(
                    topic: topic,
                    payload: workload.payload,
                    recordByteCount: workload.recordByteCount,
                    isKeyed: workload.isKeyed,
                    interval: rate.map { 1e9 / $0 * Double(count) },
                    begin: window.begin,
                    end: window.end
                )
                group.addTask {
                    try await produce(generator, recorder)
                    return nil
                }
            }
        }
    }

    private func produce(_ generator: LoadGenerator, _ recorder: RunRecorder) async throws {
        let client = KafkaClient(configuration)
        let producer = Producer(client, workload.producer) { report in
            if let error = report.error {
                recorder.note(failures: report.tags.count, error.description)
            } else if !workload.isOneAtATime {
                recorder.note(due: report.tags)
            }
        }
        let carriesTime = workload.carriesTime && workload.groupCount > 0
        func stamp(_ value: ByteBuffer, _ due: UInt64) -> ByteBuffer {
            guard carriesTime else { return value }
            var stamped = value
            stamped.setInteger(due, at: stamped.readerIndex)
            return stamped
        }
        if workload.isOneAtATime {
            try await generator.runOneAtATime(producer, stamp: stamp) { due, error in
                if error == nil { recorder.note(due: CollectionOfOne(due)) }
            }
        } else {
            try await generator.run(producer, stamp: stamp)
        }
        await producer.close()
        await client.close()
    }

    private func waitForBacklog(_ produced: RunRecorder, until end: UInt64) async throws {
        while produced.everyRecordCount * workload.recordByteCount < workload.backlogByteCount {
            guard Monotonic.now() < end else {
                throw CommandFailure.failed(
                    "the backlog of \(Size(workload.backlogByteCount)) was not reached in time"
                )
            }
            try Self.throwIfInterrupted()
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    // MARK: Faults

    private func addFaults(
        _ topics: [String],
        _ client: KafkaClient,
        _ window: RunWindow,
        _ events: RunEvents,
        to group: inout ThrowingTaskGroup<RunMeasurement?, any Error>
    ) {
        guard let cluster, !workload.faults.isEmpty else { return }
        group.addTask {
            for fault in workload.faults {
                try await window.sleep(until: fault.time)
                let metadata = try await client.metadata(topics: [topics[0]])
                guard let leader = metadata.topic(topics[0])?.partitions.first?.leader else {
                    throw CommandFailure.failed("a fault finds no leader of \(topics[0])")
                }
                cluster.begin(fault.kind, Int(leader.rawValue))
                events.note("broker \(leader) is \(fault.kind.words)")
                try await Task.sleep(for: fault.length.duration)
                cluster.end(fault.kind, Int(leader.rawValue))
                events.note("broker \(leader) goes on")
            }
            return nil
        }
    }

    // MARK: Sampling

    private func sample(
        _ window: RunWindow,
        _ produced: RunRecorder,
        _ consumed: RunRecorder,
        _ readers: BenchReaders
    ) async throws -> RunMeasurement {
        var sampler = ResourceSampler(directory: directory)
        func usage() -> ResourceSampler.Usage { sampler.sample(servers: cluster?.processes) }
        try await window.sleep(untilNanos: window.start)
        var measurement = RunMeasurement(workload: workload)
        let first = usage()
        var last = first
        for second in 1...Int(workload.duration.milliseconds / 1000) {
            try await window.sleep(untilNanos: window.start + UInt64(second) * 1_000_000_000)
            try Self.throwIfInterrupted()
            let now = usage()
            measurement.series.append(
                RunMeasurement.Second(
                    produced: produced.takeSecond(),
                    consumed: consumed.takeSecond(),
                    usage: now,
                    before: last,
                    backlog: readers.backlog(produced.everyRecordCount, consumed)
                )
            )
            last = now
        }
        measurement.usage = (first, last)
        return measurement
    }

    private static func throwIfInterrupted() throws {
        if flotilla_stop_signal_count() > 0 { throw Interrupted() }
    }
}

/// When a run offers records, and when it measures.
struct RunWindow: Sendable {
    let begin: UInt64
    let start: UInt64
    let end: UInt64

    init(_ workload: Workload, leadNanos: UInt64) {
        begin = Monotonic.now() + leadNanos
        start = begin + UInt64(workload.warmup.milliseconds) * 1_000_000
        end = start + UInt64(workload.duration.milliseconds) * 1_000_000
    }

    /// Sleeps until a time of the monotonic clock.
    func sleep(untilNanos time: UInt64) async throws {
        let now = Monotonic.now()
        guard time > now else { return }
        try await Task.sleep(for: .nanoseconds(Int64(time - now)), tolerance: .zero)
    }

    /// Sleeps until so long after the measured time began.
    func sleep(until time: Span) async throws {
        try await sleep(untilNanos: start + UInt64(time.milliseconds) * 1_000_000)
    }
}

/// What happened during a run, and when.
final class RunEvents: Sendable {
    private let start: UInt64
    // Guards a line now and then.
    private let events = Mutex<[(seconds: Double, text: String)]>([])

    init(start: UInt64) { self.start = start }

    /// Notes what happens now.
    func note(_ text: String) {
        let seconds = (Double(Monotonic.now()) - Double(start)) / 1e9
        events.withLock { $0.append((seconds, text)) }
        CommandOutput.note("\(Decimals.text(seconds, 1)) s: \(text)")
    }

    var all: [(seconds: Double, text: String)] { events.withLock { $0 } }
}
