import FlotillaKafkaWire
public import FlotillaModel

// What the group remembers of how far its partitions are read.

extension GroupConsumer {
    // MARK: Committing

    /// Commits all that was handed out, and waits until the group remembers it.
    ///
    /// - Throws: `.notAssigned`, or what the coordinator says, when the partitions are somebody else's.
    public func commit() async throws(ClientError) {
        let delivered = progress.delivered
        try await commit(delivered)
    }

    /// Commits up to the end of what one call of `next()` gave.
    public func commit(_ records: ConsumedRecords) async throws(ClientError) {
        try await commit([records.partition: records.nextOffset])
    }

    /// Commits these offsets, each one past the last record that is done.
    ///
    /// What a later call has committed meanwhile is not taken back.
    public func commit(_ offsets: [NamedPartition: Offset]) async throws(ClientError) {
        let tickets = progress.tickets(of: offsets.keys)
        try await repeatCommit(within: client.configuration.retryTimeout) {
            () throws(ClientError) in
            try requireOwned(offsets)
            // Somebody else may have read on in between.
            let now = progress.tickets(of: offsets.keys)
            for partition in offsets.keys.sorted() where now[partition] != tickets[partition] {
                throw .notAssigned(partition)
            }
            return offsets
        }
    }

    private func requireOwned(_ offsets: [NamedPartition: Offset]) throws(ClientError) {
        for partition in offsets.keys.sorted() where owned[partition] == nil || hasLostShare {
            throw .notAssigned(partition)
        }
    }

    /// Commits these offsets soon, and returns at once; what fails is told to `RebalanceListener.troubled`.
    ///
    /// Of several for one partition the last one counts. They are committed before the partition is given up.
    public func commitSoon(_ offsets: [NamedPartition: Offset]) throws(ClientError) {
        try requireOwned(offsets)
        pendingCommit.merge(offsets) { $1 }
        commitAlarm.ring()
    }

    /// Commits soon up to the end of what one call of `next()` gave.
    public func commitSoon(_ records: ConsumedRecords) throws(ClientError) {
        try commitSoon([records.partition: records.nextOffset])
    }

    /// What the group has committed of these partitions; a partition without a commit is not in the answer.
    public nonisolated func committed(
        _ partitions: [NamedPartition]
    ) async throws(ClientError) -> [NamedPartition: Admin.CommittedOffset] {
        try await Admin(client).groupOffsets(configuration.group, of: partitions)
    }

    // MARK: By itself

    /// Commits what is to be committed soon when it is, and what was read in intervals.
    func commitInTime() async {
        var nextDue = configuration.autoCommitInterval.map { ContinuousClock.now + $0 }
        while !Task.isCancelled {
            await commitAlarm.wait(for: nextDue.map { Swift.max(.zero, $0 - .now) })
            guard !Task.isCancelled else { return }
            let isDue = nextDue.map { .now >= $0 } ?? false
            if isDue { nextDue = configuration.autoCommitInterval.map { .now + $0 } }
            await commitPending(includingRead: isDue)
        }
    }

    private func commitPending(includingRead: Bool) async {
        let wanted = takePending(includingRead: includingRead)
        guard !wanted.isEmpty else { return }
        do throws(ClientError) {
            try await repeatCommit(within: client.configuration.retryTimeout) {
                self.progress.newer(wanted)
            }
        } catch {
            configuration.listener.troubled(error)
        }
    }

    private func takePending(includingRead: Bool) -> [NamedPartition: Offset] {
        var wanted = includingRead ? progress.uncommitted : [:]
        wanted.merge(pendingCommit) { Swift.max($0, $1) }
        pendingCommit = [:]
        return wanted
    }

    /// Commits what is left to commit of partitions that are given up.
    func commitLast(of partitions: Set<NamedPartition>, within patience: Duration?) async {
        var wanted = configuration.autoCommitInterval == nil ? [:] : progress.uncommitted
        wanted.merge(pendingCommit) { Swift.max($0, $1) }
        wanted = wanted.filter { partitions.contains($0.key) }
        for partition in partitions { pendingCommit[partition] = nil }
        guard !wanted.isEmpty, !hasLostShare else { return }
        do throws(ClientError) {
            let limit = client.configuration.retryTimeout
            try await repeatCommit(within: patience.map { Swift.min($0, limit) } ?? limit) {
                self.progress.newer(wanted)
            }
        } catch {
            configuration.listener.troubled(error)
        }
    }

