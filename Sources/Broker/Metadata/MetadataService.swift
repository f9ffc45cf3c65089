import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// The metadata log's replica on shard 0: decides commands, appends what they mean, and tells all shards what holds.
final class MetadataService {
    let replica: Replica
    let writer: SegmentWriter
    unowned let shard: Shard
    let machine: ControllerMachine
    private let facts: StartupFacts
    private let relay: CommandRelay
    private var toldIndex: LogIndex?
    private var waiting: [WaitingCommand] = []
    var indexWaiters: [IndexWaiter] = []
    /// Who waits until this broker's disk has the metadata up to an index.
    var durabilityWaiters: [(index: LogIndex, action: () -> Void)] = []
    var wholenessWaiters: [() -> Void] = []
    /// Where the log ended when a leader had confirmed it for the first time.
    var confirmedEnd: LogIndex?
    /// Replicas of deleted topics whose brokers have said that they are gone, until the last of a broker's is.
    private var removed: [RemovedTopic: Set<GroupID>] = [:]
    private(set) var isTaking = false
    private var isRegistering = false
    /// The leader's part in changing the metadata group.
    private var guide = MovementState()
    private let balancer: Balancer

    /// A command that waits for a leader.
    private struct WaitingCommand {
        var deadline: Instant
        var command: MetadataCommand
        var completion: (MetadataReply) -> Void
    }

    /// Somebody who waits until this broker has applied the metadata up to an index.
    struct IndexWaiter {
        var index: LogIndex
        var deadline: Instant
        var action: () -> Void
    }

    init(shard: Shard, facts: StartupFacts) throws(ReplicationError) {
        self.shard = shard
        self.facts = facts
        relay = CommandRelay(shard: shard)
        balancer = Balancer(shard: shard)
        machine = ControllerMachine(random: shard.splitRandom())
        let member = shard.settings.metadataMember
        let group = GroupID(partition: .clusterMetadata, epoch: member.epoch)
        let recovered = facts.replicas[group]
        replica = try Replica(
            group: group,
            member: member,
            log: shard.openLog(group, recovered, LogConfiguration()),
            hardState: recovered?.hardState ?? .initial,
            membership: Membership(voters: shard.settings.metadataFounders.map(\.member)),
            journalEnd: recovered?.journalEnd ?? .zero,
            isElectable: recovered?.isElectable ?? true,
            machine: machine,
            settings: shard.metadataGroupSettings,
            seed: shard.random.next(),
            host: shard
        )
        writer = SegmentWriter(replica: replica)
    }

    // MARK: Life

    /// Begins to take part in the group.
    ///
    /// What segments hold is committed, so in a cluster it is told without waiting for a leader's word: after a clean stop
    /// nothing may follow it for long.
    func start() {
        replica.start()
        shard.lookForDamage(in: replica)
        if shard.settings.isClustered, machine.controller.image.clusterID != nil { committed() }
    }

    /// The group's leader changed, or this broker serves as the leader from now on.
    func leadershipChanged() {
        if replica.isServing { return establishCluster() }
        isTaking = false
        retryWaiting()
        ensureRegistered()
    }

    func committed() {
        shard.noteCommitted(writer)
        settleDurabilityWaiters()
        guard toldIndex != machine.controller.image.appliedIndex else { return }
        toldIndex = machine.controller.image.appliedIndex
        // Alone, before the own term start is applied, the image may lack what is committed: nothing is served from it.
        // In a cluster a follower is always a little behind.
        guard replica.isServing || shard.settings.isClustered else { return }
        tell()
        settleIndexWaiters()
        settleWholenessWaiters()
        ensureRegistered()
    }

