import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage

/// What holds of a cluster that has come to rest: the replicas of a partition have the same log, and made the same of it.
struct EndChecker {
    private let world: World
    private let replicas: ReplicaChecker

    init(world: World, replicas: ReplicaChecker) {
        self.world = world
        self.replicas = replicas
    }

    /// Checks all of it.
    ///
    /// `limit`: how long a cluster without faults may take until its replicas are equal.
    func check(_ workloads: [any Workload], within limit: Duration) {
        expectEqualReplicas(within: limit)
        guard world.violation == nil else { return }
        if let missing = workloads.lazy.compactMap(\.whatIsMissing).first { world.violate(missing) }
    }

    /// Lets time pass until all replicas of a partition hold the same log.
    private func expectEqualReplicas(within limit: Duration) {
        let end = world.now + limit
        while world.violation == nil {
            let all = world.brokers.flatMap(\.shards).flatMap(\.allReplicas)
            guard let difference = misplacement ?? difference(all) ?? replicas.compareAtEnd(all)
            else { return }
            guard world.now < end else { return world.lose(difference) }
            world.run(until: world.now + .milliseconds(200))
        }
    }

    /// Tells how far each replica is, and what leaders know of the others.
    static func describeReplicas(of world: World) {
        for broker in world.brokers {
            for replica in broker.shards.flatMap(\.allReplicas) {
                let raft = replica.raft
                world.tell(
                    "\(replica.group) on broker \(broker.id): \(raft.role), term \(raft.term), ends at \(replica.log.lastIndex), "
                        + "committed \(raft.commitIndex), applied \(replica.appliedIndex)\(raft.isQuiet ? ", quiet" : "")"
                )
                for other in raft.membership.allMembers {
                    guard let progress = raft.progress(of: other) else { continue }
                    world.tell(
                        "  knows of \(other): \(progress.state), matched \(progress.match), next \(progress.next), "
                            + "\(progress.window.count) on their way, \(progress.isReachable ? "reachable" : "not reachable")"
                    )
                }
            }
        }
    }

    // MARK: Places

    /// A broker that has not come back, or has not just those replicas that it is to have; nil where all have.
    private var misplacement: String? {
        for broker in world.brokers {
            guard broker.isUp, !broker.isOutside else { return "broker \(broker.id) is not back" }
            for shard in broker.shards {
                if let problem = misplacement(on: shard) { return problem }
            }
        }
        return nil
    }

    /// What the metadata, as a shard knows them, say of its replicas, compared with those that are open and with whom they know as members.
    private func misplacement(on shard: Shard) -> String? {
        let broker = shard.settings.broker
        var wanted = Set(
            shard.image.replicas(on: broker).map(\.group)
                .filter { shard.settings.shard(of: $0.partition) == shard.index }
        )
        for replica in shard.allReplicas {
            let name = "\(replica.group.partition) on \(replica.member)"
            guard !replica.hasFailed else { return "\(name) has given up" }
            if replica.group.partition == .clusterMetadata { continue }
            guard wanted.remove(replica.group) != nil else {
                return "\(name) is open, and not wanted"
            }
            if let problem = strangeMembers(of: replica, in: shard.image) {
                return "\(name) \(problem)"
            }
        }
        if shard.index == 0, shard.allReplicas.first?.group.partition != .clusterMetadata {
            return "the metadata are not open on broker \(broker)"
        }
        return wanted.min().map { "\($0) is not open on broker \(broker)" }
    }

    /// A leader's members are those that the metadata want, and no change is under way.
    private func strangeMembers(of replica: Replica, in image: MetadataImage) -> String? {
        let id = replica.group.partition
        guard replica.isLeader, let topic = image.topic(id.topic),
            topic.partitions.indices.contains(Int(id.partition))
        else { return nil }
        let partition = topic.partitions[Int(id.partition)]
        let wanted = Membership(voters: partition.replicas)
        guard partition.isMoving || replica.membership != wanted else { return nil }
        return "has the members \(replica.membership), and should have \(wanted)"
    }

    // MARK: Logs

    private func difference(_ replicas: [Replica]) -> String? {
        var ends: [TopicPartition: LogIndex] = [:]
        for replica in replicas {
            let partition = replica.group.partition
            guard replica.appliedIndex == replica.log.lastIndex else {
                return "\(partition) on \(replica.member) has not applied all that it has"
            }
            let other = ends[partition] ?? replica.log.lastIndex
            guard other == replica.log.lastIndex else {
                return "\(partition) ends at \(other) and at \(replica.log.lastIndex)"
            }
            ends[partition] = other
        }
        return nil
    }
}