    // MARK: Attempts

    /// Sends a commit until one is taken; what it says is asked for before each, as some of it may be past by then.
    private func repeatCommit(
        within patience: Duration,
        _ offsets: () throws(ClientError) -> [NamedPartition: Offset]
    ) async throws(ClientError) {
        let deadline = ContinuousClock.now + patience
        var backoff = Backoff(client.configuration)
        let number = progress.drawCommitNumber()
        while true {
            let wanted = try offsets().filter { !progress.isOvertaken($0.key, number) }
            guard !wanted.isEmpty else { return }
            let sent = identity
            do throws(ClientError) {
                try await commitOnce(wanted, as: sent, before: deadline)
                return progress.noteCommitted(wanted, by: number)
            } catch {
                let pause = backoff.next()
                guard isPassing(error) || isBetweenGenerations(error, sent.generation),
                    .now + pause < deadline
                else { throw error }
                try await KafkaClient.sleep(pause)
            }
        }
    }

    private func commitOnce(
        _ offsets: [NamedPartition: Offset],
        as member: (memberID: String, generation: Int32),
        before deadline: ContinuousClock.Instant
    ) async throws(ClientError) {
        let (group, instanceID) = (configuration.group, configuration.instanceID)
        // Without a member's name it would be a tool's commit, which an empty group takes from anybody.
        guard !member.memberID.isEmpty, member.generation >= 0, !hasLostShare else {
            throw .refused(.unknownMemberId, subject: "group \(group)", message: nil)
        }
        let topics = Admin.commitTopics(offsets.mapValues { Admin.CommittedOffset(offset: $0) })
        let left = Swift.min(patience, Swift.max(deadline - .now, .milliseconds(1)))
        // From version 10 on topics go by id.
        let response = try await ask(limit: 9, within: left) { _ in
            OffsetCommitRequest(
                groupId: group,
                generationIdOrMemberEpoch: member.generation,
                memberId: member.memberID,
                groupInstanceId: instanceID,
                topics: topics
            )
        }
        for (partition, code) in Admin.commitCodes(response) where code != 0 {
            if let error = note(code, about: member.generation, partition) { throw error }
        }
    }

    /// Draws from a refused commit what it says of the membership.
    private func note(
        _ code: Int16,
        about generation: Int32,
        _ partition: NamedPartition
    ) -> ClientError? {
        let error = ClientError(
            code: code,
            subject: "commit of \(partition) by group \(configuration.group)"
        )
        guard let error, identity.generation == generation else { return error }
        switch ErrorCode(rawValue: code) {
        case .coordinatorLoadInProgress, .coordinatorNotAvailable, .notCoordinator:
            coordinator = nil
        case .unknownMemberId, .illegalGeneration, .rebalanceInProgress:
            if configuration.groupProtocol == .classic, classic.phase == .stable {
                _ = classic.judge(code)
                membershipAlarm.ring()
            }
        case .staleMemberEpoch: beatAlarm.ring()
        default: break
        }
        return error
    }

    /// Whether a commit was refused only because the group is dividing: what this member still reads it may commit afterwards.
    private func isBetweenGenerations(_ error: ClientError, _ sent: Int32) -> Bool {
        guard isLiving, !hasLostShare, case .refused(let code, _, _) = error else { return false }
        switch code {
        case .rebalanceInProgress, .staleMemberEpoch: return true
        case .illegalGeneration: return classic.isRebalancing || classic.generation != sent
        default: return false
        }
    }

    // MARK: Where to begin

    /// Where to begin partitions, and for which of them that is where the group has committed.
    func starts(
        of partitions: [NamedPartition]
    ) async throws(ClientError) -> (
        offsets: [NamedPartition: Offset], committed: Set<NamedPartition>
    ) {
        guard !partitions.isEmpty else { return ([:], []) }
        var offsets = try await committed(partitions).mapValues(\.offset)
        let known = Set(offsets.keys)
        let missing = partitions.filter { !known.contains($0) }
        guard let first = missing.min() else { return (offsets, known) }
        let place: StartOffset
        switch configuration.start {
        case .earliest: place = .earliest
        case .latest: place = .latest
        case .error: throw .noCommittedOffset(group: configuration.group, partition: first)
        }
        let found = try await Admin(client).offsets(
            Dictionary(missing.map { ($0, place) }) { $1 },
            isolationLevel: configuration.fetching.isolationLevel
        )
        offsets.merge(found) { $1 }
        return (offsets, known)
    }
}
