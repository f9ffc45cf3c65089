import FlotillaEnvironment
import FlotillaModel
import Testing

@testable import FlotillaCoordination

/// Members that come, go, lose answers and fall silent, coordinators that change, and topics that come and grow.
@Suite("Consumer groups, whatever happens")
struct ConsumerGroupPropertyTests {
    /// A client as it sees itself.
    private struct Client {
        var id: String
        var instance: String?
        var topics: [String]
        /// Whether it uses the classic protocol, and whether it gives everything back before it joins again.
        var isClassic = false
        var isEager = false
        var epoch: Int32 = 0
        var owned: Set<TopicPartition> = []
        /// Whether it has to tell everything.
        var isNew = true

        mutating func heartbeat() -> ConsumerHeartbeat {
            ConsumerHeartbeat(
                memberID: id,
                epoch: epoch,
                instanceID: instance,
                rebalanceTimeoutMillis: isNew ? 20_000 : nil,
                topics: isNew ? topics : nil,
                owned: isNew ? [] : owned,
                clientID: id,
                clientHost: "/10.0.0.2"
            )
        }

        mutating func take(_ answer: ConsumerHeartbeatAnswer) {
            epoch = answer.epoch
            isNew = false
            if let assignment = answer.assignment { owned = assignment }
        }

        /// It is told that it is out, and begins anew under its id.
        mutating func drop() {
            epoch = 0
            owned = []
            isNew = true
        }
    }

    private struct World {
        var harness = ConsumerGroupHarness()
        var clients: [Client] = []
        var random: SeededRandom
        var names = ["a"]
        var born = 0

        init(seed: Int) {
            random = SeededRandom(seed: UInt64(seed))
            harness.topic("a", Int.random(in: 1...12, using: &random))
        }

        mutating func draw(_ range: Range<Int>) -> Int { Int.random(in: range, using: &random) }

        mutating func step() {
            switch draw(0..<20) {
            case 0...1 where clients.count < 6: come()
            case 2 where !clients.isEmpty: go(draw(0..<clients.count))
            case 3 where !clients.isEmpty: harness.wait(.seconds(draw(1..<60)))
            case 4: changeTopics()
            case 5:
                harness.failOver()
            case 6, 7: harness.write()
            case 8 where !clients.isEmpty:
                // It starts again without having left.
                clients[draw(0..<clients.count)].drop()
            default:
                guard !clients.isEmpty else { return come() }
                beat(draw(0..<clients.count), isAnswerLost: draw(0..<5) == 0)
                harness.wait(.milliseconds(draw(1..<3_000)))
            }
            check()
        }

        private mutating func come() {
            born += 1
            let isStatic = draw(0..<4) == 0
            let instance = isStatic ? "static-\(draw(0..<2))" : nil
            clients.removeAll { isStatic && $0.instance == instance }
            clients.append(
                Client(
                    id: "member-\(born)",
                    instance: instance,
                    topics: names.filter { _ in draw(0..<3) > 0 },
                    isClassic: !isStatic && draw(0..<3) == 0,
                    isEager: draw(0..<2) == 0
                )
            )
        }

        private mutating func go(_ place: Int) {
            var client = clients.remove(at: place)
            guard !client.isClassic else {
                return harness.leaveClassic(client.id)
            }
            let isAway = client.instance != nil && draw(0..<2) == 0
            client.epoch = isAway ? -2 : -1
            client.isNew = false
            // It may be out already, and then there is nothing to leave.
            _ = try? harness.heartbeat(client.heartbeat())
            harness.write()
        }

        private mutating func changeTopics() {
            if names.count < 4, draw(0..<2) == 0 {
                let name = ["a", "b", "c", "d"][names.count]
                names.append(name)
                harness.topic(name, draw(1..<5))
            } else if let topic = harness.image.topic(named: names[draw(0..<names.count)]) {
                let member = GroupMember(broker: 1, epoch: harness.image.nextCreationEpoch)
                harness.change(
                    .partitionsAdded(
                        topic: topic.id,
                        partitions: [PartitionImage(replicas: [member])]
                    )
                )
            }
        }

        /// A heartbeat, whose answer comes when the log has what it tells.
        mutating func beat(_ place: Int, isAnswerLost: Bool = false) {
            if clients[place].isClassic { return beatClassic(place, isAnswerLost) }
            do throws(HeartbeatRefusal) {
                let answer = try harness.heartbeat(clients[place].heartbeat())
                harness.write()
                if !isAnswerLost { clients[place].take(answer) }
            } catch {
                switch error.code {
                case .unreleasedInstanceId: break
                case .fencedInstanceId: clients.remove(at: place)
                case .fencedMemberEpoch, .unknownMemberId: clients[place].drop()
                default: Issue.record("\(error)")
                }
            }
        }

        private mutating func beatClassic(_ place: Int, _ isAnswerLost: Bool) {
            var client = clients[place]
            if client.epoch > 0 {
                let code = harness.beatClassic(client.id, client.epoch)
                harness.write()
                switch code {
                case .noError: return
                case .rebalanceInProgress: if client.isEager { client.owned = [] }
                default: client.drop()
                }
            }
            do throws(HeartbeatRefusal) {
                let (generation, share) = try harness.joinClassic(
                    client.id,
                    topics: client.topics,
                    owned: client.owned
                )
                harness.write()
                // Without an answer it joins again.
                client.epoch = isAnswerLost ? 0 : generation
                if !isAnswerLost { client.owned = share }
            } catch {
                Issue.record("\(error)")
            }
            clients[place] = client
        }

        /// What a member reads that is in the group at its epoch is its own.
        func check() {
            for client in clients where client.epoch > 0 {
                guard let current = harness.log.members[client.id]?.current,
                    current.epoch == client.epoch
                else { continue }
                #expect(client.owned.isSubset(of: current.assigned.union(current.revoking)))
            }
        }

        /// Everybody sends heartbeats, and nothing else happens.
        mutating func rest() {
            for _ in 0..<60 {
                for place in clients.indices.reversed() where place < clients.count {
                    beat(place)
                }
                harness.wait(.seconds(2))
                harness.write()
                check()
            }
        }
    }

    @Test("no partition has two readers, and in the end each has one", arguments: 0..<200)
    func anything(seed: Int) {
        var world = World(seed: seed)
        for _ in 0..<300 { world.step() }
        world.rest()
        let group = world.harness.group
        #expect(group.memberCount == world.clients.count)
        #expect(group.phase == (world.clients.isEmpty ? .empty : .stable))
        var owned: Set<TopicPartition> = []
        for client in world.clients {
            #expect(client.owned == group.state.members[client.id]?.current.assigned)
            #expect(owned.isDisjoint(with: client.owned))
            owned.formUnion(client.owned)
        }
        let wanted = Set(world.clients.flatMap(\.topics)).compactMap {
            world.harness.image.topic(named: $0)?.id
        }
        #expect(owned == Set(wanted.flatMap { world.harness.partitions(of: $0) }))
    }
}
