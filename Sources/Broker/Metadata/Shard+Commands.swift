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
        metadata.perform(command, then: completion)
    }
}
