/// A setting and its value.
package struct ConfigEntry: Hashable, Sendable {
    /// The name, as Kafka spells it.
    package var name: String
    /// The value as text.
    package var value: String

    /// Pairs a setting with a value.
    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// A change of a setting: a new value, or nil for "back to the default".
package struct ConfigChange: Hashable, Sendable {
    /// The name, as Kafka spells it.
    package var name: String
    /// The new value as text; nil removes what is set.
    package var value: String?

    /// Pairs a setting with its new value.
    package init(_ name: String, _ value: String?) {
        self.name = name
        self.value = value
    }
}

/// Settings that are set, sorted by name.
package struct ConfigValues: Hashable, Sendable, ExpressibleByDictionaryLiteral {
    /// The settings; names ascend.
    package private(set) var entries: [ConfigEntry] = []

    /// Nothing set.
    package init() {}

    /// Settings as a literal; the last of one name counts.
    package init(dictionaryLiteral elements: (String, String)...) {
        for (name, value) in elements {
            self[name] = value
        }
    }

    /// Whether nothing is set.
    package var isEmpty: Bool {
        entries.isEmpty
    }

    /// A setting's value; nil when it is not set, and setting nil removes it.
    package subscript(name: String) -> String? {
        get {
            let place = place(of: name)
            return place < entries.count && entries[place].name == name ? entries[place].value : nil
        }
        set {
            let place = place(of: name)
            let isFound = place < entries.count && entries[place].name == name
            switch (newValue, isFound) {
            case (let value?, true): entries[place].value = value
            case (let value?, false): entries.insert(ConfigEntry(name, value), at: place)
            case (nil, true): entries.remove(at: place)
            case (nil, false): break
            }
        }
    }

    /// Makes the changes, one after the other.
    package mutating func apply(_ changes: [ConfigChange]) {
        for change in changes {
            self[change.name] = change.value
        }
    }

    /// The changes that lead from `self` to `target`, by name.
    func changes(to target: ConfigValues) -> [ConfigChange] {
        let removed = entries.filter { target[$0.name] == nil }.map { ConfigChange($0.name, nil) }
        let set = target.entries.filter { self[$0.name] != $0.value }.map {
            ConfigChange($0.name, $0.value)
        }
        return (removed + set).sorted { $0.name < $1.name }
    }

    private func place(of name: String) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].name < name {
                low = middle + 1
            } else {
                high = middle
            }
        }
        return low
    }
}
