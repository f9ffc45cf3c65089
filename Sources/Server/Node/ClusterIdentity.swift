package import FlotillaCoordination
package import FlotillaEnvironment
package import FlotillaModel
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// Which cluster a data directory belongs to, and how far it has come into it: the file
/// `cluster.json`, beside `broker.json`.
///
/// It is not there before the broker has given its word to anybody. Format: one JSON object, for
/// people to read:
///
/// | key | value |
/// |---|---|
/// | `magic` | `flotilla-cluster` |
/// | `version` | 1; another version is refused |
/// | `broker`, `incarnation` | whose directory this is, as in `broker.json` |
/// | `state` | `agreed`, `founded`, `joining` or `member` |
/// | `cluster` | the cluster's id; empty before it is known |
/// | `epoch` | the creation of this broker's metadata replica; 0 where it is not known yet |
/// | `foundingEpoch` | the creation of the founders' metadata replicas |
/// | `founders` | list of `broker`, `incarnation`, `host`, `port`; an empty host where it founded alone |
/// | `checksum` | CRC32C over all values in this order, each behind its byte count and a colon |
package struct ClusterIdentity: Codable, Hashable {
    static let magic = "flotilla-cluster"
    static let currentVersion = 1
    static let fileName = "cluster.json"

    /// One founder as the file has it.
    struct Founder: Codable, Hashable {
        var broker: Int32
        var incarnation: String
        var host: String
        var port: Int
    }

    /// The states that the file knows; an empty directory has no file.
    enum Stage: String, Codable {
        case agreed
        case founded
        case joining
        case member
    }

    var magic = Self.magic
    var version = Self.currentVersion
    var broker: Int32
    var incarnation: String
    var state: Stage
    var cluster = ""
    var epoch: UInt64 = 0
    var foundingEpoch: UInt64 = 0
    var founders: [Founder] = []
    var checksum: UInt32 = 0

    /// Describes a directory; nil when it is empty, and has no file.
    init?(broker: BrokerID, incarnation: BrokerIncarnation, state: FormationState) {
        self.broker = broker.rawValue
        self.incarnation = incarnation.digits
        switch state {
        case .empty: return nil
        case .agreed: self.state = .agreed
        case .founded: self.state = .founded
        case .joining: self.state = .joining
        case .member(let membership):
            self.state = .member
            epoch = membership.epoch.rawValue
        }
        cluster = state.clusterID ?? ""
        if let list = state.founders {
            foundingEpoch = list.epoch.rawValue
            founders = list.members.map { member in
                Founder(
                    broker: member.broker.rawValue,
                    incarnation: member.incarnation.digits,
                    host: member.address?.host ?? "",
                    port: member.address?.port ?? 0
                )
            }
        }
        checksum = computedChecksum
    }

    // MARK: Meaning

    /// The state that the file means; nil when its values do not fit together.
    var formationState: FormationState? {
        switch state {
        case .agreed: return foundingList.map { .agreed($0) }
        case .founded: return foundingList.map { .founded($0) }
        case .joining: return cluster.isEmpty ? nil : .joining(clusterID: cluster)
        case .member:
            guard let foundingList, !cluster.isEmpty else { return nil }
            return .member(
                ClusterMembership(
                    clusterID: cluster,
                    epoch: CreationEpoch(epoch),
                    founders: foundingList
                )
            )
        }
    }

    private var foundingList: FoundingList? {
        var members: [FoundingMember] = []
        for founder in founders {
            guard let incarnation = BrokerIncarnation(digits: founder.incarnation),
                founder.broker > members.last?.broker.rawValue ?? -1
            else { return nil }
            members.append(
                FoundingMember(
                    broker: BrokerID(founder.broker),
                    incarnation: incarnation,
                    address: founder.host.isEmpty
                        ? nil : NetworkAddress(host: founder.host, port: founder.port)
                )
            )
        }
        return members.isEmpty
            ? nil : FoundingList(members, epoch: CreationEpoch(foundingEpoch))
    }

    // MARK: File

    /// Reads what a directory says.
    ///
    /// A broker that got a new incarnation over old files is not the member that it was: if it had
    /// met a cluster it joins that one anew.
    ///
    /// - Parameters:
    ///   - directory: the data directory.
    ///   - broker: whose it is, by `broker.json`.
    ///   - incarnation: in which life, by `broker.json`.
    ///   - metadataEpoch: the newest creation of a metadata replica that recovery found; nil for
    ///     none. A replica without the file is from before there were clusters of several brokers.
    ///   - disk: where to read.
    /// - Returns: the state to start formation with.
    /// - Throws: `ClusterIdentityError`, or what the disk says.
    package static func read(
        in directory: String,
        broker: BrokerID,
        incarnation: BrokerIncarnation,
        metadataEpoch: CreationEpoch?,
        disk: any Disk
    ) throws -> FormationState {
        let path = "\(directory)/\(fileName)"
        guard try disk.exists(path) else {
            switch metadataEpoch {
            case nil: return .empty
            case FoundingList.loneEpoch?: return .founded(.alone(broker, incarnation))
            case _?: throw ClusterIdentityError.missing(path: path)
            }
        }
        guard let identity = try IdentityFile.read(Self.self, at: path, disk),
            identity.magic == magic
        else { throw ClusterIdentityError.unreadable(path: path) }
        guard identity.version == currentVersion else {
            throw ClusterIdentityError.unsupported(path: path, version: identity.version)
        }
        guard identity.checksum == identity.computedChecksum, let state = identity.formationState
        else { throw ClusterIdentityError.unreadable(path: path) }
        guard identity.broker == broker.rawValue else {
            throw ClusterIdentityError.foreign(path: path, broker: identity.broker)
        }
        guard identity.incarnation != incarnation.digits else { return state }
        guard let clusterID = state.clusterID else {
            throw ClusterIdentityError.foreign(path: path, broker: identity.broker)
        }
        return .joining(clusterID: clusterID)
    }

    /// Writes the state so that it survives a crash as a whole or not at all.
    func write(in directory: String, disk: any Disk) throws {
        try IdentityFile.write(self, to: "\(directory)/\(Self.fileName)", in: directory, disk)
    }

    private var computedChecksum: UInt32 {
        var values = [magic, "\(version)", "\(broker)", incarnation, state.rawValue, cluster]
        values += ["\(epoch)", "\(foundingEpoch)", "\(founders.count)"]
        for founder in founders {
            values += ["\(founder.broker)", founder.incarnation, founder.host, "\(founder.port)"]
        }
        let text = values.map { "\($0.utf8.count):\($0)" }.joined()
        return CRC32C.checksum(ByteBuffer(string: text))
    }
}

