import FlotillaBroker
import FlotillaModel

/// What the broker knows of groups as samples of the metrics page: few, however many partitions they read.
enum GroupSamples {
    /// How many series a group has of its lag.
    static let lagSeriesCount = 2

    /// The groups that are coordinated here.
    static func samples(_ statistics: ShardStatistics) -> [MetricSample] {
        var samples = [
            MetricSample(
                "flotilla_group_members",
                .gauge,
                "Members of the groups that this broker coordinates.",
                Double(statistics.groupMemberCount)
            ),
            MetricSample(
                "flotilla_group_commits_total",
                .counter,
                "Offsets that groups committed, each partition for itself.",
                Double(statistics.commitCount)
            ),
        ]
        for (reason, count) in statistics.rebalanceCounts.sorted(by: { $0.key < $1.key }) {
            samples.append(
                MetricSample(
                    "flotilla_group_rebalances_total",
                    .counter,
                    "Rebalances of groups, by what brought them about.",
                    labels: ["reason": reason],
                    Double(count)
                )
            )
        }
        let counts = statistics.groupCounts.sorted {
            ($0.key.type.rawValue, $0.key.state) < ($1.key.type.rawValue, $1.key.state)
        }
        for (kind, count) in counts {
            samples.append(
                MetricSample(
                    "flotilla_groups",
                    .gauge,
                    "Groups that this broker coordinates.",
                    labels: ["type": kind.type.rawValue, "state": kind.state],
                    Double(count)
                )
            )
        }
        return samples
    }

    /// How far they are behind; a group of which nobody can tell has no series.
    static func samples(_ groups: [GroupPositions], at now: Timestamp) -> [MetricSample] {
        groups.flatMap { group in
            let labels: MetricLabels = ["group": group.group]
            let records = group.records.map {
                MetricSample(
                    "flotilla_group_lag_records",
                    .gauge,
                    "Records that a group has not committed yet, in all partitions.",
                    labels: labels,
                    Double($0)
                )
            }
            let seconds = group.milliseconds(at: now).map {
                MetricSample(
                    "flotilla_group_lag_seconds",
                    .gauge,
                    "Age of the oldest record that a group has not committed yet.",
                    labels: labels,
                    Double($0) / 1_000
                )
            }
            return [records, seconds].compactMap(\.self)
        }
    }

    /// Each partition of a group, or each of one topic; what is not known has no series.
    static func samples(_ report: GroupLagReport, topic: String?) -> [MetricSample] {
        report.partitions.filter { topic == nil || $0.topic == topic }.flatMap { partition in
            let labels: MetricLabels = [
                "group": report.group, "topic": partition.topic,
                "partition": "\(partition.partition)",
            ]
            let committed = MetricSample(
                "flotilla_group_partition_committed_offset",
                .gauge,
                "Next offset that a group will read, as it committed.",
                labels: labels,
                Double(partition.committed)
            )
            let records = partition.records.map {
                MetricSample(
                    "flotilla_group_partition_lag_records",
                    .gauge,
                    "Records of a partition that a group has not committed yet.",
                    labels: labels,
                    Double($0)
                )
            }
            let seconds = partition.milliseconds.map {
                MetricSample(
                    "flotilla_group_partition_lag_seconds",
                    .gauge,
                    "Age of a partition's first record that a group has not committed yet.",
                    labels: labels,
                    Double($0) / 1_000
                )
            }
            return [committed, records, seconds].compactMap(\.self)
        }
    }
}
