import DequeModule
import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// Looks at every byte of a shard's segments now and then, one replica after the other, and slowly.
///
/// The first look at a replica comes soon after its start: what happened to the disk while the broker was away should be
/// found before the other replicas are needed.
final class Scrubber {
    private unowned let shard: Shard
    private var queue = Deque<GroupID>()
    private var walk: Walk?
    private var lastLooks: [GroupID: Instant] = [:]

    /// A look at one replica.
    private struct Walk {
        var group: GroupID
        var position: ScrubWalk
    }

    /// How long after the start the first look begins, and how often it is looked whether one is due.
    private static let interval = Duration.seconds(1)
    /// The bytes of one step; the largest of its entries may add to it.
    private static let stepByteCount = 256 << 10
    /// How soon a replica is looked at again whose files could not be read.
    private static let failureDelay = Duration.seconds(600)
    /// The least time between two steps, whatever their bytes.
    private static let shortestPause = Duration.milliseconds(20)

    init(shard: Shard) {
        self.shard = shard
    }

    func start() {
        wait(Self.interval)
    }

    private func wait(_ delay: Duration) {
        shard.schedule(after: delay) { [unowned self] in self.goOn() }
    }

    /// Makes the next step, or waits until one is due.
    private func goOn() {
        let rate = shard.config.scrubByteRate
        guard rate > 0, !shard.isStopping, !shard.isOverloaded else { return wait(Self.interval) }
        if walk == nil, queue.isEmpty { findDue() }
        while let walk = walk ?? beginNext() {
            guard let writer = shard.segmentWriter(of: walk.group), !writer.isRetired else {
                self.walk = nil
                continue
            }
            if step(walk, writer, rate) { return }
        }
        wait(Self.interval)
    }

    /// Those whose last look is long ago, the longest first; what is not here any more is forgotten.
    private func findDue() {
        let groups = shard.openGroups
        let known = lastLooks
        lastLooks.removeAll()
        for group in groups { lastLooks[group] = known[group] }
        let now = shard.now
        let interval = Duration.milliseconds(shard.config.scrubIntervalMillis)
        let due = groups.filter { group in known[group].map { $0 + interval <= now } ?? true }
        queue += due.sorted { (known[$0] ?? .start, $0) < (known[$1] ?? .start, $1) }
    }

    private func beginNext() -> Walk? {
        while let group = queue.popFirst() {
            guard let replica = shard.replica(group) else { continue }
            lastLooks[group] = shard.now
            return Walk(group: group, position: replica.log.beginScrub())
        }
        return nil
    }

    /// Makes a step of the walk at hand.
    ///
    /// - Returns: false when the walk is at its end.
    private func step(_ walk: Walk, _ writer: SegmentWriter, _ rate: Int) -> Bool {
        self.walk = walk
        // Its files are about to change: it is looked at when they have.
        guard !shard.healer.isTreating(walk.group) else {
            wait(Self.interval)
            return true
        }
        var walk = walk
        let byteCount = min(Self.stepByteCount, rate)
        guard let step = writer.replica.log.nextScrubStep(&walk.position, maxByteCount: byteCount)
        else {
            guard !walk.position.isFinished else {
                self.walk = nil
                return false
            }
            wait(Self.interval)
            return true
        }
        let moved = walk
        writer.tendingBegan()
        shard.workers.runInBackground({ step.perform() }) { [unowned self] result in
            let pause = Duration.nanoseconds(Int64(result.byteCount) * 1_000_000_000 / Int64(rate))
            self.wait(max(pause, Self.shortestPause))
            guard writer.tendingEnded() else {
                self.walk = nil
                return
            }
            self.finish(result, moved, writer.replica.log)
        }
        return true
    }

    private func finish(_ result: ScrubStepResult, _ walk: Walk, _ log: PartitionLog) {
        shard.counters.scrubbedBytes += result.byteCount
        let group = walk.group
        var walk = walk
        do throws(StorageError) {
            let found = try log.finish(result, &walk.position)
            for damage in found { shard.report(.damaged(damage), in: group) }
            self.walk = walk.position.isFinished ? nil : walk
            // Also what no segment has any more, and no step comes by.
            if walk.position.isFinished { shard.healer.look(at: group) }
        } catch {
            // A file that cannot be opened now must not hold the others up.
            shard.environment.log(
                .retrying(what: "scrub of \(group)", description: error.description)
            )
            let interval = Duration.milliseconds(shard.config.scrubIntervalMillis)
            lastLooks[group] = shard.now + (min(interval, Self.failureDelay) - interval)
            self.walk = nil
        }
    }
}