/// Why the file `cluster.json` does not let a broker start; each says what to do.
package enum ClusterIdentityError: Error, Hashable, CustomStringConvertible {
    /// It is damaged, or something else.
    case unreadable(path: String)
    /// A newer program wrote it.
    case unsupported(path: String, version: Int)
    /// It was written for another broker, or another life of this one.
    case foreign(path: String, broker: Int32)
    /// The directory belongs to a cluster of several brokers, and the file is gone.
    case missing(path: String)

    /// The reason as a sentence.
    package var description: String {
        switch self {
        case .unreadable(let path):
            "\(path): not a cluster's identity, or damaged; restore it from a backup, or set the "
                + "data directory aside and let the broker join as a new member"
        case .unsupported(let path, let version):
            "\(path): version \(version) is newer than this program knows; start a newer one"
        case .foreign(let path, let broker):
            "\(path): written for broker \(broker) with another broker.json; restore that file, or "
                + "set the data directory aside to start empty"
        case .missing(let path):
            "\(path): missing, although the directory holds the metadata of a cluster; restore it "
                + "from a backup, or set the data directory aside and let the broker join as a new "
                + "member"
        }
    }
}

extension BrokerIdentity {
    /// What the broker's data directory says of its cluster; see `ClusterIdentity.read`.
    func clusterState(
        in directory: String,
        _ disk: any Disk,
        metadataEpoch: CreationEpoch? = nil
    ) throws -> FormationState {
        try ClusterIdentity.read(
            in: directory,
            broker: BrokerID(broker),
            incarnation: parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0),
            metadataEpoch: metadataEpoch,
            disk: disk
        )
    }
}
