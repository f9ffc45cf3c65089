import FlotillaCoordination
import FlotillaModel

extension Shard {
    /// Shard 0: has the controller decide a command that came from outside, wherever the controller is.
    ///
    /// - Parameters:
    ///   - command: what is asked for, perhaps by a broker that is not connected yet.
    ///   - completion: called once, when the change is committed or refused; within the time that a command has.
    package func decide(
        _ command: MetadataCommand,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        environment.requestTurnEnd()
        perform(command, within: CommandRelay.timeout, then: completion)
    }

    /// Shard 0: has a command decided, unless this broker's own log of the metadata could not be opened.
    func perform(
        _ command: MetadataCommand,
        within patience: Duration,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        precondition(index == 0, "metadata commands go to shard 0")
        guard let metadata else {
            return completion(
                .refused(
                    Refusal(
                        .coordinatorNotAvailable,
                        "the metadata cannot be read on broker \(settings.broker); ask another one"
                    )
                )
            )
        }
        metadata.perform(command, within: patience, then: completion)
    }

    /// Shard 0: whether this broker knows all that was committed when it asked; what it last knew may be years old.
    ///
    /// - Parameters:
    ///   - patience: how long to wait for a leader of the metadata.
    ///   - completion: called once, with false when no leader's word came in time.
    package func confirmMetadata(
        within patience: Duration,
        then completion: @escaping (Bool) -> Void
    ) {
        environment.requestTurnEnd()
        guard let metadata else { return completion(false) }
        metadata.perform(.readIndex, within: patience) { [unowned metadata, unowned self] reply in
            guard case .index(let committed) = reply else { return completion(false) }
            metadata.after(committed) { completion(self.metadataIndex >= committed) }
        }
    }
}
