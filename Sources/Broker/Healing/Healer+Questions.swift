import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication

/// What a shard asks other brokers to heal a replica, one question for each replica at a time.
extension Healer {
    /// A question to a replica on another broker.
    struct Question {
        var group: GroupID
        var broker: BrokerID
        var timer: TimerQueue.ID
        var completion: (RepairMessage?) -> Void
    }

    /// How long an answer may take; then the next peer is asked.
    static let answerTimeout = Duration.seconds(5)

    /// Asks a peer.
    ///
    /// `completion`: called once, with the answer, or nil where none comes.
    func ask(
        _ member: GroupMember,
        for replica: Replica,
        _ wish: (UInt64) -> RepairMessage,
        then completion: @escaping (RepairMessage?) -> Void
    ) {
        lastQuestion &+= 1
        let number = lastQuestion
        let timer = shard.schedule(after: Self.answerTimeout) { [unowned self] in
            self.questions.removeValue(forKey: number)?.completion(nil)
        }
        questions[number] = Question(
            group: replica.group,
            broker: member.broker,
            timer: timer,
            completion: completion
        )
        let message = wish(number).message(
            of: replica.group.partition,
            from: replica.member.epoch,
            to: member.epoch
        )
        shard.sendToPeer(.replica(message), member.broker)
    }

    /// Gives an answer to whoever asked; one that nobody waits for is dropped.
    func answer(_ number: UInt64, from broker: BrokerID, _ group: GroupID, _ answer: RepairMessage)
    {
        guard let question = questions[number], question.broker == broker, question.group == group
        else { return }
        close(number, with: answer)
    }

    /// What a broker was asked will not be answered: it is gone, or what it said cannot be read.
    func giveUp(on broker: BrokerID, of group: GroupID? = nil) {
        let concerned = questions.filter { _, question in
            question.broker == broker && (group == nil || question.group == group)
        }
        for number in concerned.keys.sorted() { close(number, with: nil) }
    }

    private func close(_ number: UInt64, with answer: RepairMessage?) {
        guard let question = questions.removeValue(forKey: number) else { return }
        shard.timers.cancel(question.timer)
        question.completion(answer)
    }
}
