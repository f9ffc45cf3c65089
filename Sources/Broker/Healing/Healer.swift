import DequeModule
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaReplication
import FlotillaStorage

/// Heals the damaged replicas of a shard: from what is left of their entries, then from the peers that have them.
///
/// Damage costs no vote: the replica goes on in its group while it is healed, and only leadership is offered to others.
/// What nobody has stays damaged: it is told, everything around it is served, and the peers are asked again later. A replica
/// that others can do without, and that cannot be healed in its place, gives way to a new member.
final class Healer {
    unowned let shard: Shard
    private var patients: [GroupID: Patient] = [:]
    private var waiting = Deque<GroupID>()
    private var treatedCount = 0
    var questions: [UInt64: Question] = [:]
    var lastQuestion: UInt64
    /// Answers to peers that wait for the disk.
    var answeringCount = 0

    /// How many replicas of a shard are healed at a time.
    private static let treatmentLimit = 2
    /// The most bytes of a peer's entries that one treatment holds: a segment of the default size, frames and all.
    private static let gatheringByteLimit = 192 << 20
    /// How many treatments in a row must have failed before a new member takes a replica's place.
    private static let hopelessLimit = 2
    /// How soon a log that is busy is looked at again.
    static let busyDelay = Duration.milliseconds(20)

    init(shard: Shard) {
        self.shard = shard
        // An answer to an earlier life of this broker is not to pass for one to this life.
        var random = SeededRandom(seed: shard.settings.seed &+ UInt64(shard.index))
        lastQuestion = random.next()
    }

    // MARK: What is known

    /// Whether a replica is being healed, so that nothing else should read its files from end to end.
    func isTreating(_ group: GroupID) -> Bool {
        if case .treated = patients[group]?.stage { true } else { false }
    }

    /// The damaged ranges of all replicas.
    var damagedRangeCount: Int { patients.values.reduce(0) { $0 + $1.damage.count } }

    /// The replicas with ranges that no replica of their groups has, in order.
    var lost: [GroupID] {
        patients.values.filter(\.isLost).map(\.group).sorted()
    }

    // MARK: Patients

    /// A replica may have damage: whoever finds some calls this, as often as it likes.
    func look(at group: GroupID) {
        if let patient = patients[group] {
            if case .resting = patient.stage, patient.hasNewDamage { wake(patient) }
            return
        }
        guard let writer = shard.segmentWriter(of: group) else { return }
        let patient = Patient(writer)
        guard !patient.damage.isEmpty else { return }
        patients[group] = patient
        queue(group)
    }

    private func queue(_ group: GroupID) {
        waiting.append(group)
        // Damage is found in the middle of a read or of a replica's step: it is dealt with when that has ended.
        shard.schedule(after: .zero) { [unowned self] in self.admit() }
    }

    private func admit() {
        while treatedCount < Self.treatmentLimit, let group = waiting.popFirst() {
            guard let patient = patients[group], case .waiting = patient.stage else { continue }
            patient.beginTreatment()
            treatedCount += 1
            proceed(patient)
        }
    }

    private func wake(_ patient: Patient) {
        patient.becomeDue()
        patient.stage = .waiting
        queue(patient.group)
    }

    /// A broker answers again: what it may have is asked for once more.
    func peerCame(_ broker: BrokerID) {
        for (_, patient) in patients.sorted(by: { $0.key < $1.key }) {
            guard case .resting = patient.stage,
                patient.replica.membership.contains(broker: broker)
            else { continue }
            wake(patient)
        }
    }

    // MARK: Treatment

    /// The next step of a treatment.
    func proceed(_ patient: Patient) {
        guard isThere(patient) else { return dismiss(patient) }
        if let repair = patient.log.nextStateRepair() {
            return heal(patient, by: { repair.perform() }) { [unowned self] result in
                self.finish(result, of: patient)
                self.proceed(patient)
            }
        }
        guard let damage = patient.nextDamage else { return end(patient) }
        if let name = patient.log.segmentState(of: damage) {
            askForState(name, damage, of: patient, peers(of: patient))
        } else if damage.reason == .state {
            replaceCheckpoint(damage, of: patient, attemptCount: 0)
        } else if patient.log.liesInSegment(damage) {
            repair(damage, of: patient, with: []) { [unowned self] outcome in
                self.gather(outcome, damage, of: patient)
            }
        } else {
            passOver(damage, of: patient)
            proceed(patient)
        }
    }

    /// No segment has a place for what is lost.
    private func passOver(_ damage: Damage, of patient: Patient) {
        patient.giveUp(on: [damage])
        let isAtEnd = damage.indexes.map { $0.upperBound > patient.log.writtenIndex } ?? false
        if patient.replica.membership.allMembers == [patient.replica.member] {
            patient.lacksSomething = true
        } else if isAtEnd {
            // The leader sends it, as it sends what is new.
            patient.hasSilentPeer = true
        } else {
            patient.hasLostItsPlace = true
        }
    }

