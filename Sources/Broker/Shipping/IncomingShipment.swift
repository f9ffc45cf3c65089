import DequeModule
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaReplication
import FlotillaStorage
import struct NIOCore.ByteBuffer

/// Files that a leader elsewhere sends to a replica here, until they are its log.
///
/// Chunks are written beside the replica's directory, one after the other; when all are there they are verified to the last
/// byte, and then take the old log's place. Until then the old log votes and takes entries, and a crash leaves it as it is.
final class IncomingShipment {
    /// How long nothing arrives before the leader is asked again, as if what it sent were lost.
    static let requestInterval = Duration.seconds(1)
    /// How long nothing arrives before the shipment is given up.
    static let patience = Duration.seconds(20)
    /// How long verified files wait until the replica is at rest.
    static let restPatience = Duration.seconds(60)
    /// How long an installation that the disk refused waits for the next attempt, and how many there are before the replica
    /// is given up; the next start then goes on.
    static let installInterval = Duration.seconds(1)
    static let installLimit = 60

    private enum Phase {
        /// The manifest is awaited.
        case asking
        /// Chunks are.
        case receiving
        /// All is there, and is being verified.
        case verifying
        /// The files wait until they can take the log's place.
        case verified(LogPosition, Membership)
        /// They are taking it.
        case installing
        /// It is over; a job may still be under way.
        case over
    }

    /// Which replica.
    let group: GroupID
    /// Who sends.
    let leader: GroupMember
    private let position: LogPosition
    private let writer: SegmentWriter
    private unowned let shipping: Shipping
    private var phase = Phase.asking
    private var number: UInt64 = 0
    private var staging: ReplicaStaging?
    private var extent: ShipmentExtent?
    /// Chunks that wait for the disk.
    private var queued = Deque<ShipmentChunk>()
    /// The byte behind the last chunk that was taken.
    private var queuedEnd = 0
    /// When something arrived last, or the disk took something.
    private var lastProgress: Instant
    private var lastRequest: Instant
    private var failedInstallations = 0

    init(
        upTo position: LogPosition,
        by leader: GroupMember,
        to writer: SegmentWriter,
        shipping: Shipping
    ) {
        group = writer.replica.group
        self.position = position
        self.leader = leader
        self.writer = writer
        self.shipping = shipping
        lastProgress = shipping.shard.now
        lastRequest = lastProgress
    }

    private var replica: Replica { writer.replica }
    private var shard: Shard { shipping.shard }

    /// Asks for the manifest.
    func begin() {
        request(isRestLost: false)
    }

    // MARK: Asking

    /// The leader offers files once more.
    ///
    /// - Returns: whether they are those that are being received.
    func isOffered(_ position: LogPosition, by leader: GroupMember) -> Bool {
        if position == self.position, leader == self.leader, !isOver {
            request(isRestLost: false)
            return true
        }
        giveUpUnlessComplete()
        return false
    }

    private func request(isRestLost: Bool) {
        lastRequest = shard.now
        shipping.tell(
            .request(
                ShippingRequest(
                    lastIndex: position.index,
                    number: number,
                    receivedByteCount: staging?.receivedByteCount ?? 0,
                    isRestLost: isRestLost
                )
            ),
            to: leader,
            from: group
        )
    }

    // MARK: Receiving

    /// What the shipment consists of.
    func take(_ manifest: ShipmentManifest, number: UInt64) {
        guard case .asking = phase else {
            // The leader has begun anew.
            if number != self.number { giveUp(nil) }
            return
        }
        guard manifest.position == position, number > 0 else { return giveUp(nil) }
        self.number = number
        lastProgress = shard.now
        staging = ReplicaStaging(
            group: group,
            directory: shard.settings.dataDirectory,
            disk: shard.resources.disk,
            manifest: manifest
        )
        extent = ShipmentExtent(manifest)
        phase = .receiving
        request(isRestLost: false)
    }

    /// A part of it; one that is not the next is dropped, and asked for again later.
    func take(_ chunk: ShipmentChunk, number: UInt64) {
        guard case .receiving = phase, number == self.number, let staging,
            extent?.byte(of: chunk.place) == queuedEnd
        else { return }
        let byteCount = chunk.bytes.readableBytes
        guard queuedEnd + byteCount - staging.receivedByteCount <= ShipmentFlow.windowByteCount
        else { return }
        queued.append(chunk)
        queuedEnd += byteCount
        lastProgress = shard.now
        writeNext()
    }

    private func writeNext() {
        guard case .receiving = phase, let staging, !staging.isBusy,
            let chunk = queued.popFirst()
        else { return }
        do throws(StorageError) {
            let write = try staging.take(chunk)
            shard.workers.runInBackground({ write.perform() }) { [self] result in
                do throws(StorageError) {
                    try staging.finish(result)
                    written(chunk.bytes.readableBytes)
                } catch {
                    jobFailed(error)
                }
            }
        } catch {
            giveUp(error)
        }
    }

