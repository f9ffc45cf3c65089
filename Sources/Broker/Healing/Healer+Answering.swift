import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// What a shard gives to heal other brokers' replicas: only what is committed here, and what it has made sure of.
extension Healer {
    /// The bytes of entries in one answer; a larger entry travels by itself.
    static let pieceByteCount = 1 << 20
    /// The entries in one answer.
    private static let pieceEntryCount = 4_096
    /// The largest `.state` that is sent: more waits in no link.
    private static let stateByteLimit = 12 << 20
    /// How many answers may wait for the disk at a time.
    private static let answeringLimit = 16
    /// How often one answer may wait for the disk.
    private static let loadLimit = 4

    /// A question of another replica.
    private struct Wish {
        var number: UInt64
        var asker: GroupMember
        var replica: Replica
        var indexes: ClosedRange<LogIndex>
        var maxByteCount: Int
        var loadCount = 0
    }

    /// Takes in what another replica asks or answers.
    func take(_ message: ReplicaMessage, from broker: BrokerID) {
        let group = GroupID(partition: message.partition, epoch: message.targetEpoch)
        guard let replica = shard.replica(group) else { return }
        let repair: RepairMessage
        do throws(PeerWireError) {
            repair = try RepairMessage(message)
        } catch {
            shard.counters.peerFramesRefused += 1
            shard.environment.log(
                .retrying(what: "repair with broker \(broker)", description: error.description)
            )
            return giveUp(on: broker, of: group)
        }
        let asker = GroupMember(broker: broker, epoch: message.senderEpoch)
        switch repair {
        case .entriesWanted(let number, let indexes, let maxByteCount):
            guard replica.membership.allMembers.contains(asker) else { return }
            give(
                Wish(
                    number: number,
                    asker: asker,
                    replica: replica,
                    indexes: indexes,
                    maxByteCount: min(max(maxByteCount, 1), Self.pieceByteCount)
                ),
                afterLoad: false
            )
        case .stateWanted(let number, let name):
            guard replica.membership.allMembers.contains(asker) else { return }
            giveState(name, of: replica, to: asker, number)
        case .entries(let number, _), .state(let number, _), .declined(let number, _, _):
            answer(number, from: broker, group, repair)
        }
    }

    private func send(_ message: RepairMessage, to asker: GroupMember, from replica: Replica) {
        let frame = message.message(
            of: replica.group.partition,
            from: replica.member.epoch,
            to: asker.epoch
        )
        shard.sendToPeer(.replica(frame), asker.broker, on: .bulk)
    }

    // MARK: Entries

    private func give(_ wish: Wish, afterLoad: Bool) {
        let log = wish.replica.log
        let first = wish.indexes.lowerBound
        let last = min(wish.indexes.upperBound, log.commitIndex)
        guard first <= last else {
            return decline(wish, .absent, next: wish.indexes.upperBound.next)
        }
        do throws(StorageError) {
            switch try log.entries(
                from: first,
                maxByteCount: wish.maxByteCount,
                maxCount: Self.pieceEntryCount,
                afterLoad: afterLoad
            ) {
            case .ready(let entries): give(entries.filter { $0.frame.index <= last }, wish)
            case .load(let load): give(wish, after: load)
            }
        } catch {
            refuse(wish, error)
        }
    }

    /// Sends what is sound; an entry that turns out not to be ends the answer.
    private func give(_ entries: [LogEntry], _ wish: Wish) {
        let sound = entries.prefix { (try? $0.verifyBatch()) != nil }
        guard !sound.isEmpty else {
            return decline(wish, .damaged, next: wish.indexes.lowerBound.next)
        }
        send(.entries(number: wish.number, Array(sound)), to: wish.asker, from: wish.replica)
    }

    private func give(_ wish: Wish, after load: SegmentLoad) {
        guard answeringCount < Self.answeringLimit, wish.loadCount < Self.loadLimit else {
            return decline(wish, .busy, next: wish.indexes.lowerBound)
        }
        var wish = wish
        wish.loadCount += 1
        answeringCount += 1
        shard.workers.runInBackground({ load.perform() }) { [unowned self] loaded in
            self.answeringCount -= 1
            guard self.shard.replica(wish.replica.group) === wish.replica else { return }
            do throws(StorageError) {
                try wish.replica.log.finish(loaded)
                self.give(wish, afterLoad: true)
            } catch {
                self.refuse(wish, error)
            }
        }
    }

    private func refuse(_ wish: Wish, _ error: StorageError) {
        let first = wish.indexes.lowerBound
        switch error {
        case .damaged(let damage):
            shard.report(error, in: wish.replica.group)
            decline(wish, .damaged, next: (damage.indexes?.upperBound ?? first).next)
        case .indexOutOfRange(_, let start, _):
            decline(wish, .absent, next: max(start, first.next))
        default:
            decline(wish, .busy, next: first)
        }
    }

    private func decline(_ wish: Wish, _ refusal: RepairRefusal, next: LogIndex) {
        send(
            .declined(number: wish.number, refusal, next: next),
            to: wish.asker,
            from: wish.replica
        )
    }

    // MARK: States

    private func giveState(
        _ name: SegmentName,
        of replica: Replica,
        to asker: GroupMember,
        _ number: UInt64
    ) {
        let decline = { [unowned self] (refusal: RepairRefusal) in
            self.send(
                .declined(number: number, refusal, next: name.firstIndex),
                to: asker,
                from: replica
            )
        }
        guard let reading = replica.log.stateReading(name) else { return decline(.absent) }
        guard answeringCount < Self.answeringLimit else { return decline(.busy) }
        answeringCount += 1
        shard.workers.runInBackground({ reading.perform() }) { [unowned self] result in
            self.answeringCount -= 1
            switch result {
            case .success(let bytes?) where bytes.readableBytes <= Self.stateByteLimit:
                self.send(.state(number: number, bytes), to: asker, from: replica)
            case .success: decline(.damaged)
            case .failure: decline(.busy)
            }
        }
    }
}
