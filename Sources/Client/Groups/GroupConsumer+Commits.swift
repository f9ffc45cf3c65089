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
    /// What a later call has committed meanwhile is not taken back. A partition that is refused does not keep the others from
    /// being committed.
    ///
    /// - Throws: `.notAssigned`, or what the coordinator says, of the first partition that was not committed.
    public func commit(_ offsets: [NamedPartition: Offset]) async throws(ClientError) {
        try requireOwned(offsets)
        try await settle(
            progress.want(offsets),
            within: client.configuration.retryTimeout,
            isAwaited: true
        )
    }

    private func requireOwned(_ offsets: [NamedPartition: Offset]) throws(ClientError) {
        for partition in offsets.keys.sorted()
        where owned[partition] == nil || progress.ticket(of: partition) == nil || hasLostShare {
            throw .notAssigned(partition)
        }
    }

    /// Commits these offsets soon, and returns at once; what fails is told to `RebalanceListener.troubled`.
    ///
    /// Of several for one partition the last one counts, whether or not it lies behind the others. They are committed before
    /// the partition is given up.
    public func commitSoon(_ offsets: [NamedPartition: Offset]) throws(ClientError) {
        try requireOwned(offsets)
        pendingCommit.merge(progress.want(offsets)) { $1 }
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
        await settleQuietly(
            wishes(includingRead: includingRead),
            within: client.configuration.retryTimeout
        )
    }

    /// What is to be committed soon, and what was read where that is wanted too: it lies beyond, or was read after a seek.
    private func wishes(includingRead: Bool) -> [NamedPartition: CommitWish] {
        guard includingRead else { return pendingCommit }
        return pendingCommit.merging(progress.wantRead(besides: pendingCommit)) { $1 }
    }

    /// Commits what is left to commit of partitions that are given up.
    func commitLast(of partitions: Set<NamedPartition>, within patience: Duration?) async {
        let limit = client.configuration.retryTimeout
        await settleQuietly(
            wishes(includingRead: configuration.autoCommitInterval != nil)
                .filter { partitions.contains($0.key) },
            within: patience.map { Swift.min($0, limit) } ?? limit
        )
    }

    private func settleQuietly(
        _ wishes: [NamedPartition: CommitWish],
        within patience: Duration
    ) async {
        do throws(ClientError) {
            try await settle(wishes, within: patience)
        } catch {
            configuration.listener.troubled(error)
        }
    }

    // MARK: Attempts

    /// Sends wishes until each is taken, or refused for good; those of partitions that were given up are not sent.
    ///
    /// Each answer is about partitions: what it takes is done, what it refuses for the moment is all that is sent again.
    /// Only who is awaited is told of partitions that are gone.
    private func settle(
        _ wishes: [NamedPartition: CommitWish],
        within patience: Duration,
        isAwaited: Bool = false
    ) async throws(ClientError) {
        guard !wishes.isEmpty else { return }
        let deadline = ContinuousClock.now + patience
        var backoff = Backoff(client.configuration)
        var (left, failure, lastError) = (wishes, ClientError?.none, ClientError?.none)
        progress.send(wishes)
        defer { end(wishes) }
        while true {
            for (partition, wish) in left.sorted(by: { $0.key < $1.key }) {
                if !isOwn(partition, wish) {
                    left[partition] = nil
                    if isAwaited { failure = failure ?? .notAssigned(partition) }
                } else if progress.isOvertaken(partition, wish) {
                    left[partition] = nil
                }
            }
            let free = left.filter { !progress.isContested($0.key, $0.value) }
            let generation = identity.generation
            let refusals = await attempt(free, before: deadline)
            for partition in free.keys.sorted() {
                guard let error = refusals[partition] else {
                    left[partition] = nil
                    continue
                }
                lastError = error
                guard !mayPass(error, generation), let wish = left[partition] else { continue }
                left[partition] = nil
                // The others may take long, and nothing else is to wait for this one.
                progress.giveUp([partition: wish])
                failure = failure ?? error
            }
            let pause = backoff.next()
            guard !left.isEmpty, .now + pause < deadline else { break }
            try await KafkaClient.sleep(pause)
        }
        // What waited for a later call all the time was not refused: that call tells what becomes of it.
        if let error = failure ?? (left.isEmpty ? nil : lastError) { throw error }
    }

    /// No more is done for these wishes.
    private func end(_ wishes: [NamedPartition: CommitWish]) {
        progress.giveUp(wishes)
        // A later one may have taken its place meanwhile.
        for (partition, wish) in wishes where pendingCommit[partition] == wish {
            pendingCommit[partition] = nil
        }
    }

    /// Whether the partition was not given up since, nor lost: somebody else may have read on in between.
    private func isOwn(_ partition: NamedPartition, _ wish: CommitWish) -> Bool {
        owned[partition] != nil && !hasLostShare && progress.isHere(partition, wish)
    }

    /// Whether a commit of the same partition may go well later.
    ///
    /// A partition that does not exist, though that passes elsewhere, was deleted: the group divides anew without it.
    private func mayPass(_ error: ClientError, _ sent: Int32) -> Bool {
        !error.isNotFound && (isPassing(error) || isBetweenGenerations(error, sent))
    }

    /// Sends wishes once, and notes those that are taken.
    ///
    /// - Returns: why the others are not.
    private func attempt(
        _ wishes: [NamedPartition: CommitWish],
        before deadline: ContinuousClock.Instant
    ) async -> [NamedPartition: ClientError] {
        guard !wishes.isEmpty else { return [:] }
        do throws(ClientError) {
            let refusals = try await commitOnce(
                wishes.mapValues(\.offset),
                as: identity,
                before: deadline
            )
            for (partition, wish) in wishes where refusals[partition] == nil {
                progress.noteCommitted(partition, wish)
            }
            return refusals
        } catch {
            return wishes.mapValues { _ in error }
        }
    }

    /// - Returns: why partitions were refused.
    /// - Throws: why none was committed, as far as is known.
    private func commitOnce(
        _ offsets: [NamedPartition: Offset],
        as member: (memberID: String, generation: Int32),
        before deadline: ContinuousClock.Instant
    ) async throws(ClientError) -> [NamedPartition: ClientError] {
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
        let codes = Dictionary(Admin.commitCodes(response)) { $1 }
        var refusals: [NamedPartition: ClientError] = [:]
        for partition in offsets.keys.sorted() {
            refusals[partition] =
                if let code = codes[partition] {
                    note(code, about: member.generation, partition)
                } else {
                    .malformedResponse("OffsetCommit says nothing about \(partition)")
                }
        }
        return refusals
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
