import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRaft
package import FlotillaReplication
package import struct NIOCore.ByteBuffer

/// The other brokers, as one shard deals with them.
///
/// Each shard has connections of its own for what it sends. What arrives lands on any shard and goes on to the one that
/// holds the partition; what concerns no partition goes to shard 0, which also watches over the other brokers' beats and
/// tells all shards who answers.
extension Shard: PeerReceiver {
    /// The time between two units of Raft's time, and between two beats.
    static let tickInterval = Duration.milliseconds(100)

    /// Begins to keep time for groups with several members.
    func startPeers() {
        guard settings.isClustered else { return }
        connectPeers()
        scheduleTick()
    }

    // MARK: Time

    private func scheduleTick() {
        schedule(after: Self.tickInterval) { [unowned self] in
            self.tick()
            self.scheduleTick()
        }
    }

    private func tick() {
        metadata?.tick()
        tickPartitions()
        tellUntold()
        guard index == 0 else { return }
        watch(.tick(environment.clock.now))
    }

    // MARK: Connections

    /// Connects to every broker that the metadata names, and to those of the beginning that have yet to register or are not known to
    /// have been removed.
    func connectPeers() {
        guard settings.isClustered else { return }
        var addresses: [BrokerID: NetworkAddress] = [:]
        for seed in settings.seeds
        where image.clusterID == nil || image.metadataMembers[seed.broker] != nil {
            addresses[seed.broker] = seed.address
        }
        for (id, registration) in image.brokers {
            guard let endpoint = registration.endpoint(named: BrokerEndpoint.peerListener) else {
                continue
            }
            addresses[id] = endpoint.address
        }
        addresses[settings.broker] = nil
        keepLeaving(in: &addresses)
        let wanted = addresses.map { PeerAddress(broker: $0.key, address: $0.value) }.sorted {
            $0.broker < $1.broker
        }
        guard wanted != peers.addresses else { return }
        peers.addresses = wanted
        peers.untold.formIntersection(wanted.map(\.broker))
        environment.peers.setPeers(wanted)
        if index == 0 { watch(.peers(wanted.map(\.broker))) }
    }

    /// Keeps connections to brokers that were removed for a moment, and while they are members of the metadata's group.
    ///
    /// A broker may have asked for its removal itself, and waits for the answer; and a voter counts until the group has let it go.
    private func keepLeaving(in addresses: inout [BrokerID: NetworkAddress]) {
        for broker in addresses.keys { peers.leaving[broker] = nil }
        for peer in peers.addresses where addresses[peer.broker] == nil {
            let end = peers.leaving[peer.broker]
            let isOver = end.map { $0 <= now } ?? false
            guard !isOver || metadata?.replica.membership.contains(broker: peer.broker) == true
            else {
                peers.leaving[peer.broker] = nil
                continue
            }
            if end == nil || isOver {
                peers.leaving[peer.broker] = now + Self.farewell
                schedule(after: Self.farewell) { [unowned self] in self.connectPeers() }
            }
            addresses[peer.broker] = peer.address
        }
    }

    /// How long a removed broker is still spoken to; longer than an answer waits for what it tells of.
    private static let farewell = Duration.seconds(3)

    package func linkChanged(
        _ broker: BrokerID,
        incarnation: BrokerIncarnation?,
        lane: PeerLane,
        isUp: Bool
    ) {
        environment.requestTurnEnd()
        guard lane == .live else { return }
        guard index == 0 else {
            // The watch over brokers is kept in one place.
            return environment.post(
                .link(broker, incarnation: incarnation, isUp: isUp),
                to: 0
            )
        }
        noteLink(broker, incarnation, isUp: isUp)
    }

    /// Shard 0: a connection to or from a broker came or went.
    func noteLink(_ broker: BrokerID, _ incarnation: BrokerIncarnation?, isUp: Bool) {
        watch(isUp ? .linkUp(broker, incarnation) : .linkDown(broker))
    }

    /// Shard 0: sends beats and answers, and tells every shard who is lost or back.
    private func watch(_ input: PeerMonitor.Input) {
        for effect in peers.monitor.step(input) {
            switch effect {
            case .beat(let beat, let broker):
                sendToPeer(.beat(beat), broker)
            case .answer(let beat, let broker):
                sendToPeer(.beatAnswer(beat), broker)
            case .lost(let broker):
                tellShards(.peer(broker, .lost))
            case .back(let broker):
                tellShards(.peer(broker, .back))
            case .reborn(let broker):
                tellShards(.peer(broker, .reborn))
            }
        }
    }

