import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// Commands on their way to the broker that leads the metadata log, until they are answered.
///
/// A command is sent once. Whether one without an answer took effect is not known, so whoever asked is told to ask again:
/// the commands of Kafka's clients stand that.
final class CommandRelay {
    /// How long a command may stay unanswered.
    static let timeout = Duration.seconds(10)

    /// How long a command may stay unanswered for a client that waits so many milliseconds.
    ///
    /// It is never longer than for any other; nothing and less is what clients say that leave the field alone.
    static func patience(millis: Int32) -> Duration {
        millis > 0 ? min(timeout, .milliseconds(Int(millis))) : timeout
    }

    private struct Sent {
        var leader: BrokerID
        var timer: TimerQueue.ID
        var completion: (MetadataReply, LogIndex) -> Void
    }

    private unowned let shard: Shard
    private var sent: [UInt64: Sent] = [:]
    private var lastNumber: UInt64 = 0

    init(shard: Shard) {
        self.shard = shard
    }

    /// Sends a command to the leader; `completion` gets the answer, and the index of the metadata log that it rests on.
    func send(
        _ command: MetadataCommand,
        to leader: BrokerID,
        within patience: Duration,
        then completion: @escaping (MetadataReply, LogIndex) -> Void
    ) {
        let bytes: ByteBuffer
        do throws(CoordinationError) {
            bytes = try command.encoded()
        } catch {
            return completion(.refused(Refusal(.invalidRequest, error.description)), .zero)
        }
        lastNumber += 1
        let number = lastNumber
        let timer = shard.schedule(after: patience) { [unowned self] in
            self.fail(number, "the controller on broker \(leader) did not answer in time")
        }
        sent[number] = Sent(leader: leader, timer: timer, completion: completion)
        shard.sendToPeer(PeerNews.command(number: number, bytes).message, leader)
    }

    /// Takes in an answer; one that nobody waits for any longer changes nothing.
    func take(_ reply: ByteBuffer, number: UInt64, appliedIndex: LogIndex) {
        guard let waiting = sent.removeValue(forKey: number) else { return }
        shard.timers.cancel(waiting.timer)
        do throws(CoordinationError) {
            waiting.completion(try MetadataReply(decoding: reply), appliedIndex)
        } catch {
            waiting.completion(
                .refused(Refusal(.unknownServerError, "the controller's answer: \(error)")),
                .zero
            )
        }
    }

    /// The broker is gone, and what was sent to it will not be answered.
    func lost(_ broker: BrokerID) {
        for number in sent.filter({ $0.value.leader == broker }).keys.sorted() {
            fail(number, "broker \(broker), which led the metadata, stopped answering")
        }
    }

    private func fail(_ number: UInt64, _ reason: String) {
        guard let waiting = sent.removeValue(forKey: number) else { return }
        shard.timers.cancel(waiting.timer)
        waiting.completion(.refused(Refusal(.notController, "\(reason); ask again")), .zero)
    }
}
