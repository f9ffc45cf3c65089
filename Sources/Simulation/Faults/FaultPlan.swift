import FlotillaBroker
import FlotillaCoordination
import FlotillaEnvironment

/// A kind of fault that a run may have.
package enum FaultClass: String, CaseIterable, Hashable, Sendable, Comparable {
    /// A process is killed and started again; what it wrote stays.
    case kill
    /// A machine loses power: what was not synced is lost, or torn.
    case power
    /// All machines lose power at once.
    case powerAll = "power-all"
    /// A process stands still for a while.
    case pause
    /// A broker is cut off from some of the others.
    case cut
    /// Only one direction is cut.
    case oneWay = "one-way"
    /// Connections between brokers are reset.
    case reset
    /// Connections of clients are reset.
    case clientReset = "client-reset"
    /// Some clients and a broker do not reach each other.
    case clientCut = "client-cut"
    /// A broker's network is slow for a while.
    case slowNetwork = "slow-network"
    /// A shard does everything late for a while, while the others of its broker do not.
    case slowShard = "slow-shard"
    /// A broker's disk is slow for a while.
    case slowDisk = "slow-disk"
    /// A disk is full for a while.
    case fullDisk = "full-disk"
    /// A sync fails.
    case syncError = "sync-error"
    /// A write fails, after a part of it.
    case writeError = "write-error"
    /// Reads fail for a moment.
    case readError = "read-error"
    /// Bits change on one broker's disk.
    case bitRot = "bit-rot"
    /// A write to a segment lands in another place of its file.
    case misdirectedWrite = "misdirected-write"
    /// One broker comes back with an empty disk.
    case wipedDisk = "wiped-disk"
    /// The same broker comes back without its journal.
    case lostJournal = "lost-journal"
    /// Monotonic clocks run at different speeds.
    case clockDrift = "clock-drift"
    /// Wall clocks jump.
    case clockJump = "clock-jump"

    package static func < (left: FaultClass, right: FaultClass) -> Bool {
        left.rawValue < right.rawValue
    }
}

/// What a seed draws before anything happens: how large the cluster is, which faults it meets and how often.
package struct FaultPlan: Sendable {
    package var seed: UInt64
    package var brokerCount: Int
    package var shardCount: Int
    package var faults: Set<FaultClass>
    package var workloads: Set<WorkloadKind>
    /// Whether only one broker's disk changes what it holds, so that nothing is lost; without it what is lost must be reported.
    package var hasAtlas = true
    /// Whether one broker stays down, cut off or slow until all others have come to rest.
    package var leavesOneOut: Bool
    /// The mean time between two faults.
    package var faultInterval: Duration
    /// How long the phase with faults lasts.
    package var duration: Duration
    /// A usual way between two machines.
    var networkDelay: Duration
    /// A usual write with its sync.
    var diskDelay: Duration
    /// Settings of all brokers.
    var configs: [ConfigEntry]
    /// The bytes of recent entries in a shard's memory: so few that reads have to go to the disk.
    var tailByteCount = 256 << 10

    /// Draws a run.
    ///
    /// - Parameters:
    ///   - seed: the same one draws the same run.
    ///   - faults: what happens; of all there are each seed leaves some out.
    ///   - brokerCount: how many brokers; nil draws 3 to 5.
    package init(seed: UInt64, faults: Set<FaultClass>, brokerCount: Int? = nil) {
        var random = SeededRandom(seed: seed ^ 0x5157_4152_4D21)
        self.seed = seed
        // Drawn in any case, so that all else stays the same.
        let drawnCount = [3, 3, 3, 4, 5][random.draw(0...4)]
        self.brokerCount = brokerCount ?? drawnCount
        shardCount = random.draw(1...3)
        let share = random.draw(20...90)
        // What is asked for by name comes, whatever the seed would have drawn.
        let drawnFaults = Set(FaultClass.allCases.sorted().filter { _ in random.chance(share) })
        self.faults = faults == Set(FaultClass.allCases) ? drawnFaults : faults
        workloads = Set(WorkloadKind.allCases)
        faultInterval = random.draw(.milliseconds(100), .seconds(3))
        duration = .seconds(Int64(random.draw(8...25)))
        networkDelay = random.draw(.microseconds(40), .milliseconds(3))
        diskDelay = random.draw(.microseconds(30), .milliseconds(4))
        leavesOneOut = random.chance(40) && !self.faults.isEmpty
        configs = [
            ConfigEntry("log.scrub.interval.ms", "\(random.draw(2_000...20_000))"),
            ConfigEntry("offsets.topic.num.partitions", "2"),
            ConfigEntry(
                "group.consumer.session.timeout.ms",
                "\(Self.consumerSession.components.seconds * 1_000)"
            ),
        ]
    }

    /// How long a member of the consumer protocol may be silent.
    static let consumerSession = Duration.seconds(4)
    /// More than a clock gains within a session.
    static let clockTolerance = Duration.milliseconds(100)

    /// Whether what lies on disks may change.
    var damagesDisks: Bool { has(.bitRot) || has(.misdirectedWrite) }

    /// Whether what one broker has acknowledged may be gone from its disk.
    var mayLose: Bool { damagesDisks || has(.wipedDisk) || has(.lostJournal) }

    /// Whether a kind of fault happens in this run.
    package func has(_ fault: FaultClass) -> Bool { faults.contains(fault) }
}
