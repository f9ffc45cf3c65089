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
    private unowned let shard: Shard
    private let machine: ControllerMachine
    private let facts: StartupFacts
    private var toldIndex: LogIndex?
    private var waiting: [() -> Void] = []
    private var removed: [TopicID: Set<GroupID>] = [:]
    private var isTaking = false

    /// The metadata log's replica on any broker; there is one creation of it for each broker's incarnation.
    static func group() -> GroupID {
        GroupID(partition: .clusterMetadata, epoch: CreationEpoch(0))
    }

    init(shard: Shard, facts: StartupFacts) throws(ReplicationError) {
        self.shard = shard
        self.facts = facts
        machine = ControllerMachine(random: shard.splitRandom())
        let group = Self.group()
        let member = GroupMember(broker: shard.settings.broker, epoch: group.epoch)
        let recovered = facts.replicas[group]
        replica = try Replica(
            group: group,
            member: member,
            log: shard.openLog(group, recovered, LogConfiguration()),
            hardState: recovered?.hardState ?? .initial,
            membership: Membership(voters: [member], learners: []),
            journalEnd: recovered?.journalEnd ?? .zero,
            isElectable: recovered?.isElectable ?? true,
            machine: machine,
            settings: Settings(),
            seed: shard.random.next(),
            host: shard
        )
        writer = SegmentWriter(replica: replica)
    }

    // MARK: Life

    func leadershipChanged() {
        guard replica.isServing else {
            isTaking = false
            return
        }
        establishCluster()
    }

    func committed() {
        shard.noteCommitted(writer)
        guard toldIndex != machine.controller.image.appliedIndex else { return }
        toldIndex = machine.controller.image.appliedIndex
        // Before the own term start is applied the image may lack what is committed: nothing is served from it.
        if replica.isServing { tell() }
    }

    /// Makes the cluster on the first start, and tells it where this broker is.
    private func establishCluster() {
        do throws(Refusal) {
            try propose(machine.controller.initialiseCluster(format: Self.clusterFormat)) { _ in }
            try propose(machine.controller.registerBroker(facts.registration)) {
                [unowned self] result in
                guard case .success = result else { return }
                self.tell()
                self.isTaking = true
                let commands = self.waiting
                self.waiting.removeAll()
                for command in commands { command() }
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

    // MARK: Commands

    /// Decides a command and answers when what it changed is committed and applied.
    func perform(_ command: MetadataCommand, then completion: @escaping (MetadataReply) -> Void) {
        guard isTaking else {
            guard waiting.count < Self.waitingLimit else {
                return completion(
                    .refused(
                        Refusal(.coordinatorLoadInProgress, "the metadata is being read; try again")
                    )
                )
            }
            waiting.append { [unowned self] in self.perform(command, then: completion) }
            return
        }
        do throws(Refusal) {
            try decide(command, then: completion)
        } catch {
            completion(.refused(error))
        }
    }

    /// Commands that may wait while the metadata log has no leader yet.
    static let waitingLimit = 10_000

    private func decide(
        _ command: MetadataCommand,
        then completion: @escaping (MetadataReply) -> Void
    ) throws(Refusal) {
        switch command {
        case .createTopics(let requests, let validateOnly):
            let defaults = BrokerConfig(layers: shard.layers).topicDefaults
            let decision = try machine.controller.createTopics(
                requests,
                defaults: defaults,
                validateOnly: validateOnly
            )
            settle(decision, .topics(decision.outcomes), completion)
        case .deleteTopics(let references):
            let decision = try machine.controller.deleteTopics(references)
            settle(decision, .deletions(decision.outcomes), completion)
        case .createPartitions(let requests, let validateOnly):
            let decision = try machine.controller.createPartitions(
                requests,
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
        case .allocateProducerIDs:
            let decision = try machine.controller.allocateProducerIDs(for: shard.settings.broker)
            settle(decision, .producerIDs(decision.outcomes[0]), completion)
        case .replicaRemoved(let group):
            try confirm(group, then: completion)
        }
    }

    /// A topic is confirmed as deleted when this broker's last replica of it is gone.
    private func confirm(_ group: GroupID, then completion: @escaping (MetadataReply) -> Void)
        throws(Refusal)
    {
        let topic = group.partition.topic
        removed[topic, default: []].insert(group)
        let remaining = machine.controller.image.replicasToDelete(on: shard.settings.broker).filter
        { other in
            other.partition.topic == topic && removed[topic]?.contains(other) != true
        }
        guard remaining.isEmpty else { return completion(.done) }
        removed[topic] = nil
        let decision = try machine.controller.confirmReplicaDeletion(
            of: topic,
            on: shard.settings.broker
        )
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

/// The controller as the state machine of the metadata log.
final class ControllerMachine: ReplicatedStateMachine {
    var controller: Controller
    private let random: SeededRandom

    init(random: SeededRandom) {
        self.random = random
        controller = Controller(random: random)
    }

    func restore(_ snapshot: ByteBuffer) throws(ReplicationError) {
        guard snapshot.readableBytes > 0 else { return }
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