    private func written(_ byteCount: Int) {
        guard case .receiving = phase else { return settle() }
        lastProgress = shard.now
        shard.counters.receivedByteCount += byteCount
        request(isRestLost: false)
        guard staging?.wanted == nil else { return writeNext() }
        phase = .verifying
        verifyNext()
    }

    // MARK: Verifying

    private func verifyNext() {
        guard case .verifying = phase, let staging else { return settle() }
        guard let check = staging.nextCheck() else {
            guard let (position, membership) = staging.verified else {
                preconditionFailure("what needs no check any more is verified")
            }
            phase = .verified(position, membership)
            return installIfReady()
        }
        shard.workers.runInBackground({ check.perform() }) { [self] result in
            do throws(StorageError) {
                try staging.finish(result)
                lastProgress = shard.now
                verifyNext()
            } catch {
                jobFailed(error)
            }
        }
    }

    // MARK: Installing

    private func installIfReady() {
        guard case .verified(let position, let membership) = phase else { return }
        switch replica.readiness(forFilesUpTo: position) {
        case .superfluous: giveUp(nil)
        case .notYet: break
        case .ready where writer.isBusy || writer.isTended || writer.isRetired: break
        case .ready:
            phase = .installing
            replica.beginInstallation(upTo: position)
            install(position, membership)
        }
    }

    private func install(_ position: LogPosition, _ membership: Membership) {
        guard let staging else { preconditionFailure("what is installed was staged") }
        // Nothing is written to the old log any more, and a deletion waits.
        writer.isBusy = true
        let installation = staging.install()
        shard.workers.runInBackground({ installation.perform() }) { [self] result in
            guard writer.jobEnded() else { return over() }
            switch result {
            case .success(let recovered):
                let log = PartitionLog(
                    recovered,
                    resources: shard.resources,
                    configuration: replica.log.configuration
                )
                writer.logWasReplaced()
                over()
                replica.install(log, at: position, with: membership)
                shard.healer.forget(group)
                shard.environment.log(
                    .caughtUpByFiles(group, from: leader.broker, byteCount: extent?.byteCount ?? 0)
                )
            case .failure(let error): retry(position, membership, after: error)
            }
        }
    }

    private func retry(
        _ position: LogPosition,
        _ membership: Membership,
        after error: StorageError
    ) {
        shard.report(error, "installation of received files of \(group)")
        failedInstallations += 1
        guard failedInstallations < Self.installLimit else {
            over()
            return replica.installationFailed(error)
        }
        writer.isBusy = true
        shard.schedule(after: Self.installInterval) { [self] in
            guard writer.jobEnded() else { return over() }
            install(position, membership)
        }
    }

    // MARK: The end

    /// Asks again, installs what has waited, or gives up.
    func tick() {
        let now = shard.now
        switch phase {
        case .asking, .receiving:
            if now - lastProgress >= Self.patience { return giveUp(nil) }
            guard now - max(lastProgress, lastRequest) >= Self.requestInterval else { return }
            // What the disk has not taken yet is here; what comes behind it is lost.
            if staging?.isBusy != true { request(isRestLost: number > 0) }
        case .verifying, .verified:
            if now - lastRequest >= Self.requestInterval { request(isRestLost: false) }
            installIfReady()
            if case .verified = phase, now - lastProgress >= Self.restPatience { giveUp(nil) }
        case .installing, .over: break
        }
    }

    /// Another leader is known: it makes an offer of its own, if one is needed.
    func leaderIs(_ other: GroupMember?) {
        if let other, other != leader { giveUpUnlessComplete() }
    }

    /// The leader sends no more, or knows nothing of the shipment.
    func wasGivenUp(_ number: UInt64) {
        if number == self.number { giveUpUnlessComplete() }
    }

    private func giveUpUnlessComplete() {
        switch phase {
        case .asking, .receiving: giveUp(nil)
        // What is complete is of use, whoever leads: it is committed.
        case .verifying, .verified, .installing, .over: break
        }
    }

    private var isOver: Bool {
        if case .over = phase { true } else { false }
    }

    private func jobFailed(_ error: StorageError) {
        if case .over = phase {
            if case .syncFailed = error { shard.environment.fail(error) }
            return settle()
        }
        giveUp(error)
    }

    /// Ends without success: what was received is thrown away.
    func giveUp(_ error: StorageError?) {
        switch phase {
        case .installing, .over: return
        case .asking, .receiving, .verifying, .verified: break
        }
        if let error { shard.report(error, "files received for \(group)") }
        phase = .over
        queued.removeAll()
        shipping.tell(.end(number: number), to: leader, from: group)
        replica.filesAbandoned()
        settle()
    }

    /// Throws away what was received as soon as no job is under way.
    private func settle() {
        guard case .over = phase, let staging else { return over() }
        guard !staging.isBusy else { return }
        let discard = staging.discard()
        self.staging = nil
        shard.workers.runInBackground({ discard.perform() }) { [self] result in
            // What could not be removed goes at the next start, or with the next shipment.
            if case .failure(let error) = result {
                shard.report(.disk(error), "removal of received files of \(group)")
            }
            over()
        }
    }

    private func over() {
        phase = .over
        staging = nil
        shipping.ended(self)
    }
}
