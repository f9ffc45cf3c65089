import FlotillaClient
import FlotillaModel

/// How far a group is behind in one partition.
struct PartitionLag: Equatable {
    var partition: NamedPartition
    /// One past the last record that is done; nil where the group has committed nothing.
    var committed: Offset?
    /// The first record that can be read; nil while the partition has no leader.
    var start: Offset?
    /// One past the last record; nil while the partition has no leader.
    var end: Offset?
    /// When the first record that is not done was written; nil where that is not known, or there is none.
    var oldest: Timestamp?
    /// The client of the member that reads it.
    var owner: String?

    /// Where the first record is that is not done and can be read: what was deleted before it was read is not behind.
    var next: Offset? {
        guard let committed, let start else { return nil }
        return Swift.max(committed, start)
    }

    /// The records that are not done, as brokers count them.
    var records: Int64? {
        guard let next, let end else { return nil }
        return Swift.max(0, end - next)
    }

    /// The age of the oldest record that is not done, in milliseconds; 0 where all are done.
    func milliseconds(at now: Timestamp) -> Int64? {
        guard let records else { return nil }
        if records == 0 { return 0 }
        return oldest.map { Swift.max(0, now.rawValue - $0.rawValue) }
    }
}

/// How far a group is behind.
struct GroupLag: Equatable {
    var group: String
    var state: String
    /// Sorted.
    var partitions: [PartitionLag]
    /// When this was so.
    var time: Timestamp

    /// The records that are not done, of the partitions of which that is known.
    var records: Int64 {
        partitions.compactMap(\.records).reduce(0, +)
    }

    /// The age of the oldest record that is not done, in milliseconds; nil where none is known.
    var milliseconds: Int64? {
        partitions.compactMap { $0.milliseconds(at: time) }.max()
    }

    /// How fast the lag grows, in records per second; negative where the group catches up, nil for want of an earlier look.
    func trend(since earlier: GroupLag?) -> Double? {
        guard let earlier, time > earlier.time else { return nil }
        return Double(records - earlier.records) * 1000
            / Double(time.rawValue - earlier.time.rawValue)
    }

    /// The same of one partition.
    func trend(of lag: PartitionLag, since earlier: GroupLag?) -> Double? {
        let before = earlier?.partitions.first { $0.partition == lag.partition }
        guard let earlier, time > earlier.time, let now = lag.records, let then = before?.records
        else { return nil }
        return Double(now - then) * 1000 / Double(time.rawValue - earlier.time.rawValue)
    }
}

/// How lags are shown.
enum LagText {
    /// `0`, `0.4`, `75.0`: seconds of milliseconds.
    static func seconds(_ millis: Int64?) -> String {
        guard let millis else { return Table.unknown }
        return millis == 0 ? "0" : Decimals.text(Double(millis) / 1000, 1)
    }

    /// `+12.0/s`, `-3.5/s`, `0/s`.
    static func trend(_ perSecond: Double?) -> String {
        guard let perSecond else { return Table.unknown }
        let text = Decimals.text(perSecond, 1)
        if text == "0.0" { return "0/s" }
        return (perSecond > 0 ? "+" : "") + text + "/s"
    }

    /// A table with a total; with a trend where there was an earlier look.
    static func table(_ lag: GroupLag, since earlier: GroupLag? = nil, isWatching: Bool) -> String {
        var headings = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "SECONDS"]
        if isWatching { headings.append("TREND") }
        var table = Table(headings + ["OWNER"])
        for each in lag.partitions {
            var cells = [
                each.partition.topic, String(each.partition.index),
                each.committed?.description ?? Table.unknown,
                each.end?.description ?? Table.unknown,
                each.records.map { String($0) } ?? Table.unknown,
                seconds(each.milliseconds(at: lag.time)),
            ]
            if isWatching { cells.append(trend(lag.trend(of: each, since: earlier))) }
            table.add(cells + [each.owner ?? Table.unknown])
        }
        return total(lag, since: earlier, isWatching: isWatching) + "\n" + table.text
    }

    /// The line above the table.
    static func total(_ lag: GroupLag, since earlier: GroupLag?, isWatching: Bool) -> String {
        var line = "\(lag.group)  \(lag.state)  lag \(lag.records)"
        line += "  seconds \(seconds(lag.milliseconds))"
        if isWatching { line += "  trend \(trend(lag.trend(since: earlier)))" }
        return line
    }

    /// An object for each partition, and one for the whole.
    static func json(_ lag: GroupLag, since earlier: GroupLag? = nil) -> [String] {
        func number(_ value: Double?, _ decimals: Int) -> String {
            value.map { Decimals.text($0, decimals) } ?? "null"
        }
        func seconds(_ millis: Int64?) -> String {
            number(millis.map { Double($0) / 1000 }, 3)
        }
        var lines = lag.partitions.map { each in
            JSONText.object([
                "group": JSONText.quoted(lag.group),
                "topic": JSONText.quoted(each.partition.topic),
                "partition": String(each.partition.index),
                "committed": each.committed?.description ?? "null",
                "end": each.end?.description ?? "null",
                "lag": each.records.map { String($0) } ?? "null",
                "seconds": seconds(each.milliseconds(at: lag.time)),
                "trend": number(lag.trend(of: each, since: earlier), 3),
                "owner": JSONText.optional(each.owner),
            ])
        }
        lines.append(
            JSONText.object([
                "group": JSONText.quoted(lag.group),
                "state": JSONText.quoted(lag.state),
                "lag": String(lag.records),
                "seconds": seconds(lag.milliseconds),
                "trend": number(lag.trend(since: earlier), 3),
            ])
        )
        return lines
    }
}