    /// One unit of Raft's time has passed.
    func tick() {
        if !replica.isQuiet { replica.tick() }
        let now = shard.environment.clock.now
        let late = waiting.filter { $0.deadline <= now }
        waiting.removeAll { $0.deadline <= now }
        for command in late {
            command.completion(
                .refused(
                    Refusal(.requestTimedOut, "no broker leads the cluster's metadata; try again")
                )
            )
        }
        settleIndexWaiters()
        settleDurabilityWaiters()
        settleWholenessWaiters()
        guard isTaking, shard.settings.isClustered else { return balancer.pause() }
        guideGroup()
        balancer.tick(machine.controller.image)
    }

    /// The leader's next step from the members that the group has to those that it should have.
    ///
    /// Its image is new enough: it leads, so it has applied what was committed at its election.
    private func guideGroup() {
        let now = shard.environment.clock.now
        guard !guide.isWaiting, guide.pauseEnd <= now else { return }
        let step = GroupGuide.step(
            from: replica.groupFact,
            to: machine.controller.image.metadataWish
        ) { replica.isCaughtUp($0, now: now) }
        guard case .change(let voters, let learners) = step else { return }
        guide.isWaiting = true
        replica.changeMembership(voters: voters, learners: learners) { [unowned self] result in
            self.guide.isWaiting = false
            guard case .failure = result else { return }
            self.guide.pauseEnd = self.shard.environment.clock.now + Self.guidePause
        }
    }

    /// How long after a refused change of the group the next attempt waits.
    private static let guidePause = Duration.milliseconds(500)

    /// A broker stopped answering, or answers again.
    func peersChanged() {
        if let leader = replica.leader?.broker, !shard.isReachable(leader) { relay.lost(leader) }
        retryWaiting()
        ensureRegistered()
    }

    /// Makes the cluster on the first start, and tells it where this broker is.
    private func establishCluster() {
        do throws(Refusal) {
            try propose(
                machine.controller.initialiseCluster(
                    format: Self.clusterFormat,
                    founders: shard.settings.isClustered ? shard.settings.metadataFounders : []
                )
            ) { _ in }
            try propose(machine.controller.registerBroker(facts.registration, isOtherAlive: false))
            {
                [unowned self] result in
                guard case .success = result else { return }
                self.tell()
                self.isTaking = true
                self.retryWaiting()
            }
        } catch {
            shard.environment.log(
                .retrying(what: "registration of this broker", description: error.message)
            )
        }
    }

    private func tell() {
        let update = MetadataUpdate(image: machine.controller.image)
        for other in 0..<shard.settings.shardCount where other != shard.index {
            shard.environment.post(.image(update), to: other)
        }
        shard.apply(update)
    }

    /// The version of the data formats that a new cluster begins with.
    static let clusterFormat: UInt16 = 1

    // MARK: The controller on another broker

    /// The broker to send commands to; nil while none is known, or while it is this one.
    private var remoteLeader: BrokerID? {
        guard let leader = replica.leader?.broker, leader != shard.settings.broker,
            shard.isReachable(leader)
        else { return nil }
        return leader
    }

    /// Tells the cluster where this broker is, as which incarnation, until the metadata says so.
    private func ensureRegistered() {
        let image = machine.controller.image
        let known = image.brokers[shard.settings.broker]
        guard shard.settings.isClustered, !isRegistering, !isTaking, remoteLeader != nil,
            image.clusterID != nil, known != facts.registration
        else { return }
        // Else somebody took this broker out of the cluster, and it does not come back by itself.
        guard image.metadataMembers[shard.settings.broker]?.epoch == replica.member.epoch else {
            return
        }
        isRegistering = true
        perform(.registerBroker(facts.registration)) { [unowned self] reply in
            guard case .refused(let refusal) = reply else {
                self.isRegistering = false
                return
            }
            self.shard.environment.log(
                .retrying(what: "registration of this broker", description: refusal.message)
            )
            self.shard.schedule(after: Self.registrationDelay) { [unowned self] in
                self.isRegistering = false
                self.ensureRegistered()
            }
        }
    }

    /// The time between two attempts to register.
    private static let registrationDelay = Duration.milliseconds(500)

