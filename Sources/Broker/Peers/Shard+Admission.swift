package import FlotillaCoordination
import FlotillaModel

extension Shard {
    /// Shard 0: has the controller register a broker that is not connected yet, wherever the controller is.
    ///
    /// - Parameters:
    ///   - registration: the newcomer as it describes itself.
    ///   - completion: called once, when the registration is committed or refused; within the time that a command has.
    package func admit(
        _ registration: BrokerRegistration,
        then completion: @escaping (MetadataReply) -> Void
    ) {
        decide(.registerBroker(registration), then: completion)
    }

    /// Shard 0: has the controller decide a command that came from outside, wherever the controller is.
    ///
    /// - Parameters:
    ///   - command: what is asked for.
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
