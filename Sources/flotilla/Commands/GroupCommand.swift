import ArgumentParser
import FlotillaClient
import FlotillaModel

/// `flotilla group`.
struct GroupCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "group",
        abstract: "Consumer groups: who reads what, how far behind, and where from.",
        subcommands: [
            GroupListCommand.self, GroupDescribeCommand.self, GroupLagCommand.self,
            GroupSeekCommand.self, GroupDeleteCommand.self,
        ]
    )
}

/// `flotilla group list`.
struct GroupListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the groups."
    )

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            let list = try await admin.listGroups()
            if output.format == .name {
                for group in list.groups { print(group.name) }
            } else {
                show(list.groups, await admin.describeGroups(list.groups.map(\.name)))
            }
            guard !list.failures.isEmpty else { return }
            let reasons = list.failures.sorted { $0.key < $1.key }.map {
                "groups of broker \($0.key) are missing: \($0.value)"
            }
            throw CommandFailure.partial(reasons.joined(separator: "\nflotilla: "))
        }
    }

    /// A group that went between list and description has no members.
    private func show(
        _ groups: [Admin.ListedGroup],
        _ descriptions: [String: Result<Admin.DescribedGroup, ClientError>]
    ) {
        var table = Table("GROUP", "STATE", "TYPE", "MEMBERS", "COORDINATOR")
        for group in groups {
            let description = descriptions[group.name].flatMap { try? $0.get() }
            let state = group.state ?? description?.state
            let kind = group.kind ?? description?.groupProtocol?.rawValue
            let members = description.map { String($0.members.count) }
            guard output.format == .json else {
                table.add(
                    group.name,
                    state ?? Table.unknown,
                    kind ?? Table.unknown,
                    members ?? Table.unknown,
                    group.coordinator.description
                )
                continue
            }
            print(
                JSONText.object([
                    "group": JSONText.quoted(group.name),
                    "state": JSONText.optional(state),
                    "type": JSONText.optional(kind),
                    "protocol_type": JSONText.quoted(group.protocolType),
                    "members": members ?? "null",
                    "coordinator": group.coordinator.description,
                ])
            )
        }
        if output.format == .table { print(table.text) }
    }
}

/// `flotilla group describe`.
struct GroupDescribeCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "describe",
        abstract: "Show the members of groups, and what each of them reads."
    )

    @Argument(help: "The groups.")
    var groups: [String]

    @OptionGroup var client: ClientOptions
    @OptionGroup var output: OutputOptions

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            for (place, name) in groups.enumerated() {
                let group = try await admin.describeGroup(name)
                switch output.format {
                case .json: print(GroupText.json(group))
                case .name: for member in group.members { print(member.id) }
                case .table:
                    if place > 0 { print("") }
                    print(GroupText.table(group))
                }
            }
        }
    }
}

/// How groups are shown.
enum GroupText {
    /// A line about the group, and a table of its members where there are any.
    static func table(_ group: Admin.DescribedGroup) -> String {
        var line = "\(group.name)  \(group.state)"
        line += "  \(Words.counted(group.members.count, "member"))"
        line += "  type \(group.groupProtocol?.rawValue ?? group.protocolType)"
        if !group.assignor.isEmpty { line += "  assignor \(group.assignor)" }
        if let epoch = group.epoch { line += "  epoch \(epoch)" }
        line += "  coordinator \(group.coordinator)"
        guard !group.members.isEmpty else { return line }
        var table = Table("MEMBER", "CLIENT", "HOST", "NAME", "PARTITIONS")
        for member in group.members {
            var share = partitions(member.assignment)
            if let target = member.target, target != member.assignment {
                share += " (to be \(partitions(target)))"
            }
            table.add(
                member.id,
                member.clientID,
                member.host,
                member.instanceID ?? Table.unknown,
                share
            )
        }
        return line + "\n" + table.text
    }

    /// An object with all that is known of the group.
    static func json(_ group: Admin.DescribedGroup) -> String {
        let members = group.members.map { member in
            JSONText.object([
                "member": JSONText.quoted(member.id),
                "client": JSONText.quoted(member.clientID),
                "host": JSONText.quoted(member.host),
                "instance": JSONText.optional(member.instanceID),
                "rack": JSONText.optional(member.rack),
                "epoch": member.epoch.map { String($0) } ?? "null",
                "partitions": json(member.assignment),
                "target": member.target.map { json($0) } ?? "null",
            ])
        }
        return JSONText.object([
            "group": JSONText.quoted(group.name),
            "state": JSONText.quoted(group.state),
            "type": JSONText.optional(group.groupProtocol?.rawValue),
            "protocol_type": JSONText.quoted(group.protocolType),
            "assignor": JSONText.quoted(group.assignor),
            "epoch": group.epoch.map { String($0) } ?? "null",
            "coordinator": group.coordinator.description,
            "members": JSONText.array(members),
        ])
    }

    private static func json(_ partitions: [NamedPartition]) -> String {
        JSONText.array(
            partitions.map {
                JSONText.object([
                    "topic": JSONText.quoted($0.topic), "partition": String($0.index),
                ])
            }
        )
    }

    /// `orders:0-3,7 payments:1`; `-` for none.
    static func partitions(_ partitions: [NamedPartition]) -> String {
        var topics: [(name: String, ranges: [ClosedRange<Int32>])] = []
        for partition in partitions.sorted() {
            if topics.last?.name != partition.topic { topics.append((partition.topic, [])) }
            let place = topics.count - 1
            if let last = topics[place].ranges.last, last.upperBound + 1 == partition.index {
                topics[place].ranges[topics[place].ranges.count - 1] =
                    last.lowerBound...partition.index
            } else {
                topics[place].ranges.append(partition.index...partition.index)
            }
        }
        guard !topics.isEmpty else { return Table.unknown }
        return topics.map { topic in
            let ranges = topic.ranges.map {
                $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)"
            }
            return "\(topic.name):\(ranges.joined(separator: ","))"
        }.joined(separator: " ")
    }
}

/// `flotilla group delete`.
struct GroupDeleteCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Delete groups without members, and what they have committed."
    )

    @Argument(help: "The groups.")
    var groups: [String]

    @OptionGroup var client: ClientOptions

    @Flag(help: "Only check that they exist and have no members.")
    var dryRun = false

    func run() async throws {
        try await client.run { client in
            let admin = Admin(client)
            guard dryRun else {
                let outcomes = await admin.deleteGroups(groups)
                return try Outcomes.conclude(
                    outcomes,
                    groups,
                    noun: "group",
                    verb: "deleted",
                    self.client
                )
            }
            for name in groups {
                let group = try await admin.describeGroup(name)
                try GroupRefusal.checkEmpty(group)
                self.client.note("group \(name) would be deleted")
            }
        }
    }
}

/// Why a change of a group is refused.
enum GroupRefusal {
    /// Refuses where somebody reads.
    static func checkEmpty(_ group: Admin.DescribedGroup) throws(CommandFailure) {
        guard let first = group.members.first else { return }
        let others = group.members.count - 1
        let more = others > 0 ? " and \(Words.counted(others, "other"))" : ""
        throw .failed(
            "group \(group.name) has members (\(first.clientID) at \(first.host)\(more)); stop them first"
        )
    }
}