    /// Another broker sends a command, believing that this one leads.
    func answer(_ command: ByteBuffer, number: UInt64, from broker: BrokerID) {
        let respond = { [unowned self] (reply: MetadataReply) in
            self.respond(reply, to: number, of: broker)
        }
        guard isTaking else {
            return respond(
                .refused(
                    Refusal(.notController, "this broker does not lead the metadata; ask again")
                )
            )
        }
        do throws(CoordinationError) {
            let command = try MetadataCommand(decoding: command)
            run(command, for: broker, then: respond)
        } catch {
            respond(.refused(Refusal(.invalidRequest, "a command that cannot be read: \(error)")))
        }
    }

    private func respond(_ reply: MetadataReply, to number: UInt64, of broker: BrokerID) {
        do throws(CoordinationError) {
            let news = PeerNews.reply(
                number: number,
                appliedIndex: machine.controller.image.appliedIndex,
                try reply.encoded()
            )
            shard.sendToPeer(news.message, broker)
        } catch {
            shard.environment.log(
                .retrying(what: "answer to broker \(broker)", description: error.description)
            )
        }
    }

    /// The brokers that are alive, and in which life; nil while nobody knows.
    private var liveBrokers: [BrokerID: BrokerIncarnation]? {
        shard.settings.isClustered ? shard.liveBrokers : nil
    }

    /// The answer to a command of this broker came.
    func take(_ reply: ByteBuffer, number: UInt64, appliedIndex: LogIndex) {
        relay.take(reply, number: number, appliedIndex: appliedIndex)
    }

    // MARK: Commands

    /// Has a command decided, here or by the broker that leads, and answers when what it changed is committed and
    /// applied here.
    ///
    /// `patience`: how long it may wait for a leader, or for that one's answer.
    func perform(
        _ command: MetadataCommand,
        within patience: Duration = CommandRelay.timeout,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        if isTaking { return run(command, for: shard.settings.broker, then: completion) }
        if let remoteLeader {
            return relay.send(command, to: remoteLeader, within: patience) {
                [unowned self] reply, index in
                self.after(index) { self.afterAllShards { completion(reply) } }
            }
        }
        guard waiting.count < Self.waitingLimit else {
            return completion(
                .refused(
                    Refusal(.coordinatorLoadInProgress, "the metadata is being read; try again")
                )
            )
        }
        waiting.append(
            WaitingCommand(
                deadline: shard.environment.clock.now + patience,
                command: command,
                completion: completion
            )
        )
    }

    /// Commands that may wait while the metadata log has no leader yet.
    static let waitingLimit = 10_000

    /// Commands that wait.
    var waitingCount: Int { waiting.count }

    private func retryWaiting() {
        guard isTaking || remoteLeader != nil, !waiting.isEmpty else { return }
        let commands = waiting
        waiting.removeAll()
        let now = shard.environment.clock.now
        for each in commands {
            perform(each.command, within: each.deadline - now, then: each.completion)
        }
    }

    /// Decides a command of a broker; only the leader does.
    private func run(
        _ command: MetadataCommand,
        for broker: BrokerID,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        do throws(Refusal) {
            try decide(command, from: broker, then: completion)
        } catch {
            completion(.refused(error))
        }
    }

    private func decide(
        _ command: MetadataCommand,
        from broker: BrokerID,
        then completion: @escaping (MetadataReply) -> Void
    ) throws(Refusal) {
        switch command {
        case .createTopics, .deleteTopics, .createPartitions, .incrementalAlterConfigs,
            .alterConfigs:
            try decideOnTopics(command, then: completion)
        case .allocateProducerIDs:
            let decision = try machine.controller.allocateProducerIDs(for: broker)
            settle(decision, .producerIDs(decision.outcomes[0]), completion)
        case .replicaRemoved(let group):
            try confirm(group, on: broker, then: completion)
        case .alterReassignments(let requests, let allowsChange):
            let decision = try machine.controller.alterReassignments(
                requests,
                allowsReplicationFactorChange: allowsChange
            )
            settle(decision, .reassignments(decision.outcomes), completion)
        case .finishMovement(let partition, let revision):
            let decision = try machine.controller.finishMovement(of: partition, revision: revision)
            settle(decision, .done, completion)
        case .renewReplica(let member, let partition):
            let decision = try machine.controller.renewReplica(member, of: partition)
            settle(decision, .member(decision.outcomes[0]), completion)
        case .registerBroker, .setBrokerState, .unregisterBroker, .setFeatureLevel:
            try decideOnCluster(command, then: completion)
        case .readIndex: answerReadIndex(then: completion)
        case .describeQuorum:
            completion(.quorum(quorum))
        case .findMember(let broker, let index):
            findMember(of: broker, appliedIndex: index, then: completion)
        }
    }

