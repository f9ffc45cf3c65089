import FlotillaEnvironment

/// Requests that wait for what the shard is told: metadata, leaders, who answers.
extension Shard {
    /// The most who wait for a change: beyond that nobody is made to.
    private static let imageWaiterLimit = 4_096

    /// Runs `action` as soon as `condition` holds, looked at whenever metadata, leaders or who answers change, or at the deadline.
    func wait(
        atMost delay: Duration,
        until condition: @escaping () -> Bool,
        then action: @escaping () -> Void
    ) {
        if condition() || isStopping || imageWaiters.count >= Self.imageWaiterLimit {
            return action()
        }
        let waiter = ImageWaiter(condition: condition, action: action)
        waiter.timer = schedule(after: delay) { [unowned self] in
            self.imageWaiters.removeAll { $0 === waiter }
            waiter.action()
        }
        imageWaiters.append(waiter)
    }

    /// Lets those go on whose condition holds; all of them when the broker stops.
    func wakeImageWaiters() {
        var ready: [ImageWaiter] = []
        var left: [ImageWaiter] = []
        for waiter in imageWaiters {
            if isStopping || waiter.condition() {
                ready.append(waiter)
            } else {
                left.append(waiter)
            }
        }
        imageWaiters = left
        for waiter in ready {
            if let timer = waiter.timer { timers.cancel(timer) }
            waiter.action()
        }
    }
}

/// Somebody who waits for a change, and until when.
final class ImageWaiter {
    let condition: () -> Bool
    let action: () -> Void
    var timer: TimerQueue.ID?

    init(condition: @escaping () -> Bool, action: @escaping () -> Void) {
        self.condition = condition
        self.action = action
    }
}
