import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel

/// Has one broker after the other drained and removed; it comes back with an empty disk as another member.
final class Leaving: Workload {
    /// With so many brokers none can leave: topics have three replicas.
    static let leastBrokerCount = 3

    private unowned let world: World
    private var random: SeededRandom
    private var isFinishing = false
    /// The broker that is to go.
    private var leaver: Int?
    /// How often it was asked whether it is out.
    private var questionCount = 0
    private var state = ""

    init(world: World) {
        self.world = world
        random = SeededRandom(seed: world.plan.seed ^ 0x1EAE)
    }

    func start() { planNext() }

    func finish() { isFinishing = true }

    /// What a broker gives up needs a place on another one.
    let needsEveryBroker = true

    var whatIsLeft: String? { leaver.map { "broker \($0 + 1) \(state)" } }

    private func planNext() {
        world.act("leave", after: random.draw(.seconds(1), .seconds(6))) { [weak self] in
            guard let self, !self.isFinishing else { return }
            self.drain(self.random.draw(0...(self.world.brokers.count - 1)))
        }
    }

    /// So often a member is asked about that may have yet to be let go.
    private static let questionLimit = 30

    private var pause: Duration { random.draw(.milliseconds(200), .milliseconds(800)) }

    /// Asks until it was decided.
    private func drain(_ number: Int) {
        let id = world.brokers[number].id
        leaver = number
        state = "is to be drained"
        ask(.setBrokerState(id, .draining, allowsPartial: false)) { [weak self] reply in
            guard let self else { return }
            switch reply {
            case .done: self.remove(number)
            // Another one cannot take its replicas now; or it is not even registered.
            case .refused(let refusal) where !refusal.code.isRetriable: self.stay()
            default:
                self.world.act("drain again", after: self.pause) { [weak self] in
                    self?.drain(number)
                }
            }
        }
    }

    /// Asks until it holds nothing more.
    private func remove(_ number: Int) {
        state = "is drained, and to be removed"
        questionCount = 0
        ask(.unregisterBroker(world.brokers[number].id)) { [weak self] reply in
            guard let self else { return }
            switch reply {
            case .done: self.leave(number)
            case .refused(let refusal) where refusal.code == .brokerIdNotRegistered:
                // An earlier attempt was decided, and its answer lost.
                self.leave(number)
            default:
                self.world.act("remove again", after: self.pause) { [weak self] in
                    self?.remove(number)
                }
            }
        }
    }

    /// Asks a leader of the metadata, as the broker itself does, until that says that it is no member.
    private func leave(_ number: Int) {
        state = "is removed, and to find that out"
        let index = world.brokers[number].shards.first?.metadataIndex ?? .zero
        ask(.findMember(world.brokers[number].id, appliedIndex: index)) { [weak self] reply in
            guard let self else { return }
            guard case .member(nil) = reply else {
                self.questionCount += 1
                // It lost its memory meanwhile, and was taken in as another member.
                if self.questionCount > Self.questionLimit { return self.come(number) }
                self.world.act("asks again", after: self.pause) { [weak self] in
                    self?.leave(number)
                }
                return
            }
            self.world.tell("broker \(number + 1) has left")
            self.world.crash(number, .dropUnsynced)
            self.world.brokers[number].loseDisk()
            self.world.admit(number, after: self.pause)
            self.come(number)
        }
    }

    private func come(_ number: Int) {
        state = "comes back"
        world.act("looks for it", after: pause) { [weak self] in
            guard let self else { return }
            guard self.world.brokers[number].isUp else { return self.come(number) }
            self.stay()
        }
    }

    private func stay() {
        leaver = nil
        planNext()
    }

    /// Has any broker that is up pass a command to the controller; nil when nothing came back in time.
    private func ask(
        _ command: MetadataCommand,
        then completion: @escaping (MetadataReply?) -> Void
    ) {
        var isAnswered = false
        let answer = { (reply: MetadataReply?) in
            guard !isAnswered else { return }
            isAnswered = true
            completion(reply)
        }
        world.act("no answer", after: .seconds(12)) { answer(nil) }
        let asked = world.brokers[random.draw(0...(world.brokers.count - 1))]
        guard asked.isUp else { return world.act("is down", after: pause) { answer(nil) } }
        asked.run("command") { [unowned self] broker in
            broker.shards[0].decide(command) { [unowned self] reply in
                // Not within the step of the broker that answers.
                self.world.act("is answered", after: self.world.networkDelay()) { answer(reply) }
            }
        }
    }
}