    private func decideOnTopics(
        _ command: MetadataCommand,
        then completion: @escaping (MetadataReply) -> Void
    ) throws(Refusal) {
        switch command {
        case .createTopics(let requests, let validateOnly):
            let decision = try machine.controller.createTopics(
                requests,
                defaults: BrokerConfig(layers: shard.layers).topicDefaults,
                liveBrokers: liveIDs,
                validateOnly: validateOnly
            )
            settle(decision, .topics(decision.outcomes), completion)
        case .deleteTopics(let references):
            let decision = try machine.controller.deleteTopics(references)
            settle(decision, .deletions(decision.outcomes), completion)
        case .createPartitions(let requests, let validateOnly):
            let decision = try machine.controller.createPartitions(
                requests,
                liveBrokers: liveIDs,
                validateOnly: validateOnly
            )
            settle(decision, .topics(decision.outcomes), completion)
        case .incrementalAlterConfigs(let alterations, let validateOnly):
            let decision = try machine.controller.incrementalAlterConfigs(
                alterations,
                validateOnly: validateOnly
            )
            settle(decision, .configs(decision.outcomes), completion)
        case .alterConfigs(let replacements, let validateOnly):
            let decision = try machine.controller.alterConfigs(
                replacements,
                validateOnly: validateOnly
            )
            settle(decision, .configs(decision.outcomes), completion)
        case .allocateProducerIDs, .replicaRemoved, .registerBroker, .alterReassignments,
            .finishMovement, .renewReplica, .setBrokerState, .unregisterBroker, .setFeatureLevel,
            .readIndex, .describeQuorum, .findMember:
            preconditionFailure("decided by the caller")
        }
    }

    private func decideOnCluster(
        _ command: MetadataCommand,
        then completion: @escaping (MetadataReply) -> Void
    ) throws(Refusal) {
        switch command {
        case .registerBroker(let registration):
            let life = liveBrokers?[registration.id]
            let decision = try machine.controller.registerBroker(
                registration,
                isOtherAlive: life.map { $0 != registration.incarnation } ?? false
            )
            settle(decision, .registered(decision.outcomes[0]), completion)
        case .setBrokerState(let broker, let state, let allowsPartial):
            let decision = try machine.controller.setBrokerState(
                broker,
                state,
                liveBrokers: liveIDs,
                allowsPartial: allowsPartial
            )
            settle(decision, .done, completion)
        case .unregisterBroker(let broker):
            let decision = try machine.controller.unregisterBroker(broker, liveBrokers: liveIDs)
            settle(decision, .done, completion)
        case .setFeatureLevel(let level, let validateOnly):
            let decision = try machine.controller.setFeatureLevel(level, validateOnly: validateOnly)
            settle(decision, .done, completion)
        case .createTopics, .deleteTopics, .createPartitions, .incrementalAlterConfigs,
            .alterConfigs, .allocateProducerIDs, .replicaRemoved, .alterReassignments,
            .finishMovement, .renewReplica, .readIndex, .describeQuorum, .findMember:
            preconditionFailure("decided by the caller")
        }
    }

    /// The brokers that are alive; nil while nobody knows.
    private var liveIDs: Set<BrokerID>? {
        liveBrokers.map { Set($0.keys) }
    }

