import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Who waits for the metadata here to come so far: to be applied, to be on this broker's own disk, or to be whole.
extension MetadataService {
    /// Goes on when this broker has applied the metadata up to an index, or when that takes too long.
    func after(_ index: LogIndex, _ action: @escaping () -> Void) {
        guard machine.controller.image.appliedIndex < index else { return action() }
        indexWaiters.append(
            IndexWaiter(
                index: index,
                deadline: shard.environment.clock.now + Self.indexWait,
                action: action
            )
        )
    }

    /// How long an answer waits for this broker to have applied what it tells of.
    private static let indexWait = Duration.seconds(2)

    func settleIndexWaiters() {
        guard !indexWaiters.isEmpty else { return }
        let applied = machine.controller.image.appliedIndex
        let now = shard.environment.clock.now
        let ready = indexWaiters.filter { $0.index <= applied || $0.deadline <= now }
        indexWaiters.removeAll { $0.index <= applied || $0.deadline <= now }
        for waiter in ready { waiter.action() }
    }

    /// Goes on when a leader has confirmed the log here, and all that it held then is applied.
    ///
    /// Whatever this broker had applied in an earlier life was on its disk, or is on a leader's that has matched it since.
    func whenWhole(_ action: @escaping () -> Void) {
        wholenessWaiters.append(action)
        settleWholenessWaiters()
    }

    func settleWholenessWaiters() {
        guard !wholenessWaiters.isEmpty, replica.isElectable, replica.leader != nil else { return }
        let end = confirmedEnd ?? replica.log.lastIndex
        confirmedEnd = end
        // What was never committed may have made way for less.
        guard machine.controller.image.appliedIndex >= min(end, replica.log.lastIndex) else {
            return
        }
        let ready = wholenessWaiters
        wholenessWaiters = []
        for action in ready { action() }
    }

    /// Goes on when this broker's own disk has the metadata up to an index; it may have applied that before.
    func whenDurable(upTo index: LogIndex, _ action: @escaping () -> Void) {
        guard replica.log.commitIndex < index else { return action() }
        durabilityWaiters.append((index, action))
    }

    func settleDurabilityWaiters() {
        let durable = replica.log.commitIndex
        let ready = durabilityWaiters.filter { $0.index <= durable }
        guard !ready.isEmpty else { return }
        durabilityWaiters.removeAll { $0.index <= durable }
        for waiter in ready { waiter.action() }
    }
}