    /// Ends a treatment: the replica is sound, or waits for the next.
    private func end(_ patient: Patient) {
        treatedCount -= 1
        if patient.healedCount > 0 {
            shard.environment.log(.healed(patient.group, rangeCount: patient.healedCount))
        }
        if patient.damage.isEmpty, !patient.isBeyondHealing {
            patients[patient.group] = nil
        } else {
            rest(patient)
        }
        if patient.isBeyondHealing {
            patient.hopelessCount += 1
            offerLeadership(patient)
        }
        if needsSuccessor(patient) { shard.renew(patient.group) }
        admit()
    }

    /// Whether a new member shall still take a replica's place.
    func needsSuccessor(_ group: GroupID) -> Bool {
        patients[group].map(needsSuccessor) ?? false
    }

    /// Whether a new member shall take a replica's place, since this one cannot be healed.
    ///
    /// Somebody else must serve, and what is damaged here be sound there, so that there is a log to copy. All others must be
    /// there, since until the new member has caught up there is one voter fewer. The metadata's group has no other place.
    private func needsSuccessor(_ patient: Patient) -> Bool {
        guard patient.isBeyondHealing, patient.hopelessCount >= Self.hopelessLimit,
            !patient.hasSilentPeer, !patient.hasDamagedPeer,
            patient.group.partition != .clusterMetadata,
            let leader = shard.leadership.leader(of: patient.group.partition)?.leader
        else { return false }
        let others = patient.replica.membership.allMembers.filter { $0 != patient.replica.member }
        return leader != shard.settings.broker
            && others.allSatisfy { shard.isReachable($0.broker) }
    }

    private func rest(_ patient: Patient) {
        let known = patient.leftDamage
        let wasLost = patient.isLost
        let delay = patient.rest(now: shard.now)
        if patient.leftDamage != known || patient.isLost != wasLost {
            let description = patient.leftDamage.map(\.description).joined(separator: "; ")
            shard.environment.log(
                .unhealed(patient.group, description: description, isLost: patient.isLost)
            )
        }
        shard.schedule(after: delay) { [weak self, weak patient] in
            guard let self, let patient, case .resting(let until) = patient.stage,
                until <= self.shard.now
            else { return }
            patient.stage = .waiting
            self.queue(patient.group)
        }
    }

    /// Whether a patient can still be healed: its replica is here, with the log that has the damage.
    func isThere(_ patient: Patient) -> Bool {
        shard.replica(patient.group) === patient.replica && !patient.replica.hasFailed
            && patient.replica.log === patient.log && !shard.isStopping
    }

    /// The damaged log is not here any more: files of its leader took its place, or the replica was closed.
    func forget(_ group: GroupID) {
        guard let patient = patients[group] else { return }
        // A treatment under way ends with its next step.
        if case .treated = patient.stage { return }
        patients[group] = nil
    }

    /// Ends the treatment of a replica that is not here any more.
    func dismiss(_ patient: Patient) {
        treatedCount -= 1
        patient.writer.isHeldBack = false
        patients[patient.group] = nil
        admit()
    }

    /// Does a part of the healing on a worker.
    func heal<Output: Sendable>(
        _ patient: Patient,
        by work: @escaping @Sendable () -> Output,
        then completion: @escaping (Output) -> Void
    ) {
        let writer = patient.writer
        writer.tendingBegan()
        shard.workers.runInBackground(work) { [unowned self] output in
            guard writer.tendingEnded() else { return self.dismiss(patient) }
            completion(output)
        }
    }

    /// The members that may have what a replica lacks; whom to ask first differs from broker to broker.
    func peers(of patient: Patient) -> [GroupMember] {
        let others = patient.replica.membership.allMembers.filter { $0 != patient.replica.member }
        let reachable = others.filter { shard.isReachable($0.broker) }.sorted()
        if reachable.count < others.count { patient.hasSilentPeer = true }
        let own = patient.replica.member
        return reachable.filter { own < $0 } + reachable.filter { $0 < own }
    }

    func complain(_ error: StorageError, of patient: Patient) {
        if case .syncFailed = error { shard.environment.fail(error) }
        shard.environment.log(
            .retrying(what: "repair of \(patient.group)", description: error.description)
        )
    }

    // MARK: Segments

    /// What became of a repair.
    private enum Outcome {
        case done(RepairReport)
        /// The entries do not belong there.
        case refused
        /// The disk did not do it.
        case failed

        var isRefused: Bool { if case .refused = self { true } else { false } }
    }