    /// A replica that left its group is confirmed by itself, a deleted topic when the broker's last replica of it is gone.
    private func confirm(
        _ group: GroupID,
        on broker: BrokerID,
        then completion: @escaping (MetadataReply) -> Void
    ) throws(Refusal) {
        let image = machine.controller.image
        let replica = RemovedReplica(
            member: GroupMember(broker: broker, epoch: group.epoch),
            partition: group.partition
        )
        guard image.removedReplicas[replica] == nil else {
            let decision = try machine.controller.confirmReplicaRemoval(replica)
            return settle(decision, .done, completion)
        }
        let topic = RemovedTopic(topic: group.partition.topic, broker: broker)
        removed[topic, default: []].insert(group)
        let remaining = image.deletedTopics[topic.topic]?.replicas(on: broker).filter {
            removed[topic]?.contains($0) != true
        }
        guard remaining?.isEmpty ?? true else { return completion(.done) }
        removed[topic] = nil
        let decision = try machine.controller.confirmReplicaDeletion(of: topic.topic, on: broker)
        settle(decision, .done, completion)
    }

    private func settle<Outcome>(
        _ decision: Decision<Outcome>,
        _ reply: MetadataReply,
        _ completion: @escaping (MetadataReply) -> Void
    ) {
        propose(decision) { [unowned self] result in
            switch result {
            case .success:
                self.afterAllShards { completion(reply) }
            case .failure(let error):
                completion(.refused(Refusal(.requestTimedOut, error.description)))
            }
        }
    }

    /// Goes on when every shard has taken in the present image, so that a change is seen on every connection once it is
    /// answered on one.
    private func afterAllShards(_ action: @escaping () -> Void) {
        let others = (0..<shard.settings.shardCount).filter { $0 != shard.index }
        let gathering = Gathering<Void>(count: others.count) { _ in action() }
        for (place, other) in others.enumerated() {
            shard.ask(other, .barrier) { _ in gathering.put((), at: place) }
        }
        gathering.finishIfComplete()
    }

    private func propose<Outcome>(
        _ decision: Decision<Outcome>,
        then completion: @escaping (Result<Void, ReplicationError>) -> Void
    ) {
        guard !decision.records.isEmpty else { return completion(.success(())) }
        let batch = MetadataBatch.batch(of: decision.records, at: shard.environment.clock.wallTime)
        let proposal = Proposal(.batch(batch), durability: .quorum) { [unowned self] result in
            // What was decided on top of this rests on it, and is refused with it.
            if case .failure = result { self.machine.controller.proposalFailed(decision.number) }
            completion(result.map { _ in () })
        }
        replica.propose(proposal)
    }
}

/// A deleted topic on one broker.
private struct RemovedTopic: Hashable {
    var topic: TopicID
    var broker: BrokerID
}

/// The controller as the state machine of the metadata log.
final class ControllerMachine: ReplicatedStateMachine {
    var controller: Controller
    private let random: SeededRandom

    init(random: SeededRandom) {
        self.random = random
        controller = Controller(random: random)
    }

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        guard snapshot.readableBytes > 0 else {
            controller = Controller(random: random)
            return
        }
        do throws(CoordinationError) {
            controller = try Controller(snapshot: snapshot, random: random)
        } catch {
            throw .unusableEntry(index: .zero, description: error.description)
        }
    }

    func apply(_ entry: LogEntry) throws(ReplicationError) {
        let index = entry.frame.index
        guard entry.frame.kind == .data else { return controller.skip(to: index) }
        let records = try MetadataBatch.records(in: entry)
        do throws(CoordinationError) {
            try controller.apply(records, at: index)
        } catch {
            throw .unusableEntry(index: index, description: error.description)
        }
    }

    func snapshot() -> ByteBuffer { controller.snapshot() }

    func leadershipBegan() { controller.becomeLeader() }

    func leadershipEnded() { controller.stepDown() }
}
