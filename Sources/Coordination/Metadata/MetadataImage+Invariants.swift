import FlotillaModel

extension MetadataImage {
    /// States what holds after every record; for tests and the simulator.
    func checkInvariants() {
        brokers.checkInvariants()
        topics.checkInvariants()
        topicsByID.checkInvariants()
        deletedTopics.checkInvariants()
        metricForms.checkInvariants()
        precondition(topics.count == topicsByID.count, "each topic is found by name and by id")
        precondition(topics.count == metricForms.count, "no two topics have one form for metrics")
        var counted = 0
        var moving = 0
        var loads = SortedTable<BrokerID, BrokerLoad>()
        for (name, topic) in topics {
            precondition(
                topic.name == name && topicsByID[topic.id] === topic,
                "both tables hold one object"
            )
            precondition(deletedTopics[topic.id] == nil, "a topic is deleted or not")
            counted += topic.partitions.count
            for partition in topic.partitions {
                precondition(partition.fault == nil, "a partition's place makes sense")
                moving += partition.isMoving ? 1 : 0
                for member in partition.members {
                    precondition(member.epoch < nextCreationEpoch, "a creation epoch is used once")
                    precondition(brokers[member.broker] != nil, "a broker that holds is registered")
                }
                for (place, replica) in partition.replicas.enumerated() {
                    var load = loads[replica.broker] ?? BrokerLoad()
                    load.replicaCount += 1
                    load.leaderCount += place == 0 ? 1 : 0
                    loads[replica.broker] = load
                }
            }
        }
        precondition(counted == partitionCount, "the partitions are counted")
        precondition(moving == movingPartitionCount, "the moving partitions are counted")
        precondition(loads == self.loads, "the loads are counted")
        for (_, topic) in deletedTopics {
            precondition(!topic.unconfirmedBrokers.isEmpty, "a confirmed topic is forgotten")
        }
        removedReplicas.checkInvariants()
        metadataMembers.checkInvariants()
        for (replica, _) in removedReplicas {
            precondition(
                brokers[replica.member.broker] != nil,
                "a broker that deletes is registered"
            )
            precondition(
                place(of: replica.partition)?.members.contains(replica.member) != true,
                "a replica is deleted or belongs to its group"
            )
        }
        precondition(
            drainingBrokers.allSatisfy { brokers[$0] != nil },
            "a broker that drains is registered"
        )
    }
}
