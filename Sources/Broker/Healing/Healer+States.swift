import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

// A segment's state comes from the replay or from a peer; a checkpoint's from the replica itself.

extension Healer {
    /// How often at most a checkpoint that is to replace a damaged one is waited for.
    private static let checkpointAttemptLimit = 100

    /// Takes in a state that was made again.
    func finish(_ result: StateRepairResult, of patient: Patient) {
        do throws(StorageError) {
            try patient.log.finish(result)
            noteHealed(1, of: patient)
        } catch {
            complain(error, of: patient)
        }
    }

    /// Asks one peer after the other for a segment's state.
    func askForState(
        _ name: SegmentName,
        _ damage: Damage,
        of patient: Patient,
        _ peers: [GroupMember]
    ) {
        guard let member = peers.first else {
            patient.lacksSomething = true
            patient.giveUp(on: [damage])
            return proceed(patient)
        }
        let goOn = { [unowned self] in
            self.askForState(name, damage, of: patient, Array(peers.dropFirst()))
        }
        let wish = { (number: UInt64) in RepairMessage.stateWanted(number: number, name) }
        ask(member, for: patient.replica, wish) { [unowned self] answer in
            switch answer {
            case .state(_, let bytes):
                guard let repair = patient.log.stateRepair(of: damage, from: bytes) else {
                    return goOn()
                }
                self.heal(patient, by: { repair.perform() }) { result in
                    self.finish(result, of: patient)
                    if patient.log.damage.contains(damage) { goOn() } else { self.proceed(patient) }
                }
            case .declined(_, .absent, _), .declined(_, .damaged, _):
                goOn()
            case .declined(_, .busy, _), .entries, .entriesWanted, .stateWanted, nil:
                patient.hasSilentPeer = true
                goOn()
            }
        }
    }

    /// A damaged checkpoint is healed by the next one, which takes its place.
    func replaceCheckpoint(_ damage: Damage, of patient: Patient, attemptCount: Int) {
        guard shard.replica(patient.group) === patient.replica, !shard.isStopping else {
            return dismiss(patient)
        }
        guard patient.log.damage.contains(damage) else {
            noteHealed(1, of: patient)
            return proceed(patient)
        }
        // A replica that cannot apply writes none; when it is healed it does.
        guard attemptCount < Self.checkpointAttemptLimit, patient.replica.obstacle == nil else {
            patient.giveUp(on: [damage])
            return proceed(patient)
        }
        if attemptCount == 0 {
            patient.replica.provideCheckpoint()
            shard.requestSync(patient.writer)
        }
        let goOn = { [unowned self] in
            self.replaceCheckpoint(damage, of: patient, attemptCount: attemptCount + 1)
        }
        guard !patient.writer.isBusy, let sync = patient.log.nextSync() else {
            shard.schedule(after: Self.busyDelay, goOn)
            return
        }
        heal(patient, by: { sync.perform() }) { [unowned self] result in
            do throws(StorageError) {
                try patient.log.finish(result)
            } catch {
                self.complain(error, of: patient)
            }
            self.shard.schedule(after: Self.busyDelay, goOn)
        }
    }
}
