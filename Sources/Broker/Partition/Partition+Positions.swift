import FlotillaEnvironment
package import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Asks how far a reader is behind in one partition.
package struct PositionCall: Hashable, Sendable {
    package var partition: TopicPartition
    /// The next record that it will read.
    package var offset: Offset
}

/// How far it is behind, as one replica sees it.
package struct PositionReply: Hashable, Sendable {
    package var error: ErrorCode
    /// The first record that can be read.
    package var logStartOffset: Offset = .zero
    /// One past the last record that is committed, as far as this replica knows.
    package var highWatermark: Offset = .zero
    /// The time of the first batch that is not read; nil where there is none, and where it is not known.
    package var time: Timestamp?
}

extension Partition {
    /// Tells how far a reader is behind, as this replica sees it: a follower may be a moment late.
    ///
    /// `mayLoad`: asked where the time is not in memory; with a no the time stays unknown.
    func position(
        _ call: PositionCall,
        mayLoad: @escaping () -> Bool,
        then completion: @escaping (PositionReply) -> Void
    ) {
        guard !replica.hasFailed, !replica.isInstalling, replica.obstacle == nil else {
            return completion(PositionReply(error: .notLeaderOrFollower))
        }
        let start = logStartOffset
        let end = highWatermark
        // Who has yet to hear of what a group has read cannot tell what it has not.
        guard replica.isServing || call.offset <= end else {
            return completion(PositionReply(error: .offsetNotAvailable))
        }
        let reply = PositionReply(error: .noError, logStartOffset: start, highWatermark: end)
        // What was deleted will not be read any more.
        let offset = max(call.offset, start)
        guard offset < end else { return completion(reply) }
        look(offset, end, afterLoad: false, mayLoad) { time in
            var reply = reply
            reply.time = time
            completion(reply)
        }
    }

    private func look(
        _ offset: Offset,
        _ end: Offset,
        afterLoad: Bool,
        _ mayLoad: @escaping () -> Bool,
        then completion: @escaping (Timestamp?) -> Void
    ) {
        let log = replica.log
        do throws(StorageError) {
            switch try log.firstBatchTime(from: offset, upTo: end, afterLoad: afterLoad) {
            case .ready(let time):
                // A producer may give no time.
                completion(time.flatMap { $0 > .none ? $0 : nil })
            case .load(let load):
                guard !afterLoad, mayLoad() else { return completion(nil) }
                shard.workers.run({ load.perform() }) { [weak self] loaded in
                    guard let self else { return completion(nil) }
                    do throws(StorageError) {
                        try log.finish(loaded)
                    } catch {
                        self.shard.report(error, in: self.replica.group)
                        return completion(nil)
                    }
                    guard offset >= self.logStartOffset else { return completion(nil) }
                    self.look(offset, end, afterLoad: true, mayLoad, then: completion)
                }
            }
        } catch {
            shard.report(error, in: replica.group)
            completion(nil)
        }
    }
}

extension Shard {
    /// How many segments may be opened for the positions of one call; the times of the others stay unknown until somebody reads there.
    private static let positionLoadLimit = 16

    /// Answers for the partitions that live on this shard.
    func positions(_ calls: [PositionCall], then completion: @escaping ([PositionReply]) -> Void) {
        var loadsLeft = Self.positionLoadLimit
        let mayLoad = { () -> Bool in
            guard loadsLeft > 0 else { return false }
            loadsLeft -= 1
            return true
        }
        gather(calls) { call, done in
            guard let partition = partition(call.partition) else {
                return done(PositionReply(error: absence(of: call.partition)))
            }
            partition.position(call, mayLoad: mayLoad, then: done)
        } then: {
            completion($0)
        }
    }
}
