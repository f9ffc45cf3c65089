import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaRecords
import struct NIOCore.ByteBuffer

/// Who this data directory belongs to: the file `broker.json`.
///
/// Format: one JSON object, for people to read:
///
/// | key | value |
/// |---|---|
/// | `magic` | `flotilla-broker` |
/// | `version` | 1; another version is refused |
/// | `broker` | the broker's id |
/// | `incarnation` | 32 hexadecimal digits, chosen when the directory was made |
/// | `checksum` | CRC32C over the text `<magic>/<version>/<broker>/<incarnation>` |
struct BrokerIdentity: Codable, Hashable {
    static let magic = "flotilla-broker"
    static let currentVersion = 1

    var magic = Self.magic
    var version = Self.currentVersion
    var broker: Int32
    var incarnation: String
    var checksum: UInt32 = 0

    init(broker: BrokerID, incarnation: BrokerIncarnation) {
        self.broker = broker.rawValue
        self.incarnation = incarnation.digits
        checksum = computedChecksum
    }

    /// The incarnation as two numbers; nil for text that is none.
    var parsedIncarnation: BrokerIncarnation? {
        BrokerIncarnation(digits: incarnation)
    }

    /// Reads the file, or makes it with the id that is wanted.
    ///
    /// `wanted`: the configured id; nil takes what the directory has, or 1.
    static func establish(
        in directory: String,
        wanted: BrokerID?,
        disk: any Disk,
        random: inout some RandomNumberGenerator
    ) throws -> BrokerIdentity {
        let path = "\(directory)/broker.json"
        if try disk.exists(path) {
            let identity = try read(path, disk)
            if let wanted, wanted.rawValue != identity.broker {
                throw StartError.otherBroker(
                    path: path,
                    found: identity.broker,
                    wanted: wanted.rawValue
                )
            }
            return identity
        }
        let incarnation = BrokerIncarnation(high: random.next(), low: random.next())
        let identity = BrokerIdentity(broker: wanted ?? BrokerID(1), incarnation: incarnation)
        try IdentityFile.write(identity, to: path, in: directory, disk)
        return identity
    }

    /// Gives the directory's broker another incarnation.
    static func renew(
        _ identity: BrokerIdentity,
        in directory: String,
        disk: any Disk,
        random: inout some RandomNumberGenerator
    ) throws -> BrokerIdentity {
        let next = BrokerIdentity(
            broker: BrokerID(identity.broker),
            incarnation: BrokerIncarnation(high: random.next(), low: random.next())
        )
        try IdentityFile.write(next, to: "\(directory)/broker.json", in: directory, disk)
        return next
    }

    private static func read(_ path: String, _ disk: any Disk) throws -> BrokerIdentity {
        guard let identity = try IdentityFile.read(Self.self, at: path, disk),
            identity.magic == magic
        else { throw StartError.unreadableIdentity(path: path) }
        guard identity.version == currentVersion else {
            throw StartError.unsupportedIdentity(path: path, version: identity.version)
        }
        guard identity.checksum == identity.computedChecksum, identity.parsedIncarnation != nil
        else {
            throw StartError.unreadableIdentity(path: path)
        }
        return identity
    }

    private var computedChecksum: UInt32 {
        CRC32C.checksum(ByteBuffer(string: "\(magic)/\(version)/\(broker)/\(incarnation)"))
    }
}

/// Why a broker does not start; each says what to do.
package enum StartError: Error, Hashable, CustomStringConvertible {
    case otherBroker(path: String, found: Int32, wanted: Int32)
    case unreadableIdentity(path: String)
    case unsupportedIdentity(path: String, version: Int)
    case notReady(String)
    case metadataUnusable(String, isAlone: Bool)
    case notAdmitted(String)
    case removed(Int32)
    case memoryLost(String)
    case recoveryInterrupted(directory: String)
    case noFixedPort

    /// Whether the cluster goes on without this broker for good.
    package var isRemoval: Bool {
        if case .removed = self { true } else { false }
    }

    package var description: String {
        switch self {
        case .otherBroker(let path, let found, let wanted):
            "\(path): this data belongs to broker \(found), and node.id says \(wanted); use the other directory or id"
        case .unreadableIdentity(let path):
            "\(path): not a broker's identity, or damaged; restore it from a backup, or set the directory aside to start empty"
        case .unsupportedIdentity(let path, let version):
            "\(path): version \(version) is newer than this program knows; start a newer one"
        case .notAdmitted(let sentence):
            "the cluster does not take this broker: \(sentence)"
        case .removed(let broker):
            "the cluster has removed broker \(broker), or another directory has its place; to let it join again, set data.dir and "
                + "journal.dir aside and start it empty"
        case .memoryLost(let reason):
            "\(reason). Without it nobody knows what this broker promised. A broker of a cluster that is started with cluster.join "
                + "comes back as a new member; alone, bring the journal back, or accept what may be lost with "
                + "`flotilla cluster recover --unsafe`"
        case .recoveryInterrupted(let directory):
            "\(directory): `flotilla cluster recover --unsafe` was cut short here; run it again"
        case .noFixedPort:
            "brokers of a cluster need fixed ports: set kafka.listeners and peer.listen to other ports than 0"
        case .metadataUnusable(let reason, isAlone: true):
            "the metadata cannot be trusted: \(reason), and there is no other broker to ask; bring data.dir and journal.dir "
                + "back as they were at one moment, or set both aside to start empty"
        case .metadataUnusable(let reason, isAlone: false):
            "the metadata cannot be opened: \(reason); set data.dir and journal.dir aside and start this broker empty: the "
                + "others have all that it had"
        case .notReady(let what):
            "the broker did not become ready: \(what)"
        }
    }
}