    private func tellShards(_ message: ShardMessage) {
        for shard in 0..<settings.shardCount where shard != index {
            environment.post(message, to: shard)
        }
        if case .peer(let broker, let change) = message { note(broker, change) }
    }

    /// A broker stopped answering, answers again, or came back as another process.
    func note(_ broker: BrokerID, _ change: PeerChange) {
        switch change {
        case .lost: peers.reachable.remove(broker)
        case .back, .reborn:
            peers.reachable.insert(broker)
            peers.untold.insert(broker)
            // Else what this shard has to say to a broker that was started again could wait for a second, and with it its
            // votes.
            environment.peers.dialNow(broker)
        }
        tellUntold()
        for replica in allReplicas where replica.membership.contains(broker: broker) {
            switch change {
            case .lost: replica.peerLost(broker)
            case .back: replica.peerBack(broker)
            case .reborn:
                replica.peerLost(broker)
                replica.peerBack(broker)
            }
        }
        for partition in allPartitions {
            partition.lookAtReplicas()
            if change != .back { partition.lost(broker) }
        }
        if change != .back { healer.giveUp(on: broker) }
        if change != .lost {
            healer.peerCame(broker)
            wakeImageWaiters()
        }
        if change != .back {
            peers.transfers.lost(broker)
            peers.questions.lost(broker)
        }
        if change == .reborn { shipping.reborn(broker) }
        metadata?.peersChanged()
    }

    /// Whether a broker answers; this one does.
    func isReachable(_ broker: BrokerID) -> Bool {
        broker == settings.broker || peers.reachable.contains(broker)
    }

    /// Shard 0: the brokers that answer, this one among them, and in which life.
    var liveBrokers: [BrokerID: BrokerIncarnation] {
        var live = [settings.broker: settings.incarnation]
        for broker in peers.monitor.present {
            live[broker] = peers.monitor.incarnation(of: broker)
        }
        return live
    }

    /// The replicas that take part here, the metadata's among them.
    package var allReplicas: [Replica] {
        var replicas: [Replica] = []
        replicas.reserveCapacity(allPartitions.count + 1)
        if let metadata { replicas.append(metadata.replica) }
        for partition in allPartitions { replicas.append(partition.replica) }
        return replicas
    }

    // MARK: Sending

    /// Queues a message; it leaves at the end of the turn.
    ///
    /// - Returns: false when it was dropped: this shard's connection is down, or takes no more.
    @discardableResult
    func sendToPeer(_ message: PeerMessage, _ broker: BrokerID, on lane: PeerLane = .live) -> Bool {
        guard environment.peers.send(message.encoded(), to: broker, on: lane) else { return false }
        peers.hasOutput = true
        environment.requestTurnEnd()
        return true
    }

    /// Hands what the turn has queued to the sockets.
    func flushPeers() {
        guard peers.hasOutput else { return }
        peers.hasOutput = false
        environment.peers.flush()
    }

    package func send(
        _ envelope: RaftEnvelope,
        to broker: BrokerID,
        on lane: PeerLane,
        from replica: Replica
    ) {
        sendToPeer(.raft(envelope), broker, on: lane)
    }

    // MARK: Receiving

    package func received(_ frame: ByteBuffer, from broker: BrokerID) throws {
        environment.requestTurnEnd()
        let owner = PeerMessage.destination(of: frame).map { settings.shard(of: $0) } ?? 0
        guard owner == index else {
            return environment.post(.frame(frame, from: broker), to: owner)
        }
        take(try PeerMessage(decoding: frame), from: broker)
    }

    /// Takes in a frame that arrived on another shard.
    ///
    /// One that cannot be read is dropped: its sender repeats what matters, and Raft stands a lost message.
    func take(_ frame: ByteBuffer, from broker: BrokerID) {
        do throws(PeerWireError) {
            take(try PeerMessage(decoding: frame), from: broker)
        } catch {
            counters.peerFramesRefused += 1
            environment.log(
                .retrying(what: "message of broker \(broker)", description: error.description)
            )
        }
    }

