import FlotillaCoordination
import FlotillaKafkaWire
import FlotillaModel
import FlotillaReplication
import struct NIOCore.ByteBuffer

/// What groups have committed, and what tools do with groups.
extension GroupCoordinator {
    // MARK: Commits

    func commit(
        _ name: String,
        _ commits: [OffsetCommit],
        by member: GroupMembership,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        if let refusal = refusal(ofCommitTo: name, by: member) {
            return completion(.error(refusal))
        }
        // A topic may be gone since the request came, or new here: the others are none of its business.
        let errors = commits.map { commit in
            shard.image.topic(commit.topic) == nil
                ? ErrorCode.unknownTopicOrPartition : .noError
        }
        let kept = zip(commits, errors).filter { $0.1 == .noError }.map(\.0)
        guard !kept.isEmpty else { return completion(.committed(errors)) }
        // Of a partition that comes twice the last one counts.
        var facts: [OffsetKey: CommittedOffset] = [:]
        for commit in kept { facts[commit.key] = offset(of: commit) }
        let records = facts.sorted { $0.key < $1.key }.map { key, offset in
            GroupRecord.offset(group: name, key: key, offset)
        }
        answerLater(completion) { finish in
            write(records, of: name, tooLong: .invalidCommitOffsetSize) { [unowned self] error in
                if error == nil { self.shard.counters.commitCount += facts.count }
                finish(error.map { .error($0) } ?? .committed(errors))
            }
        }
    }

    /// A commit as it is kept: for this topic, and for no other that is called the same.
    private func offset(of commit: OffsetCommit) -> CommittedOffset {
        let time = shard.wallTime
        return CommittedOffset(
            offset: commit.offset,
            topic: CommittedTopic(id: commit.topic, knownAt: shard.image.appliedIndex),
            leaderEpoch: commit.leaderEpoch,
            metadata: commit.metadata,
            commitTime: time,
            expiryTime: commit.retentionMillis.map { millis in
                let (end, isTooFar) = time.rawValue.addingReportingOverflow(millis)
                return Timestamp(isTooFar ? .max : end)
            }
        )
    }

    private func refusal(ofCommitTo name: String, by member: GroupMembership) -> ErrorCode? {
        if let error = checkCommit(name, by: member) { return error == .noError ? nil : error }
        if let group = consumerGroups[name]?.group, group.memberCount > 0 {
            return refusal(of: member, in: group)
        }
        if member.generation < 0, member.member.isEmpty { return nil }
        let entry = machine.table.groups[name]
        if entry?.classic != nil || entry?.consumer != nil { return .unknownMemberId }
        return member.knowsEpochs ? .groupIdNotFound : .illegalGeneration
    }

    /// Why a client may not commit or read as a member of a group of the consumer protocol; nil where it may.
    private func refusal(of member: GroupMembership, in group: ConsumerGroup) -> ErrorCode? {
        let error = group.check(
            member.member,
            epoch: member.generation,
            knowsEpochs: member.knowsEpochs
        )
        return error == .noError ? nil : error
    }

    private func isThere(_ topic: String) -> Bool { shard.image.topic(named: topic) != nil }

    // MARK: Reads

    func readOffsets(
        _ name: String,
        _ keys: [OffsetKey]?,
        by member: GroupMembership?,
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        if let member, let group = consumerGroups[name]?.group,
            let refusal = refusal(of: member, in: group)
        {
            return completion(.error(refusal))
        }
        answerLater(completion) { finish in
            proveLeadership { [weak self] isProven in
                guard let self, isProven else { return finish(.error(.notCoordinator)) }
                guard let keys else {
                    let all = self.offsets(of: name).sorted { $0.key < $1.key }
                    return finish(.offsets(all.map { ($0.key, $0.value) }))
                }
                let image = self.shard.image
                let known = self.machine.table.groups[name]?.offsets ?? [:]
                finish(
                    .offsets(
                        keys.map { ($0, known[$0].flatMap { $0.isVoid(in: image) ? nil : $0 }) }
                    )
                )
            }
        }
    }

    /// What a group has committed for topics that have not been deleted since.
    func offsets(of name: String) -> [OffsetKey: CommittedOffset] {
        let image = shard.image
        return (machine.table.groups[name]?.offsets ?? [:]).filter { !$0.value.isVoid(in: image) }
    }

    /// Goes on with whether this broker led and knew all that was committed when it was asked.
    func proveLeadership(then read: @escaping CommitReads.Read) {
        reads.add(read)
        if !reads.isUnderWay { beginReads() }
    }

    private func beginReads() {
        guard reads.begin() else { return }
        let reign = reign
        replica.readIndex { [weak self] result in
            guard let self, self.reign == reign else { return }
            let isCurrent = if case .success = result { true } else { false }
            for read in self.reads.end() { read(isCurrent) }
            if !self.reads.isUnderWay { self.beginReads() }
        }
    }

    // MARK: Deletion of commits

