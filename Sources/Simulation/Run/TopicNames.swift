import FlotillaBroker
import FlotillaCoordination
import FlotillaModel

/// Puts the names of topics in the place of their ids, in lines for people.
///
/// `words-0.3` is then the third creation of partition 0 of the topic `words`.
final class TopicNames {
    private unowned let world: World
    private let topics: TopicDirectory
    /// Looked up once for each id that was met.
    private var known: [String: String] = [:]

    /// The characters of an id.
    private static let idLength = 22

    init(world: World, topics: TopicDirectory) {
        self.world = world
        self.topics = topics
    }

    /// The line with names.
    func named(_ line: String) -> String {
        var result = ""
        var rest = line[...]
        while let start = rest.firstIndex(where: Self.isPartOfID) {
            result += rest[..<start]
            let word = rest[start...].prefix(while: Self.isPartOfID)
            let (id, tail) = (word.prefix(Self.idLength), word.dropFirst(Self.idLength))
            if id.count == Self.idLength, let name = name(String(id)) {
                result += name + tail
            } else {
                result += word
            }
            rest = rest[word.endIndex...]
        }
        return result + rest
    }

    private static func isPartOfID(_ character: Character) -> Bool {
        character.isASCII
            && (character.isLetter || character.isNumber || character == "-" || character == "_")
    }

    private func name(_ id: String) -> String? {
        if let name = known[id] { return name }
        let found =
            id == TopicPartition.clusterMetadata.topic.description
            ? "metadata"
            : topics.topics.first { $0.id.description == id }?.name ?? nameAtBrokers(id)
        if let found { known[id] = found }
        return found
    }

    /// Topics that a workload made for itself, and the broker's own.
    private func nameAtBrokers(_ id: String) -> String? {
        for shard in world.brokers.flatMap(\.shards) {
            for (name, topic) in shard.image.topics.entries() where topic.id.description == id {
                return name
            }
        }
        return nil
    }
}
