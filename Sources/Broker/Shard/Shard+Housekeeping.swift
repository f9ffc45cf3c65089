import FlotillaEnvironment
import FlotillaModel
import FlotillaReplication
import FlotillaStorage

/// What a shard looks at now and then: retention, and the room on the disk.
extension Shard {
    /// How often the room on the disk is looked at.
    static let spaceInterval = Duration.seconds(1)

    func startHousekeeping() {
        scheduleRetention(after: settings.retentionInterval)
        checkSpace()
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
            self.scheduleRetention(after: isUrgent ? min(.seconds(5), self.settings.retentionInterval) : self.settings.retentionInterval)
        }
    }

    // MARK: Room

    /// Looks at the free bytes; below the bound producers are refused until there is room again.
    private func checkSpace() {
        let disk = resources.disk
        let directory = settings.dataDirectory
        environment.workers.run({ () -> Result<DiskSpace, DiskError> in
            do throws(DiskError) { return .success(try disk.space(at: directory)) } catch { return .failure(error) }
        }) { [unowned self] result in
            switch result {
            case .success(let space):
                self.space = space
                let needed = self.settings.minimumFreeByteCount
                self.setVolumeFull(
                    space.freeByteCount < needed,
                    "\(directory): \(space.freeByteCount) bytes free, \(needed) needed"
                )
            case .failure(let error):
                self.environment.log(.retrying(what: "free space", description: error.description))
            }
            self.schedule(after: Self.spaceInterval) { [unowned self] in self.checkSpace() }
        }
    }
}
