import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel

/// ApiVersions (18): what this broker serves.
///
/// PROTOCOL section 4.
enum ApiVersionsHandler {
    /// The answer to a version that is too new: version 0, with everything the client needs to try again.
    static var versionTooNew: ApiVersionsResponse {
        ApiVersionsResponse(errorCode: ErrorCode.unsupportedVersion.rawValue, apiKeys: ranges)
    }

    /// The feature by which clients know that groups may use the consumer protocol, at level 1.
    static let groupFeature = "group.version"
    /// The APIs of the consumer protocol.
    static let consumerProtocol = [
        APIKey.consumerGroupHeartbeat.rawValue, APIKey.consumerGroupDescribe.rawValue,
    ]

    /// What is announced, ascending by key.
    static let ranges: [ApiVersionsResponse.ApiVersion] = ServedAPIs.all.map { entry in
        ApiVersionsResponse.ApiVersion(
            apiKey: entry.api.rawValue,
            minVersion: entry.versions.lowerBound,
            maxVersion: entry.versions.upperBound
        )
    }

    /// Whether a software name or version is one that Kafka accepts: letters, digits, and within them `-` and `.`.
    static func isValidSoftware(_ text: String) -> Bool {
        func isAlphanumeric(_ byte: UInt8) -> Bool {
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte)
                || (0x61...0x7A).contains(byte)
        }
        let bytes = text.utf8
        guard let first = bytes.first, let last = bytes.last, isAlphanumeric(first),
            isAlphanumeric(last)
        else { return false }
        return bytes.allSatisfy {
            isAlphanumeric($0) || $0 == UInt8(ascii: "-") || $0 == UInt8(ascii: ".")
        }
    }
}

extension Shard {
    func handle(_ request: ApiVersionsRequest, _ context: RequestContext) {
        if context.version >= 3 {
            guard ApiVersionsHandler.isValidSoftware(request.clientSoftwareName),
                ApiVersionsHandler.isValidSoftware(request.clientSoftwareVersion)
            else {
                return context.respond(
                    ApiVersionsResponse(errorCode: ErrorCode.invalidRequest.rawValue)
                )
            }
            context.connection.software = ClientSoftware(
                name: request.clientSoftwareName,
                version: request.clientSoftwareVersion
            )
        }
        guard config.isConsumerProtocolServed else {
            let ranges = ApiVersionsHandler.ranges.filter {
                !ApiVersionsHandler.consumerProtocol.contains($0.apiKey)
            }
            return context.respond(ApiVersionsResponse(apiKeys: ranges))
        }
        // Version 3 must not have features that begin at level 0 (KIP-584).
        let supported = ApiVersionsResponse.SupportedFeatureKey(
            name: ApiVersionsHandler.groupFeature,
            minVersion: 0,
            maxVersion: 1
        )
        context.respond(
            ApiVersionsResponse(
                apiKeys: ApiVersionsHandler.ranges,
                supportedFeatures: context.version >= 4 ? [supported] : [],
                finalizedFeaturesEpoch: 0,
                finalizedFeatures: [
                    .init(
                        name: ApiVersionsHandler.groupFeature,
                        maxVersionLevel: 1,
                        minVersionLevel: 1
                    )
                ]
            )
        )
    }
}