    /// Has a segment healed from what is left of it and from these entries.
    private func repair(
        _ damage: Damage,
        of patient: Patient,
        with entries: [LogEntry],
        then completion: @escaping (Outcome) -> Void
    ) {
        guard isThere(patient) else { return dismiss(patient) }
        guard let repair = patient.log.nextRepair(of: damage, with: entries) else {
            // A write or a step of a scrub is under way; the next write lets the repair go first.
            patient.writer.isHeldBack = true
            shard.schedule(after: Self.busyDelay) { [unowned self] in
                self.repair(damage, of: patient, with: entries, then: completion)
            }
            return
        }
        let before = patient.log.damage.count
        heal(patient, by: { repair.perform() }) { [unowned self] result in
            patient.writer.isHeldBack = false
            do throws(StorageError) {
                let report = try patient.log.finish(result)
                // A file that was gone and held nothing is healed though no row changed.
                let count = max(before - patient.log.damage.count, report.healedCount > 0 ? 1 : 0)
                if count > 0 { self.noteHealed(count, of: patient) }
                completion(.done(report))
            } catch {
                self.complain(error, of: patient)
                if case .repairRefused = error { completion(.refused) } else { completion(.failed) }
            }
        }
    }

    func noteHealed(_ count: Int, of patient: Patient) {
        patient.healedCount += count
        shard.counters.repairs += count
        patient.replica.repaired()
    }

    /// What cannot be made again from what is left is asked of peers, one stretch after the other.
    private func gather(_ outcome: Outcome, _ damage: Damage, of patient: Patient) {
        guard case .done(let report) = outcome else {
            patient.hasSilentPeer = true
            patient.giveUp(on: [damage])
            return proceed(patient)
        }
        guard let place = report.remaining.first else {
            // What reaches beyond the segment is not healed by it: without this it would be next again, for ever.
            if patient.log.damage.contains(damage) { passOver(damage, of: patient) }
            return proceed(patient)
        }
        let wanted = report.wanted
        if wanted.isEmpty {
            patient.lacksSomething = true
            patient.giveUp(on: report.remaining)
        } else {
            offerLeadership(patient)
        }
        gather(wanted[...], place, of: patient)
    }

    private func gather(
        _ wanted: ArraySlice<ClosedRange<LogIndex>>,
        _ place: Damage,
        of patient: Patient
    ) {
        guard let range = wanted.first else { return proceed(patient) }
        let gathering = EntryGathering(
            range,
            from: peers(of: patient),
            byteLimit: Self.gatheringByteLimit
        )
        go(on: gathering, place, of: patient) { [unowned self] in
            self.gather(wanted.dropFirst(), place, of: patient)
        }
    }

    private func go(
        on gathering: EntryGathering,
        _ place: Damage,
        of patient: Patient,
        then completion: @escaping () -> Void
    ) {
        var gathering = gathering
        switch gathering.step() {
        case .ask(let member, let indexes):
            let wish = { (number: UInt64) in
                RepairMessage.entriesWanted(
                    number: number,
                    indexes,
                    maxByteCount: Self.pieceByteCount
                )
            }
            ask(member, for: patient.replica, wish) { [unowned self] answer in
                switch answer {
                case .entries(_, let entries): _ = gathering.take(entries)
                case .declined(_, .absent, let next):
                    gathering.decline(next: next)
                case .declined(_, .damaged, let next):
                    patient.hasDamagedPeer = true
                    gathering.decline(next: next)
                case .declined(_, .busy, _), .state, .entriesWanted, .stateWanted, nil:
                    gathering.timeOut()
                }
                self.go(on: gathering, place, of: patient, then: completion)
            }
        case .give(let entries):
            repair(place, of: patient, with: entries) { [unowned self] outcome in
                if case .failed = outcome { patient.hasSilentPeer = true }
                gathering.given(isRefused: outcome.isRefused)
                self.go(on: gathering, place, of: patient, then: completion)
            }
        case .finished:
            if gathering.hasSilentPeer { patient.hasSilentPeer = true }
            if !gathering.missing.isEmpty { patient.lacksSomething = true }
            let left = patient.log.damage.filter { $0.touches(gathering.range) }
            if gathering.wasRefused, !left.isEmpty { patient.hasLostItsPlace = true }
            patient.giveUp(on: left)
            completion()
        }
    }

    /// A leader that lacks records is of less use than another: it is offered to step down, once for what was found.
    private func offerLeadership(_ patient: Patient) {
        guard patient.replica.isServing, !patient.hasOfferedLeadership else { return }
        patient.hasOfferedLeadership = true
        patient.replica.transferLeadership(to: nil)
    }
}

extension Damage {
    /// Whether entries of a range are touched.
    fileprivate func touches(_ range: ClosedRange<LogIndex>) -> Bool {
        indexes.map { $0.overlaps(range) } ?? false
    }
}
