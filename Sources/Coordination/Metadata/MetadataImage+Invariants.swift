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
        var loads = SortedTable<BrokerID, BrokerLoad>()
        for (name, topic) in topics {
            precondition(
                topic.name == name && topicsByID[topic.id] === topic,
                "both tables hold one object"
            )
            precondition(deletedTopics[topic.id] == nil, "a topic is deleted or not")
            counted += topic.partitions.count
            for partition in topic.partitions {
                precondition(
                    Set(partition.replicas.map(\.broker)).count == partition.replicas.count,
                    "brokers are distinct"
                )
                for (place, replica) in partition.replicas.enumerated() {
                    precondition(replica.epoch < nextCreationEpoch, "a creation epoch is used once")
                    var load = loads[replica.broker] ?? BrokerLoad()
                    load.replicaCount += 1
                    load.leaderCount += place == 0 ? 1 : 0
                    loads[replica.broker] = load
                }
            }
        }
        precondition(counted == partitionCount, "the partitions are counted")
        precondition(loads == self.loads, "the loads are counted")
        for (_, topic) in deletedTopics {
            precondition(!topic.unconfirmedBrokers.isEmpty, "a confirmed topic is forgotten")
        }
    }
}