    private func take(_ message: PeerMessage, from broker: BrokerID) {
        switch message {
        case .raft(let envelope):
            replica(for: envelope)?.receive(envelope, from: broker)
        case .beat(let beat):
            watch(.beat(beat, from: broker))
        case .beatAnswer(let beat):
            watch(.beatAnswer(beat, from: broker))
        case .application(let kind, let body):
            guard let news = PeerNews(kind: kind, body) else {
                counters.peerFramesRefused += 1
                return
            }
            take(news, from: broker)
        case .replica(let message):
            take(message, from: broker)
        }
    }

    private func replica(for envelope: RaftEnvelope) -> Replica? {
        replica(GroupID(partition: envelope.partition, epoch: envelope.targetEpoch))
    }

    private func take(_ news: PeerNews, from broker: BrokerID) {
        switch news {
        case .leadership(let updates):
            for shard in 0..<settings.shardCount where shard != index {
                environment.post(.leadership(updates), to: shard)
            }
            noteLeadership(updates)
        case .command(let number, let command):
            metadata?.answer(command, number: number, from: broker)
        case .reply(let number, let appliedIndex, let reply):
            metadata?.take(reply, number: number, appliedIndex: appliedIndex)
        case .transfer(let number, let partition, let target):
            let transfer = LeaderTransfer(
                partition: partition,
                leader: settings.broker,
                target: target
            )
            ask(settings.shard(of: partition), .transfer(transfer)) { [unowned self] reply in
                guard case .transfer(let refusal) = reply else {
                    preconditionFailure("a transfer is answered as one")
                }
                self.sendToPeer(
                    PeerNews.transferred(number: number, refusal).message,
                    broker
                )
            }
        case .transferred(let number, let refusal):
            peers.transfers.take(refusal, number: number)
        case .question(let number, let question):
            answer(question, number: number, from: broker)
        case .answer(let number, let answer):
            take(answer, number: number)
        }
    }

    // MARK: Leadership

    /// Tells brokers that may not know it what of this shard's partitions this broker leads.
    ///
    /// Each shard speaks for its own partitions. That a broker is there is often known before this shard's own connection
    /// to it is up: then the next tick tries again, since who has no replica of a partition hears of its leader nowhere
    /// else.
    private func tellUntold() {
        guard !peers.untold.isEmpty else { return }
        let own = leadership.led(by: settings.broker).filter {
            settings.shard(of: $0.partition) == index
        }
        for broker in peers.untold.sorted() {
            if own.isEmpty || sendToPeer(PeerNews.leadership(own).message, broker) {
                peers.untold.remove(broker)
            }
        }
    }

    /// Where clients of a partition should go: to its leader, unless that one does not answer.
    func hint(for partition: TopicPartition) -> LeaderHint {
        guard let entry = leadership.leader(of: partition), let leader = entry.leader,
            isReachable(leader)
        else { return .unknown }
        return LeaderHint(leader: leader.rawValue, epoch: entry.term.leaderEpoch)
    }

    /// Why a partition is not here: it is on other brokers, or there is none.
    func absence(of id: TopicPartition) -> ErrorCode {
        guard let topic = image.topic(id.topic),
            topic.partitions.indices.contains(Int(id.partition))
        else { return .unknownTopicOrPartition }
        return .notLeaderOrFollower
    }

    /// Tells all other brokers of what this one leads, or leads no longer.
    func tellPeers(_ updates: [LeadershipUpdate]) {
        guard settings.isClustered, !updates.isEmpty else { return }
        let message = PeerNews.leadership(updates).message
        for peer in peers.addresses where !sendToPeer(message, peer.broker) {
            peers.untold.insert(peer.broker)
        }
    }
}

/// What became of a broker, as shard 0 found.
package enum PeerChange: Sendable {
    /// It stopped answering, or its connections were reset.
    case lost
    /// It answers.
    case back
    /// It answers as another process than before.
    case reborn
}

/// What a shard knows of the other brokers.
struct PeerTable {
    /// Whom it is connected to.
    var addresses: [PeerAddress] = []
    /// Brokers that were removed, and until when this one still speaks to them.
    var leaving: [BrokerID: Instant] = [:]
    /// The brokers that answer.
    var reachable: Set<BrokerID> = []
    /// The brokers that have yet to be told what this broker leads on this shard.
    var untold: Set<BrokerID> = []
    /// Whether something waits for the end of the turn.
    var hasOutput = false
    /// Shard 0: the watch over their beats.
    var monitor: PeerMonitor
    /// Shard 0: leaders elsewhere that were asked to hand over.
    let transfers = TransferRelay()
    /// Shard 0: questions to other brokers.
    let questions = QuestionRelay()
}
