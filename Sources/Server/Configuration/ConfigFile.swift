package import FlotillaEnvironment

/// The configuration file: where it is found, and what an example with every setting looks like.
package enum ConfigFile {
    /// Where a file is looked for when none is named.
    package static let searchPaths = ["flotilla.toml", "/etc/flotilla/flotilla.toml"]

    /// The path in use: the named one, `$FLOTILLA_CONFIG`, the working directory, `/etc/flotilla`;
    /// nil for none.
    ///
    /// A path that was named counts even when nothing is there: reading it then fails and says so.
    package static func find(
        named path: String?,
        environment: [String: String],
        disk: any Disk
    ) throws(DiskError) -> String? {
        if let path = path ?? environment["FLOTILLA_CONFIG"], !path.isEmpty {
            return path
        }
        for path in searchPaths where try disk.exists(path) {
            return path
        }
        return nil
    }

    /// An example: every setting that does something in this version, commented out, with its
    /// default.
    package static var example: String {
        let definitions = SettingTable.definitions.filter { $0.inertness == nil }
        let groups = tables.map { table in definitions.filter { $0.name.hasPrefix(table + ".") } }
        let rest = definitions.filter { definition in
            !tables.contains { definition.name.hasPrefix($0 + ".") }
        }
        var text = header
        for definition in rest {
            text += "\n" + entry(definition, named: key(definition.name))
        }
        for (table, members) in zip(tables, groups) {
            text += "\n[\(table)]\n"
            for definition in members {
                text += "\n" + entry(definition, named: key(definition.name, in: table))
            }
        }
        return text
    }

    /// First parts of names that stand as tables; other settings stand above them under their whole
    /// name.
    private static let tables = [
        "data", "journal", "kafka", "peer", "cluster", "http", "logging", "memory", "log",
    ]

    private static let header = """
        # Flotilla's settings, each with its default, unit and scope. Remove the # to change one.
        #
        # A flag comes before a variable, a variable before this file. The variable of log.retention.ms is
        # FLOTILLA_LOG_RETENTION_MS. Sizes may be written as 10MiB, times as 7d.
        # Scopes: "node" concerns this broker and is read at its start. "cluster" and "topic" are starting values that
        # Kafka's tools can change while the brokers run, for all brokers or for one topic.
        # `flotilla config lint FILE` checks a file; `flotilla serve --print-config` shows where each value comes from.

        """

    private static func entry(_ definition: SettingDefinition, named name: String) -> String {
        let when = definition.isLive ? "live" : "restart"
        let value = definition.defaultText ?? definition.sample ?? sample(of: definition.kind)
        let absence = definition.defaultText == nil ? "; none by default" : ""
        return wrapped(definition.documentation)
            + "# \(definition.scope.rawValue), \(when); \(definition.expectation)\(absence)\n"
            + "#\(name) = \(isBare(value) ? value : quoted(value))\n"
    }

    /// A value that a setting without a default might have.
    private static func sample(of kind: SettingKind) -> String {
        switch kind {
        case .bytes: "1GiB"
        case .duration: "7d"
        case .integer: "1"
        case .decimal: "0.5"
        case .boolean: "true"
        case .word(let words): words.first ?? ""
        case .address, .addresses, .addressOrAuto: "localhost:9092"
        case .levels: "info"
        case .text: ""
        }
    }

    /// A setting's name as a key of the file, in quotes where TOML would take a part of it for a
    /// value: `max.connections` is a number, so `max.connections.per.ip` cannot stand beneath it.
    static func key(_ name: String, in table: String? = nil) -> String {
        let relative = table.map { String(name.dropFirst($0.count + 1)) } ?? name
        let isBeneathAnother = SettingTable.definitions.contains { name.hasPrefix($0.name + ".") }
        return isBeneathAnother ? quoted(relative) : relative
    }

    /// Whether TOML wants the value without quotes.
    static func isBare(_ value: String) -> Bool {
        value == "true" || value == "false" || Int64(value) != nil
    }

    /// The text as comment lines of at most 100 characters.
    private static func wrapped(_ text: String) -> String {
        var lines: [String] = []
        var line = "#"
        for word in text.split(separator: " ") {
            if line.count + word.count + 1 > 100 {
                lines.append(line)
                line = "#"
            }
            line += " " + word
        }
        lines.append(line)
        return lines.joined(separator: "\n") + "\n"
    }

    /// The text as a TOML string.
    static func quoted(_ text: String) -> String {
        var quoted = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": quoted += "\\\""
            case "\\": quoted += "\\\\"
            case "\n": quoted += "\\n"
            case "\t": quoted += "\\t"
            default: quoted.unicodeScalars.append(scalar)
            }
        }
        return quoted + "\""
    }
}
