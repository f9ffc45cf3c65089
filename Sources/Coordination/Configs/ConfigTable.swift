/// All settings of one kind, by name.
package struct ConfigTable: Sendable {
    /// The settings, sorted by name.
    package let definitions: [ConfigDefinition]
    /// Names that old tools still set: taken without an error, and forgotten.
    package let ignoredNames: [String]

    private let byName: SortedTable<String, ConfigDefinition>

    init(_ definitions: [ConfigDefinition], ignoredNames: [String] = []) {
        var byName = SortedTable<String, ConfigDefinition>()
        for definition in definitions {
            precondition(byName[definition.name] == nil, "a setting is defined once")
            byName[definition.name] = definition
        }
        self.byName = byName
        self.definitions = byName.map { $0.value }
        self.ignoredNames = ignoredNames
    }

    /// The setting of this name.
    package func definition(_ name: String) -> ConfigDefinition? {
        byName[name]
    }

    /// The setting of this name; nil for a name that is taken and forgotten.
    ///
    /// - Throws: `.unknownConfig`, with the name most like it.
    package func expect(_ name: String) throws(CoordinationError) -> ConfigDefinition? {
        if let definition = byName[name] {
            return definition
        }
        guard ignoredNames.contains(name) else {
            throw .unknownConfig(name: name, nearest: nearest(to: name))
        }
        return nil
    }

    /// Checks values and gives them in their one spelling, without names that are taken and forgotten.
    ///
    /// - Throws: `.unknownConfig` or `.invalidConfig`, for the first that is wrong.
    package func validated(_ entries: [ConfigEntry]) throws(CoordinationError) -> ConfigValues {
        var values = ConfigValues()
        for entry in entries {
            guard let definition = try expect(entry.name) else { continue }
            values[entry.name] = try definition.canonical(entry.value)
        }
        return values
    }

    /// The name that a person may have meant; nil when none is like it.
    package func nearest(to name: String) -> String? {
        // A slip or two, or a third of the name: more than that is another word.
        let limit = max(2, name.count / 3)
        guard name.count <= EditDistance.maximumCharacterCount else { return nil }
        var best: (distance: Int, name: String)?
        for definition in definitions {
            let distance = EditDistance.between(name, definition.name)
            if distance <= limit, distance < best?.distance ?? Int.max {
                best = (distance, definition.name)
            }
        }
        return best?.name
    }
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour to get from one word to the other.
///
/// - Source: the optimal string alignment form of Damerau (1964).
package enum EditDistance {
    /// Longer words are not compared: the time grows with the product of the lengths.
    package static let maximumCharacterCount = 128

    /// The distance between two words.
    package static func between(_ left: String, _ right: String) -> Int {
        let left = Array(left)
        let right = Array(right)
        guard !left.isEmpty, !right.isEmpty else { return max(left.count, right.count) }
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for row in 1...left.count {
            var current = [row]
            for column in 1...right.count {
                let isSame = left[row - 1] == right[column - 1]
                var distance = min(
                    last[column] + 1,
                    current[column - 1] + 1,
                    last[column - 1] + (isSame ? 0 : 1)
                )
                if row > 1, column > 1, left[row - 1] == right[column - 2],
                    left[row - 2] == right[column - 1]
                {
                    distance = min(distance, beforeLast[column - 2] + 1)
                }
                current.append(distance)
            }
            beforeLast = last
            last = current
        }
        return last[right.count]
    }
}