    func deleteOffsets(
        _ name: String,
        _ keys: [OffsetKey],
        then completion: @escaping (GroupAnswer) -> Void
    ) {
        guard
            groups[name] != nil || consumerGroups[name] != nil
                || machine.table.groups[name] != nil
        else { return completion(.error(.groupIdNotFound)) }
        var wantsAll = false
        var wanted: Set<String> = []
        if let group = groups[name]?.group, group.memberCount > 0 {
            guard group.protocolType == Self.consumerType else {
                return completion(.error(.nonEmptyGroup))
            }
            let topics = Self.topics(in: group.subscriptions)
            wantsAll = topics == nil
            wanted = topics ?? []
        }
        if let group = consumerGroups[name]?.group { wanted = group.topicNames }
        let errors: [ErrorCode] = keys.map {
            wantsAll || wanted.contains($0.topic) ? .groupSubscribedToTopic : .noError
        }
        let free = Set(zip(keys, errors).filter { $0.1 == .noError }.map(\.0)).sorted()
        guard !free.isEmpty else { return completion(.deletedOffsets(errors)) }
        answerLater(completion) { finish in
            write(
                Self.tombstones(of: name, free),
                of: name,
                tooLong: .invalidCommitOffsetSize
            ) { [unowned self] error in
                if error == nil { self.rememberForgotten(free.count, .asked, of: name) }
                finish(error.map { .error($0) } ?? .deletedOffsets(errors))
            }
        }
    }

    /// What members say they use groups for that read topics.
    static let consumerType = ConsumerGroup.protocolType

    /// The topics that members want; nil where one says so in a form that nobody else knows.
    static func topics(in subscriptions: [ByteBuffer]) -> Set<String>? {
        var topics: Set<String> = []
        for bytes in subscriptions {
            do throws(WireError) {
                topics.formUnion(
                    try ConsumerProtocolSubscription(versionPrefixed: bytes, acceptsNewer: true)
                        .topics
                )
            } catch {
                return nil
            }
        }
        return topics
    }

    static func tombstones(of name: String, _ keys: [OffsetKey]) -> [GroupRecord] {
        keys.map { .offset(group: name, key: $0, nil) }
    }

    // MARK: Groups

    /// Describes a classic group; one of the consumer protocol is not known here (DG-1).
    func describe(_ name: String) -> GroupAnswer {
        guard consumerGroups[name] == nil else { return .error(.groupIdNotFound) }
        let entry = machine.table.groups[name]
        if let group = groups[name]?.group, !group.isIdle || entry != nil {
            return .described(
                GroupDescription(
                    name: name,
                    phase: group.phase,
                    protocolType: group.protocolType ?? "",
                    protocolName: group.phase == .stable ? group.protocolName ?? "" : "",
                    members: group.memberDescriptions
                )
            )
        }
        guard let entry, entry.consumer == nil else { return .error(.groupIdNotFound) }
        return .described(
            GroupDescription(
                name: name,
                phase: .empty,
                protocolType: entry.classic?.protocolType ?? "",
                protocolName: "",
                members: []
            )
        )
    }

    /// Forgets a group in which nobody is, with all that it committed.
    ///
    /// The commits go first, a part at a time: the group itself is the last record, and its commits are gone with it in any case.
    func delete(_ name: String, then completion: @escaping (GroupAnswer) -> Void) {
        if let group = groups[name]?.group, group.phase != .empty {
            return completion(.error(.nonEmptyGroup))
        }
        guard !hasConsumers(name) else { return completion(.error(.nonEmptyGroup)) }
        guard let entry = machine.table.groups[name] else {
            return completion(.error(.groupIdNotFound))
        }
        forget(entry.offsets, of: name)
        answerLater(completion) { finish in
            write(
                [Self.tombstone(of: name, entry)],
                of: name,
                tooLong: .unknownServerError
            ) { [unowned self] error in
                if error == nil {
                    self.emptyTimes[name] = nil
                    self.remember([.deleted], of: name)
                }
                finish(.error(error ?? .noError))
            }
        }
    }

    /// The record after which a group is gone, in the form of its protocol.
    private static func tombstone(of name: String, _ entry: GroupTable.Entry) -> GroupRecord {
        entry.consumer == nil
            ? .classicGroup(name: name, nil) : .consumerGroup(name: name, nil)
    }

    // MARK: Forgetting

    /// Topics are gone, and what was committed for them.
    ///
    /// Nobody is told of it any more, whether or not the log takes that now: the next look at what is over finds what is left.
    func topicsDeleted(_ names: Set<String>) {
        guard isServing, replica.isServing else { return }
        let groups = machine.table.groups.keys.filter { !isWriting($0) }.sorted()
        for group in groups { forgetVoidOffsets(of: group, deleted: names) }
    }

