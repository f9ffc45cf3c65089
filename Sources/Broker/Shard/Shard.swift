package import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRaft
import FlotillaRecords
package import FlotillaReplication
package import FlotillaStorage

/// One event loop's part of the broker: the connections it accepted and the partitions that live on it.
///
/// Everything here is called on the shard's loop, one call at a time. Inputs change state and queue output; the end of
/// the turn proposes what was queued, hands the journal its records and sends the answers, each once for the whole
/// turn.
package final class Shard {
    /// The shard's number, from 0; shard 0 also holds the metadata log.
    package let index: Int
    package let settings: ShardSettings
    let environment: any ShardEnvironment
    let resources: LogResources

    /// The cluster as this shard knows it.
    package private(set) var image = MetadataImage()
    private(set) var config: BrokerConfig
    var leadership = Leadership()
    var sessions: FetchSessionCache
    var producerIDs = ProducerIDAllocator()
    var random: SeededRandom

    var partitions = PartitionTable()
    /// The partitions that want to be called at each tick; see `Shard.wake(_:)`.
    var awakePartitions: [Partition] = []
    /// Replicas that are closed since the metadata give them to this broker no more, until they are deleted.
    var retired: [GroupID: Partition] = [:]
    /// Replicas that are being deleted, until the metadata have taken them off their list.
    var removals: [GroupID: Removal] = [:]
    /// Those of them that are on no list, since this broker had told before that they are gone.
    var unlistedRemovals: Set<GroupID> = []
    var metadata: MetadataService?
    var peers: PeerTable
    /// Segments on their way to other brokers and from them.
    private(set) lazy var shipping = Shipping(shard: self)
    /// What the disk holds of replicas that the metadata has not named yet; it may name them later.
    var recovered: [GroupID: RecoveredReplica] = [:]
    /// Replicas that lost their votes and wait to be replaced, with why that was last refused.
    var renewals: [GroupID: String] = [:]
    /// What the disk holds and cannot be opened.
    private(set) var unreadable: Set<GroupID> = []
    /// Whether the metadata here may be older than what this broker acted upon before it ended.
    var isCatchingUp = false
    /// Replicas of which the disk holds nothing, and may have held something.
    var forgotten: Set<GroupID> = []
    /// Whether this broker has outlived its cluster, and went on in one of its own since it started.
    var isSurvivor = false
    var isStartupFinished = false
    private var isStarted = false

    var timers = TimerQueue()
    private var calls = PendingCalls()
    /// What other shards asked and may take back, by (shard, id).
    var cancellations: [ForeignCall: () -> Void] = [:]
    var imageWaiters: [ImageWaiter] = []
    var leadershipNews: [LeadershipUpdate] = []

    var journalOutbox: [JournalSubmission] = []
    private var dirtyReplicas: [Replica] = []
    /// Replicas whose members are to hear of commits a moment later.
    private var commitNews: [Replica] = []
    private var dirtyConnections: [Connection] = []
    private var pausedConnections: [Connection] = []
    package private(set) var inFlightByteCount = 0
    private(set) var openConnectionCount = 0
    private(set) var isVolumeFull = false
    private(set) var isJournalFull = false
    var isStopping = false

    /// Counters for the metrics page.
    var counters = ShardStatistics()
    /// What the journal wants of replicas that are not open (yet).
    var unmetDemands: [GroupID: JournalDemand.Item] = [:]
    private var reportedDamage: Set<String> = []
    /// Bytes of batches that wait to be admitted; they count here even when their request has been answered by its timeout.
    var waitingByteCount = 0
    /// Partitions with committed entries that segments lack.
    var segmentQueue: [SegmentWriter] = []
    var produceDeadlines = ProduceDeadlines()
    var producerIDWaiters: [(Result<ProducerID, Refusal>) -> Void] = []
    var nextWatchID: UInt64 = 0
    /// The room on the disk when it was last looked at.
    var space: DiskSpace?
    /// The bytes that this shard may still accept before it looks again.
    var acceptableByteCount = Int64.max
    /// When the room was last looked at.
    var spaceTime = Instant.start
    /// Whether batches wait for a look at the room.
    var isLookingAtSpace = false
    /// Who heals this shard's replicas, and who looks for damage.
    private(set) lazy var healer = Healer(shard: self)
    private lazy var scrubber = Scrubber(shard: self)
    let compressor = Compressor()
    let decompressor = Decompressor()

    /// Puts a shard together; `start(_:)` opens its partitions.
    package init(
        index: Int,
        settings: ShardSettings,
        environment: any ShardEnvironment,
        disk: any Disk
    ) {
        self.index = index
        self.settings = settings
        self.environment = environment
        var random = SeededRandom(seed: settings.seed &+ UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
        config = BrokerConfig(layers: settings.layers)
        sessions = FetchSessionCache(
            slotCount: max(1, config.fetchSessionSlotCount / settings.shardCount),
            random: SeededRandom(seed: random.next())
        )
        peers = PeerTable(monitor: PeerMonitor(incarnation: settings.incarnation))
        self.random = random
        resources = LogResources(
            disk: disk,
            tail: TailBudget(byteCount: settings.tailByteCount),
            segments: SegmentCache(maximumOpenCount: settings.openSegmentLimit)
        )
    }

    // MARK: Life

    /// Begins to serve what this shard holds.
    ///
    /// Partitions follow once the metadata is known.
    ///
    /// - Parameter facts: what the journal and the data directory hold of this shard's replicas.
    package func start(_ facts: StartupFacts) {
        recovered = facts.replicas
        unreadable = facts.unreadable
        isStarted = true
        isCatchingUp = true
        if index == 0 { openMetadata(facts) }
        catchUp(mayHaveForgotten: facts.mayHaveForgotten)
        startHousekeeping()
        startPeers()
        scrubber.start()
        environment.requestTurnEnd()
    }

    /// Opens the metadata's replica; a log that cannot be opened is left as it is, and no empty one takes its place.
    private func openMetadata(_ facts: StartupFacts) {
        let group = GroupID(partition: .clusterMetadata, epoch: settings.metadataMember.epoch)
        guard !facts.unreadable.contains(group) else { return }
        guard !settings.isClustered || facts.replicas[group]?.hasLostVote != true else {
            return environment.log(.damaged(group, description: "its vote is lost"))
        }
        do throws(ReplicationError) {
            let service = try MetadataService(shard: self, facts: facts)
            metadata = service
            service.start()
        } catch {
            environment.log(.damaged(group, description: error.description))
        }
    }

    /// The partitions in a fixed order.
    var allPartitions: [Partition] { partitions.ordered }

    /// A partition that lives here.
    func partition(_ id: TopicPartition) -> Partition? {
        partitions[id]
    }

    /// Whether the metadata is known here, and the partitions that it names are open.
    package var knowsMetadata: Bool { image.clusterID != nil && isStartupFinished }

    /// The cluster, once it is known.
    package var clusterID: String? { image.clusterID }

    /// Shard 0: whether a leader of the metadata speaks to this broker; without one it may not belong to the cluster any more.
    package var hearsMetadataLeader: Bool {
        guard settings.isClustered else { return true }
        guard let leader = metadata?.replica.leader else { return false }
        return isReachable(leader.broker)
    }

    /// Up to where this shard has taken in the metadata.
    package var metadataIndex: LogIndex { image.appliedIndex }

    /// The other brokers, as far as this one knows.
    package var peerAddresses: [PeerAddress] { peers.addresses }

    /// Why the metadata's log here will never be of use; nil where it is, or where another broker can tell what it lacks.
    package var metadataObstacle: String? {
        guard index == 0 else { return nil }
        guard let replica = metadata?.replica else { return "its log cannot be used" }
        guard !replica.isElectable, replica.membership.allMembers == [replica.member] else {
            return nil
        }
        return "its log may lack what it acknowledged"
    }

    /// What keeps the shard from serving all that lives here, in words; nil when nothing does.
    package var whatIsMissing: String? {
        guard knowsMetadata else { return whyMetadataIsUnknown }
        let waiting = allPartitions.filter { $0.hint.leader < 0 }
        let absent = image.replicas(on: settings.broker).filter { local in
            settings.shard(of: local.group.partition) == index
                && partitions[local.group.partition] == nil
        }
        let missing = whatIsMissing(leaderless: waiting.map(\.id), absent: absent.map(\.group))
        return whyOutside ?? missing ?? whatIsLost
    }

    /// Counters since the start, and what the shard holds now.
    package var statistics: ShardStatistics {
        var statistics = counters
        statistics.partitionCount = allPartitions.count
        statistics.leaderlessCount = allPartitions.count { $0.hint.leader < 0 }
        statistics.unansweredByteCount = inFlightByteCount
        statistics.catchingUpCount = shipping.catchingUpCount
        statistics.damagedRangeCount = healer.damagedRangeCount
        statistics.lostReplicaCount = healer.lost.count
        for partition in allPartitions { partition.coordinator?.count(into: &statistics) }
        return statistics
    }

    /// A random stream of its own for one of the shard's parts.
    func splitRandom() -> SeededRandom {
        SeededRandom(seed: random.next())
    }

    /// A replica's log, from what recovery found or anew.
    func openLog(
        _ group: GroupID,
        _ recovered: RecoveredReplica?,
        _ configuration: LogConfiguration
    ) -> PartitionLog {
        guard let recovered else {
            return PartitionLog.create(
                group: group,
                directory: settings.dataDirectory,
                resources: resources,
                configuration: configuration
            )
        }
        return PartitionLog(recovered.log, resources: resources, configuration: configuration)
    }

    // MARK: Messages

    /// Takes in what other shards and the journal say.
    package func receive(_ messages: [ShardMessage]) {
        environment.requestTurnEnd()
        for message in messages { receive(message) }
    }

    private func receive(_ message: ShardMessage) {
        switch message {
        case .call(let id, let origin, let call):
            answer(call, for: ForeignCall(shard: origin, id: id)) { [unowned self] reply in
                self.environment.post(.reply(id: id, reply), to: origin)
            }
        case .reply(let id, let reply):
            calls.close(id)?(reply)
        case .cancel(let id, let origin):
            cancellations.removeValue(forKey: ForeignCall(shard: origin, id: id))?()
        case .image(let update):
            apply(update)
        case .leadership(let updates):
            noteLeadership(updates)
        case .frame(let frame, let broker):
            take(frame, from: broker)
        case .link(let broker, let incarnation, let isUp):
            noteLink(broker, incarnation, isUp: isUp)
        case .peer(let broker, let change):
            note(broker, change)
        case .journal(let completions):
            for completion in completions {
                replica(completion.group)?.persisted(ticket: completion.ticket)
            }
        case .journalDemand(let demands):
            for demand in demands { meet(demand) }
        case .journalFull(let isFull):
            isJournalFull = isFull
            if !isFull { for partition in allPartitions { partition.admitWaiting() } }
        }
    }

    /// Asks the shard of some partitions; the completion runs on this shard, at once where the partitions live here.
    @discardableResult
    func ask(_ shard: Int, _ call: ShardCall, then completion: @escaping (ShardReply) -> Void)
        -> CallHandle
    {
        let id = calls.open(completion)
        if shard == index {
            answer(call, for: ForeignCall(shard: index, id: id)) { [unowned self] reply in
                self.calls.close(id)?(reply)
            }
        } else {
            environment.post(.call(id: id, from: index, call), to: shard)
        }
        return CallHandle(shard: shard, id: id)
    }

    /// Stops waiting for an answer.
    func cancel(_ handle: CallHandle) {
        guard calls.close(handle.id) != nil else { return }
        if handle.shard == index {
            cancellations.removeValue(forKey: ForeignCall(shard: index, id: handle.id))?()
        } else {
            environment.post(.cancel(id: handle.id, from: index), to: handle.shard)
        }
    }

    // MARK: Turns

    /// Called by the driver at the end of each turn that asked for it.
    package func endTurn() {
        while !dirtyReplicas.isEmpty {
            let replicas = dirtyReplicas
            dirtyReplicas.removeAll(keepingCapacity: true)
            for replica in replicas { replica.endTurn() }
        }
        if !journalOutbox.isEmpty {
            environment.submit(journalOutbox)
            journalOutbox.removeAll(keepingCapacity: true)
        }
        if !leadershipNews.isEmpty { tellLeadership() }
        flushPeers()
        let connections = dirtyConnections
        dirtyConnections.removeAll(keepingCapacity: true)
        for connection in connections { connection.flush() }
        armTimer()
    }

    /// Called by the driver at a time that `ShardEnvironment.wake(at:)` named, whether or not that is still due.
    package func runTimers() {
        environment.requestTurnEnd()
        let now = environment.clock.now
        while let action = timers.takeDue(at: now) { action() }
    }

    /// Plans something for later.
    @discardableResult
    func schedule(after delay: Duration, _ action: @escaping () -> Void) -> TimerQueue.ID {
        environment.requestTurnEnd()
        return timers.schedule(at: environment.clock.now + delay, action)
    }

    private func armTimer() {
        if let deadline = timers.nextDeadline { environment.wake(at: deadline) }
    }

    // MARK: Connections

    func connectionOpened() { openConnectionCount += 1 }

    func connectionClosed() { openConnectionCount -= 1 }

    func needsFlush(_ connection: Connection) {
        dirtyConnections.append(connection)
        environment.requestTurnEnd()
    }

    /// Whether a request waits for its answer.
    var hasUnansweredRequests: Bool { inFlightByteCount > 0 }

    /// Whether all clients of this shard together have too much in flight.
    var isOverloaded: Bool { inFlightByteCount > settings.inFlightByteLimit }

    func inFlight(changedBy byteCount: Int) {
        let wasOverloaded = isOverloaded
        inFlightByteCount += byteCount
        guard wasOverloaded, !isOverloaded else { return }
        let paused = pausedConnections
        pausedConnections.removeAll()
        for connection in paused { connection.adjustReading() }
    }

    func paused(_ connection: Connection) {
        guard isOverloaded else { return }
        pausedConnections.append(connection)
    }

    // MARK: Metadata

    func apply(_ update: MetadataUpdate) {
        precondition(isStarted, "a shard knows what the disk holds before it opens partitions")
        let earlier = image
        let changes = update.image.changes(since: earlier)
        image = update.image
        config = BrokerConfig(layers: layers)
        connectPeers()
        reconcile(changes, since: earlier)
        wakeImageWaiters()
    }

    /// The broker's settings with what was altered at run time on top.
    var layers: ConfigLayers {
        settings.layers.with(image, for: settings.broker)
    }

    private func tellLeadership() {
        let news = leadershipNews
        leadershipNews.removeAll(keepingCapacity: true)
        for shard in 0..<settings.shardCount where shard != index {
            environment.post(.leadership(news), to: shard)
        }
        // A follower knows of another's leadership; who leads says so itself.
        tellPeers(news.filter { $0.leader == settings.broker || $0.isResignation })
        noteLeadership(news)
    }

    /// Takes in who leads, and looks again at what waited for it.
    func noteLeadership(_ updates: [LeadershipUpdate]) {
        let controller = leadership.leader(of: .clusterMetadata)?.leader
        for update in updates { leadership.note(update) }
        if let leader = leadership.leader(of: .clusterMetadata)?.leader, leader != controller {
            // What was told to the former one may be lost with it.
            retryRemovals()
        }
        wakeImageWaiters()
    }

    /// What brings a replica's entries into segments; nil for a replica that does not live here.
    func segmentWriter(of group: GroupID) -> SegmentWriter? {
        if group.partition == .clusterMetadata {
            return metadata?.replica.group == group ? metadata?.writer : nil
        }
        guard let partition = partitions[group.partition], partition.replica.group == group else {
            return retired[group]?.writer
        }
        return partition.writer
    }

    /// A replica that lives here.
    func replica(_ group: GroupID) -> Replica? {
        segmentWriter(of: group)?.replica
    }

    /// Tells the operator of damage, once for each place.
    ///
    /// It is healed as well, see `Healer`.
    func report(_ error: StorageError, in group: GroupID) {
        if case .damaged = error { healer.look(at: group) }
        guard reportedDamage.count < Self.reportedDamageLimit else { return }
        guard reportedDamage.insert("\(group) \(error)").inserted else { return }
        environment.log(.damaged(group, description: error.description))
    }

    /// How many places of damage are named in the log of one shard.
    private static let reportedDamageLimit = 1_000

    func setVolumeFull(_ isFull: Bool, _ description: String) {
        guard isFull != isVolumeFull else { return }
        isVolumeFull = isFull
        environment.log(.volume(isFull: isFull, description: description))
    }
}

/// A call of another shard, for taking it back.
struct ForeignCall: Hashable {
    var shard: Int
    var id: UInt64
}

extension Shard: ReplicaHost {
    package var wallTime: Timestamp { environment.clock.wallTime }
    package var now: Instant { environment.clock.now }
    package var workers: any Workers { environment.workers }

    package func needsTurnEnd(_ replica: Replica) {
        dirtyReplicas.append(replica)
        environment.requestTurnEnd()
    }

    package func needsAnnouncement(_ replica: Replica) {
        commitNews.append(replica)
        guard commitNews.count == 1 else { return }
        schedule(after: settings.commitNewsDelay) { [unowned self] in
            let replicas = self.commitNews
            self.commitNews.removeAll(keepingCapacity: true)
            for replica in replicas { replica.announceCommit() }
        }
    }

    package func journal(_ records: [JournalRecord], of replica: Replica, ticket: UInt64) {
        journalOutbox.append(
            JournalSubmission(shard: index, group: replica.group, ticket: ticket, records: records)
        )
    }

    package var takesEntries: Bool { !isJournalFull && !isVolumeFull }

    package func membershipChanged(_ replica: Replica) {
        guard let partition = partitions[replica.group.partition] else { return }
        partition.movement.isDue = true
        // What was seen was seen of other voters.
        partition.sight = nil
        wake(partition)
    }

    package func quietChanged(_ replica: Replica) {
        guard let partition = partitions[replica.group.partition], partition.replica === replica
        else { return }
        partition.quietChanged()
    }

    package func grantsOldEntries(
        _ byteCount: Int,
        to member: GroupMember,
        from replica: Replica
    ) -> Bool {
        shipping.grants(byteCount, to: member, of: replica.group)
    }

    package func needsFiles(_ order: FileOrder, of replica: Replica) -> Bool {
        shipping.order(order, of: replica)
    }

    package func filesOffered(
        upTo position: LogPosition,
        by leader: GroupMember,
        to replica: Replica
    ) -> Bool {
        shipping.offer(upTo: position, by: leader, to: replica)
    }

    package func damaged(_ replica: Replica, _ error: StorageError) {
        report(error, in: replica.group)
    }

    package func leadershipChanged(_ replica: Replica) {
        let isOther = replica.leader != nil && !replica.isLeader
        let leader = replica.isServing ? settings.broker : isOther ? replica.leader?.broker : nil
        let known = leadership.leader(of: replica.group.partition)
        let isResignation = leader == nil && known?.leader == settings.broker
        leadershipNews.append(
            LeadershipUpdate(
                partition: replica.group.partition,
                // It resigns from the term that it led; in the one it is in now another may lead already.
                term: isResignation ? known?.term ?? replica.term : replica.term,
                leader: leader,
                isResignation: isResignation
            )
        )
        environment.requestTurnEnd()
        shipping.leadershipChanged(replica)
        if replica.isLeader {
            // It begins with the belief that all are there.
            for member in replica.membership.allMembers where !isReachable(member.broker) {
                replica.peerLost(member.broker)
            }
        }
        if replica === metadata?.replica {
            metadata?.leadershipChanged()
        } else {
            partitions[replica.group.partition]?.leadershipChanged()
        }
    }

    package func committed(_ replica: Replica) {
        if replica === metadata?.replica {
            metadata?.committed()
        } else {
            partitions[replica.group.partition]?.committed()
        }
    }

    package func failed(_ replica: Replica, _ error: ReplicationError) {
        environment.log(.damaged(replica.group, description: error.description))
        if let partition = partition(replica.group.partition), partition.replica === replica {
            partition.failed()
        }
        if case .storage(.syncFailed) = error, case .storage(let failure) = error {
            environment.fail(failure)
        }
    }
}
