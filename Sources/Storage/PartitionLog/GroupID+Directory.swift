package import FlotillaModel

extension GroupID {
    /// The replica that a directory of this name belongs to: `<topic id>-<partition>.<epoch>`.
    package init?(directoryName name: String) {
        // The topic id is base64url and may hold dashes itself: the last one separates.
        guard let dash = name.lastIndex(of: "-"), let dot = name.lastIndex(of: "."), dash < dot,
            let topic = TopicID(String(name[..<dash])),
            let partition = Int32(name[name.index(after: dash)..<dot]), partition >= 0,
            let epoch = UInt64(name[name.index(after: dot)...])
        else { return nil }
        self.init(
            partition: TopicPartition(topic: topic, partition: partition),
            epoch: CreationEpoch(epoch)
        )
    }
}
