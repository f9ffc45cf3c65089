import FlotillaEnvironment

extension FaultPlan {
    /// What a seed has drawn, for the first line of a transcript.
    package var words: String {
        "\(brokerCount) brokers with \(shardCount) shards each; for \(duration) "
            + (faults.isEmpty
                ? "no faults" : "a fault every \(faultInterval) or so of \(Self.list(faults))")
            + "; the network takes \(networkDelay), a disk \(diskDelay); clients \(Self.list(workloads))"
            + (leavesOneOut ? "; one broker is left out at the end" : "")
            + (hasAtlas ? "" : "; all disks may change what they hold")
    }

    /// Names with commas between them, as the command line takes them.
    package static func list<Kind: RawRepresentable<String> & Comparable>(
        _ kinds: Set<Kind>
    ) -> String {
        kinds.isEmpty ? "none" : kinds.sorted().map(\.rawValue).joined(separator: ",")
    }
}
