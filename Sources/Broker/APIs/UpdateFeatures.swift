import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// UpdateFeatures (57): the cluster has one level, under Kafka's name for it. SEMANTICS rule ADM-7.
extension Shard {
    /// The only feature.
    static let featureName = "metadata.version"

    func handle(_ request: UpdateFeaturesRequest, _ context: RequestContext) {
        guard !request.featureUpdates.isEmpty else {
            return respond(request, context, Refusal(.invalidRequest, "no feature is named"))
        }
        for update in request.featureUpdates where update.feature != Self.featureName {
            let refusal = Refusal(
                .invalidUpdateVersion,
                "there is no feature \(update.feature); the only one is \(Self.featureName)"
            )
            return respond(request, context, refusal)
        }
        guard request.featureUpdates.count == 1, let update = request.featureUpdates.first else {
            let refusal = Refusal(.invalidRequest, "\(Self.featureName) comes twice")
            return respond(request, context, refusal)
        }
        let command = MetadataCommand.setFeatureLevel(
            update.maxVersionLevel,
            validateOnly: context.version >= 1 && request.validateOnly
        )
        ask(0, .metadata(command)) { [unowned self] reply in
            guard case .metadata(let reply) = reply else {
                preconditionFailure("a command is answered as one")
            }
            switch reply {
            case .done: self.respond(request, context, nil)
            case .refused(let refusal): self.respond(request, context, refusal)
            case .topics, .deletions, .configs, .producerIDs, .registered, .reassignments, .member,
                .index, .quorum:
                preconditionFailure("a feature level is set or refused")
            }
        }
    }

    /// All features of a request are updated or none; versions 0 and 1 say so for each.
    private func respond(
        _ request: UpdateFeaturesRequest,
        _ context: RequestContext,
        _ refusal: Refusal?
    ) {
        let code = (refusal?.code ?? .noError).rawValue
        guard context.version <= 1, !request.featureUpdates.isEmpty else {
            return context.respond(
                UpdateFeaturesResponse(errorCode: code, errorMessage: refusal?.message)
            )
        }
        context.respond(
            UpdateFeaturesResponse(
                errorMessage: nil,
                results: request.featureUpdates.map { update in
                    .init(
                        feature: update.feature,
                        errorCode: code,
                        errorMessage: refusal?.message
                    )
                }
            )
        )
    }
}