    /// Forgets what was committed for topics that were deleted.
    ///
    /// Not while something of the group is on its way: that may be for another topic of the same name. `deleted`: the names of those that
    /// were deleted just now, for commits that say no more than a name.
    private func forgetVoidOffsets(of name: String, deleted: Set<String> = []) {
        let image = shard.image
        forgetOffsets(of: name, .topicsDeleted) { key, offset in
            offset.isVoid(in: image) || offset.topic == nil && deleted.contains(key.topic)
        }
    }

    /// Forgets commits whose time is over, and groups that are left with nothing.
    ///
    /// Not while something about the group is on its way: it might be forgotten with what it replaces.
    /// - Source: SEMANTICS rule OC-6.
    func expireOffsets() {
        guard isServing, replica.isServing else { return }
        let names = machine.table.groups.keys.filter { !isWriting($0) }.sorted()
        for name in names {
            forgetVoidOffsets(of: name)
            if !isWriting(name) { expireOffsets(of: name) }
            guard groups[name] == nil, consumerGroups[name] == nil, !isWriting(name),
                let entry = machine.table.groups[name], entry.offsets.isEmpty
            else { continue }
            // What the log does not take now it is asked to take the next time.
            write([Self.tombstone(of: name, entry)], of: name, tooLong: .unknownServerError) {
                [unowned self] error in
                if error == nil { self.emptyTimes[name] = nil }
            }
        }
    }

    private func expireOffsets(of name: String) {
        let time = shard.wallTime
        let retention = shard.config.offsetRetentionMillis
        let need = need(of: name)
        forgetOffsets(of: name, .expired) { key, offset in
            let age = time.rawValue - offset.commitTime.rawValue
            if offset.topic == nil, !self.isThere(key.topic), age >= Self.orphanMillis {
                return true
            }
            let beginning: Timestamp
            switch need {
            // What members read on from is kept, however short a time they once wanted it to be.
            case .all: return false
            case .topics(let topics) where topics.contains(key.topic): return false
            case .topics, .none(since: nil): beginning = offset.commitTime
            case .none(since: let rest?): beginning = max(rest, offset.commitTime)
            }
            if let expiry = offset.expiryTime { return expiry <= time }
            return time.rawValue - beginning.rawValue >= retention
        }
    }

    /// How old a commit has to be that names a topic only by its name, and there is none: the topic may be so new that this broker has not
    /// heard of it.
    private static let orphanMillis: Int64 = 600_000

    /// Which commits of a group are needed.
    private enum Need {
        case all
        case topics(Set<String>)
        /// Nobody is in it, for a group that once had members since then.
        case none(since: Timestamp?)
    }

    private func need(of name: String) -> Need {
        if let group = consumerGroups[name]?.group, group.memberCount > 0 {
            return .topics(group.topicNames)
        }
        if let group = groups[name]?.group {
            switch group.phase {
            case .empty:
                // The log's time does not go back where clocks do.
                let known = machine.table.groups[name]?.classic?.time
                return .none(since: max(group.phaseTime, known ?? group.phaseTime))
            case .stable where group.protocolType == Self.consumerType:
                return Self.topics(in: group.subscriptions).map { .topics($0) } ?? .all
            case .preparingRebalance, .completingRebalance, .stable: return .all
            }
        }
        if machine.table.groups[name]?.consumer != nil {
            // The log does not say when it was left: not later than it was seen to be, or than this broker began to look.
            return .none(since: emptyTimes[name] ?? memory.beginning.wallTime)
        }
        let classic = machine.table.groups[name]?.classic
        return .none(since: classic.flatMap { $0.protocolType.isEmpty ? nil : $0.time })
    }

    private func forgetOffsets(
        of name: String,
        _ why: GroupEvent.Forgetting,
        where isOver: (OffsetKey, CommittedOffset) -> Bool
    ) {
        let offsets = machine.table.groups[name]?.offsets ?? [:]
        let over = offsets.filter { isOver($0.key, $0.value) }
        if !over.isEmpty { rememberForgotten(over.count, why, of: name) }
        forget(over, of: name)
    }

    /// Forgets commits, so many at a time that a batch holds them however long the names are.
    ///
    /// What the log does not take is asked for again by clients, or by the next look at what is over.
    private func forget(_ offsets: [OffsetKey: CommittedOffset], of name: String) {
        var part: [OffsetKey] = []
        var byteCount = 0
        for key in offsets.keys.sorted() {
            part.append(key)
            byteCount += name.utf8.count + key.topic.utf8.count + Self.tombstoneByteCount
            guard byteCount >= Self.batchByteLimit / 2 else { continue }
            forgetAtOnce(part, of: name)
            part.removeAll()
            byteCount = 0
        }
        if !part.isEmpty { forgetAtOnce(part, of: name) }
    }

    /// Forgets commits that fit into a batch.
    private func forgetAtOnce(_ keys: [OffsetKey], of name: String) {
        write(Self.tombstones(of: name, keys), of: name, tooLong: .unknownServerError) { _ in }
    }

    /// What a record takes beside its names.
    private static let tombstoneByteCount = 64
}
