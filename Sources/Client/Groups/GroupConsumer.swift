public import FlotillaModel
import FlotillaKafkaWire
import NIOCore
import Synchronization

/// Reads topics as a member of a consumer group: the group divides the partitions, and remembers how far each is read.
///
/// ```swift
/// let consumer = try GroupConsumer(client, GroupConfiguration(group: "billing", topics: ["orders"]))
/// for try await batch in consumer {
///     for record in batch.records { bill(record) }
/// }
/// await consumer.close()
/// ```
///
/// It joins when it is first asked for records. From then on one task of its own, which ends with `close()`, keeps the
/// membership: it says that the member lives while the application works, gives partitions up and takes new ones. What was
/// handed out counts as read, and is committed, when the application asks for more; whoever ends before that reads it
/// again.
///
/// One task asks for records; all else may be called from anywhere.
public actor GroupConsumer: AsyncSequence {
    /// What the sequence gives.
    public typealias Element = ConsumedRecords

    private static let counter = Atomic<Int>(0)

    /// How far its life has come.
    enum Stage: Hashable {
        case open, closing, closed
    }

    /// What it was made with.
    public nonisolated let configuration: GroupConfiguration
    let client: KafkaClient
    let reader: Consumer
    let number: Int

    // Life.
    var stage = Stage.open
    /// Why the membership ended by itself.
    var failure: ClientError?
    private var work: Task<Void, Never>?
    /// Wakes who keeps the membership, who sends heartbeats, who commits, and who asks for records.
    let membershipAlarm: Alarm
    let beatAlarm: Alarm
    let commitAlarm: Alarm
    private let applicationAlarm: Alarm

    // Membership.
    var coordinator: BrokerID?
    var classic: ClassicMember
    var modern: ConsumerMember
    /// What this member reads, with the topics' ids where the protocol has them.
    var owned: [NamedPartition: TopicID] = [:]
    /// What the leader of a classic group has divided.
    var watched: [String: WatchedTopic] = [:]
    var watchedNames: Set<String> = []
    var lastWatch = ContinuousClock.now
    private var ticketCount = 0
    /// What is this member's own, and not read yet.
    private var arriving: Set<NamedPartition> = []

    // Progress.
    var progress = GroupProgress()
    /// What is to be committed as soon as it goes; it stays until that is decided, so that no partition is given up before.
    var pendingCommit: [NamedPartition: CommitWish] = [:]

    // Turns: the application works with records, or the membership changes what it reads, never both.
    private var isPulling = false
    private var isApplicationBusy = false
    private var isTurnWanted = false
    private var isTurnTaken = false
    private var lastPull = ContinuousClock.now
    /// What came while the membership had its turn.
    private var kept: ConsumedRecords?
    /// Topics that are gone, whose partitions are not fetched until the group divides anew.
    private var missingTopics: Set<String> = []
    private var paused: Set<NamedPartition> = []

    /// Makes a consumer; it joins its group when it is first asked for records.
    ///
    /// - Throws: `.invalidConfiguration`.
    public init(_ client: KafkaClient, _ configuration: GroupConfiguration) throws(ClientError) {
        try configuration.check()
        self.client = client
        self.configuration = configuration
        number = Self.counter.add(1, ordering: .relaxed).newValue
        var fetching = configuration.fetching
        switch configuration.start {
        case .earliest: fetching.resetsTo = .earliest
        case .latest: fetching.resetsTo = .latest
        case .error: fetching.resetsTo = nil
        }
        reader = Consumer(client, fetching)
        classic = ClassicMember(group: configuration.group)
        modern = ConsumerMember(configuration)
        membershipAlarm = Alarm(client.loop)
        beatAlarm = Alarm(client.loop)
        commitAlarm = Alarm(client.loop)
        applicationAlarm = Alarm(client.loop)
    }

    // MARK: Reading

    /// Waits for the next records of any partition; what was handed out before counts as read now.
    ///
    /// - Returns: nil after `close()`.
    /// - Throws: what ended the membership, or a fetch; what may pass is repeated and not thrown.
    public func next() async throws(ClientError) -> ConsumedRecords? {
        try await pull(until: nil)
    }

    /// The same, but waits no longer than `limit`.
    ///
    /// - Returns: nil when nothing came in time, too.
    public func next(within limit: Duration) async throws(ClientError) -> ConsumedRecords? {
        try await pull(until: .now + limit)
    }

    private func pull(
        until deadline: ContinuousClock.Instant?
    ) async throws(ClientError) -> ConsumedRecords? {
        precondition(!isPulling, "one task asks a group consumer for records at a time")
        isPulling = true
        isApplicationBusy = false
        progress.markRead()
        start()
        if isTurnWanted { membershipAlarm.ring() }
        let timer = deadline.map { deadline in
            client.loop.scheduleTask(in: TimeAmount(deadline - .now)) {
                [reader, applicationAlarm] in
                reader.wake()
                applicationAlarm.ring()
            }
        }
        defer {
            timer?.cancel()
            isPulling = false
            isApplicationBusy = true
            lastPull = .now
        }
        var backoff = Backoff(client.configuration)
        while stage == .open {
            if let failure { throw failure }
            if let records = try await deliverable() {
                progress.deliver(records)
                return records
            }
            if Task.isCancelled { throw .cancelled }
            if let deadline, .now >= deadline { return nil }
            guard kept == nil, stage == .open else { continue }
            do throws(ClientError) {
                kept = try await reader.nextOrWoken()
            } catch {
                try await endure(error, &backoff)
            }
        }
        return nil
    }

    /// What is kept, once the membership has not its turn; nil where there is none, or it is of an assignment that is past.
    private func deliverable() async throws(ClientError) -> ConsumedRecords? {
        guard let records = kept else { return nil }
        if isTurnTaken {
            await applicationAlarm.wait()
            return nil
        }
        kept = nil
        return progress.admits(records) ? records : nil
    }

    /// Passes by what may pass, and a topic that is gone; throws all else.
    private func endure(_ error: ClientError, _ backoff: inout Backoff) async throws(ClientError) {
        switch error {
        case .noSuchTopic(let topic):
            missingTopics.insert(topic)
            for partition in owned.keys where partition.topic == topic {
                await reader.pause(partition)
            }
            lookAtTopics()
        case _ where error.isRetriable:
            configuration.listener.troubled(error)
            try await KafkaClient.sleep(backoff.next())
        default: throw error
        }
    }

    /// Reads on from where the consumer stands.
    public nonisolated func makeAsyncIterator() -> Iterator {
        Iterator(consumer: self)
    }

    /// Reads a group consumer batch by batch.
    public struct Iterator: AsyncIteratorProtocol {
        let consumer: GroupConsumer

        /// Waits for the next records.
        public func next() async throws(ClientError) -> ConsumedRecords? {
            try await consumer.next()
        }

        /// Waits for the next records.
        public func next(isolation actor: isolated (any Actor)?) async throws(ClientError)
            -> ConsumedRecords?
        {
            try await consumer.next()
        }
    }

    // MARK: Steering

    /// The partitions that this member reads, sorted.
    public var assignment: [NamedPartition] {
        owned.keys.sorted()
    }

    /// Where reading each partition goes on, behind what was handed out.
    public var positions: [NamedPartition: Offset] {
        progress.delivered
    }

    /// The id by which the group knows this member, empty while it has none.
    public var memberID: String {
        identity.memberID
    }

    /// Stops fetching partitions until `resume`, or until they are assigned anew; what was fetched already still comes.
    public func pause(_ partitions: [NamedPartition]) async throws(ClientError) {
        for partition in partitions {
            guard owned[partition] != nil else { throw .notAssigned(partition) }
            paused.insert(partition)
            await reader.pause(partition)
        }
    }

    /// Fetches partitions again.
    public func resume(_ partitions: [NamedPartition]) async throws(ClientError) {
        for partition in partitions {
            guard owned[partition] != nil else { throw .notAssigned(partition) }
            paused.remove(partition)
            await reader.resume(partition)
        }
    }

    /// Goes on elsewhere in a partition of this member.
    public func seek(_ partition: NamedPartition, to place: StartOffset) async throws(ClientError) {
        guard owned[partition] != nil else { throw .notAssigned(partition) }
        let found = try await Admin(client).offsets(
            [partition: place],
            isolationLevel: configuration.fetching.isolationLevel
        )
        // It may have been given up meanwhile.
        guard let offset = found[partition], owned[partition] != nil else {
            throw .notAssigned(partition)
        }
        if kept?.partition == partition { kept = nil }
        progress.move(partition, to: offset)
        if !arriving.contains(partition) { try await reader.seek(partition, to: .offset(offset)) }
    }

    /// Gives up the partitions, leaves the group and ends all that runs.
    ///
    /// What was read is committed before, if it is to be by itself. A static member does not leave: its partitions wait for it.
    /// Every call that goes on ends; `next()` gives nil.
    public func close() async {
        guard stage == .open else {
            await work?.value
            return
        }
        stage = .closing
        wakeAll()
        // Who waits for the others to join does not wait any longer; nor does who is just about to.
        let purpose = Core.Purpose.join(member: number)
        let closing = client.loop.scheduleRepeatedTask(
            initialDelay: .zero,
            delay: .milliseconds(50)
        ) { [client] _ in
            client.loopCore.close(purpose)
        }
        await work?.value
        closing.cancel()
        stage = .closed
        await reader.close()
        await client.close(.group(member: number))
        wakeAll()
    }

    // MARK: Life

    /// Begins the membership, once.
    private func start() {
        guard work == nil, stage == .open else { return }
        // The one task of this consumer: `close()` waits for its end.
        work = Task { await live() }
    }

    private func live() async {
        await withDiscardingTaskGroup { tasks in
            tasks.addTask { await self.beatInTime() }
            tasks.addTask { await self.commitInTime() }
            await keepMembership()
            tasks.cancelAll()
        }
    }

    /// Ends the membership; the application hears of it at its next call.
    func fail(_ error: ClientError) {
        guard failure == nil else { return }
        failure = error
        wakeAll()
    }

    private func wakeAll() {
        for alarm in [membershipAlarm, beatAlarm, commitAlarm, applicationAlarm] { alarm.ring() }
        reader.wake()
    }

    /// Whether the membership goes on.
    var isLiving: Bool {
        stage == .open && failure == nil
    }

    // MARK: Turns

    /// Whether the application has not asked for records for too long.
    var isStalled: Bool {
        isApplicationBusy && .now - lastPull > configuration.maximumPollInterval
    }

    /// Waits until the application asks for records, and keeps them back; false when the membership ends before that.
    func takeTurn() async -> Bool {
        precondition(!isTurnTaken, "turns are given back")
        isTurnWanted = true
        defer { isTurnWanted = false }
        while isApplicationBusy, isLiving { await membershipAlarm.wait() }
        guard isLiving else { return false }
        isTurnTaken = true
        return true
    }

    /// Lets records through again.
    func giveTurn() {
        isTurnTaken = false
        applicationAlarm.ring()
    }

    // MARK: Shares

    /// Makes partitions this member's own; reading them begins with `readArrived()`.
    func own(
        _ partitions: [NamedPartition: TopicID],
        from starts: [NamedPartition: Offset],
        committed: Set<NamedPartition>
    ) {
        ticketCount += 1
        progress.begin(starts, committed: committed, ticket: ticketCount)
        owned.merge(partitions) { $1 }
        arriving.formUnion(partitions.keys)
    }

    /// Begins to read what has arrived, and reads again what was not read because its topic was gone.
    func readArrived() async {
        let starts = progress.delivered.filter { arriving.contains($0.key) }
        arriving = []
        if !starts.isEmpty { await reader.assign(starts, ticket: ticketCount) }
        let topics = missingTopics
        missingTopics = []
        for partition in owned.keys
        where topics.contains(partition.topic) && !paused.contains(partition) {
            await reader.resume(partition)
        }
    }

    /// Stops to read partitions; they stay this member's until they are given up.
    func stopReading(_ partitions: Set<NamedPartition>) async {
        paused.subtract(partitions)
        arriving.subtract(partitions)
        await reader.drop(partitions)
    }
}
