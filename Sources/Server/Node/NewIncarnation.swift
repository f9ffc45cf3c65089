import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage
import Logging
import NIOPosix

/// A broker of a cluster that lost its memory begins another life: the cluster gives it new members in the place of all that it had.
///
/// The old life ends only when a majority of the brokers in the `--join` list has answered, so that a minority at most can lose its
/// memory at a time. A wrong `journal.dir` on more brokers at once so costs a sentence in each log, and no data: nobody gives anything
/// up.
///
/// - Source: DESIGN §3 (Journal); architecture bug 13.
struct NewIncarnation {
    let settings: Settings
    let identity: BrokerIdentity
    let disk: any Disk
    let group: MultiThreadedEventLoopGroup
    let progress: StartProgress
    let logger: Logger

    /// Ends the old life: what is left of its journal is set aside, its replicas' files stay until the metadata has them deleted.
    ///
    /// - Parameter reason: what was lost, as a sentence.
    /// - Returns: who the broker is from now on.
    /// - Throws: `StartError.memoryLost` where no cluster can take the broker in again, what the disk says, and `CancellationError`.
    func begin(reason: String) async throws -> BrokerIdentity {
        let clusterID = try ownCluster(reason)
        try await waitForCluster(clusterID, reason)
        logger.error(
            "this broker begins a new life: it lost its memory, and the cluster copies to it again what it held",
            metadata: .of([.reason: reason])
        )
        var random = SystemRandomNumberGenerator()
        // First of all: under the old incarnation nothing may be promised any more, wherever this is cut short.
        let next = try BrokerIdentity.renew(
            identity,
            in: settings.dataDirectory,
            disk: disk,
            random: &random
        )
        try Journal.beginIncarnation(
            JournalDirectories(
                journal: settings.journalDirectory,
                data: settings.dataDirectory
            ),
            disk: disk,
            newIdentity: { DirectoryID(high: random.next(), low: random.next()) }
        )
        return next
    }

    /// The cluster that the directory belongs to, where other brokers of it can be asked.
    private func ownCluster(_ reason: String) throws -> String {
        let state = try identity.clusterState(in: settings.dataDirectory, disk)
        guard let clusterID = state.clusterID else { throw StartError.memoryLost(reason) }
        guard settings.peerAddress != nil, !settings.joinList.isEmpty else {
            throw StartError.memoryLost(reason)
        }
        return clusterID
    }

    // MARK: The cluster

    /// How long a seed may take to answer, and the time between two rounds.
    private static let timeout = Duration.seconds(1)
    private static let pause = Duration.milliseconds(250)

    private func waitForCluster(_ clusterID: String, _ reason: String) async throws {
        var report = WaitReport()
        while true {
            let addresses = settings.joinList.addresses
            var silent: [String] = []
            var vouching: Set<BrokerID> = []
            for address in addresses {
                switch try await answer(of: address, clusterID) {
                case .success(let broker): vouching.insert(broker)
                case .failure(let silence): silent.append(silence.sentence)
                }
            }
            // This broker is one of the list at most; of two there is one other.
            let needed = min(addresses.count / 2 + 1, max(addresses.count - 1, 1))
            if vouching.count >= needed { return }
            let waits =
                ["\(reason); \(needed) brokers of the cluster have to answer to take this one in"]
                + silent
            progress.waits(for: waits)
            if let sentence = report.due(waits, at: .now) {
                logger.warning("waiting for the cluster", metadata: .of([.reason: sentence]))
            }
            try await Task.sleep(for: Self.pause)
        }
    }

    /// Why a broker does not vouch for the cluster.
    private struct Silence: Error {
        var sentence: String
    }

    /// The broker at an address, if it vouches for the cluster.
    private func answer(
        of address: NetworkAddress,
        _ clusterID: String
    ) async throws -> Result<BrokerID, Silence> {
        let hello = PeerHello(
            purpose: .question,
            broker: BrokerID(identity.broker),
            incarnation: identity.parsedIncarnation ?? BrokerIncarnation(high: 0, low: 0),
            clusterID: clusterID
        )
        do {
            let answer = try await PeerProbe.ask(address, hello, timeout: Self.timeout, on: group)
            let card = try FormationCard(decoding: answer.body)
            guard card.broker.rawValue != identity.broker else {
                return .failure(Silence(sentence: "\(address) is broker \(card.broker) as well"))
            }
            guard case .member(let membership) = card.state else {
                return .failure(Silence(sentence: "\(address) belongs to no cluster yet"))
            }
            guard membership.clusterID == clusterID else {
                let sentence = "\(address) belongs to cluster \(membership.clusterID)"
                return .failure(Silence(sentence: sentence))
            }
            return .success(card.broker)
        } catch {
            try Task.checkCancellation()
            return .failure(Silence(sentence: "\(error)"))
        }
    }
}

extension StorageError {
    /// Whether it is unknown what the disk holds.
    var isDiskFailure: Bool {
        switch self {
        case .syncFailed, .journalWriteFailed: true
        default: false
        }
    }

    /// Whether the journal of this data directory is gone, or another one lies in its place.
    var isJournalLost: Bool {
        switch self {
        case .journalMissing, .journalForeign, .identityDamaged: true
        default: false
        }
    }
}
