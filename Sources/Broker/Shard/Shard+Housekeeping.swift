import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// What a shard looks at now and then: retention, the room on the disk, and what is still to be deleted.
extension Shard {
    /// How often the room on the disk is looked at.
    static let spaceInterval = Duration.seconds(1)

    func startHousekeeping() {
        scheduleRetention(after: settings.retentionInterval)
        scheduleRemovals()
        scheduleOffsetExpiry()
        lookAtSpace()
        scheduleSpace()
    }

    // MARK: Retention

    private func scheduleRetention(after delay: Duration) {
        schedule(after: delay) { [unowned self] in
            var isUrgent = false
            for partition in self.allPartitions {
                partition.applyRetention()
                isUrgent = isUrgent || partition.wantsPromptRetention
            }
            // Where a topic's settings ask for less than a minute, looking every thirty seconds would make it a lie.
            self.scheduleRetention(
                after: isUrgent
                    ? min(.seconds(5), self.settings.retentionInterval)
                    : self.settings.retentionInterval
            )
        }
    }

    // MARK: Removals

    /// How often removals that failed, and the news of those that are done, are tried again.
    static let removalInterval = Duration.seconds(5)

    private func scheduleRemovals() {
        schedule(after: Self.removalInterval) { [unowned self] in
            self.retryRemovals()
            self.scheduleRemovals()
        }
    }

    // MARK: Room

    /// Whether there is room for a batch.
    enum Room {
        /// It is counted: there is.
        case granted
        /// The disk is being looked at; `Partition.admitWaiting()` is called when that is known.
        case unknown
        /// There is none.
        case none
    }

    /// Takes room for a batch, so that it and its segment fit whatever comes after it.
    ///
    /// Between two looks at the disk each shard counts down its share of the room: a fast producer fills gigabytes in the
    /// time between. Who finds the share used up has the disk looked at again.
    func takeRoom(for byteCount: Int) -> Room {
        guard !isLookingAtSpace else { return .unknown }
        if acceptableByteCount >= Int64(byteCount) {
            acceptableByteCount -= Int64(byteCount)
            return .granted
        }
        guard !isVolumeFull, spaceTime + Self.shortestSpaceInterval <= environment.clock.now else {
            return .none
        }
        isLookingAtSpace = true
        lookAtSpace()
        return .unknown
    }

    /// The least time between two looks at the room that producers cause.
    static let shortestSpaceInterval = Duration.milliseconds(20)

    private func scheduleSpace() {
        schedule(after: Self.spaceInterval) { [unowned self] in
            self.lookAtSpace()
            self.scheduleSpace()
        }
    }

    /// Looks at the free bytes; below the bound producers are refused until there is room again.
    private func lookAtSpace() {
        let disk = resources.disk
        let directory = settings.dataDirectory
        environment.workers.run({ () -> Result<DiskSpace, DiskError> in
            do throws(DiskError) { return .success(try disk.space(at: directory)) } catch {
                return .failure(error)
            }
        }) { [unowned self] result in
            switch result {
            case .success(let space): self.note(space)
            case .failure(let error):
                self.environment.log(.retrying(what: "free space", description: error.description))
            }
            guard self.isLookingAtSpace else { return }
            self.isLookingAtSpace = false
            for partition in self.allPartitions { partition.admitWaiting() }
        }
    }

    private func note(_ space: DiskSpace) {
        let needed = settings.minimumFreeByteCount
        self.space = space
        spaceTime = environment.clock.now
        acceptableByteCount = (space.freeByteCount - needed) / Int64(settings.shardCount)
        setVolumeFull(
            space.freeByteCount < needed,
            "\(settings.dataDirectory): \(space.freeByteCount) bytes free, \(needed) needed"
        )
        if isVolumeFull, isJournalFull {
            for partition in allPartitions { partition.admitWaiting() }
        }
    }
}
