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
        guard !commits.isEmpty else { return completion(.error(.noError)) }
        guard commits.allSatisfy({ isThere($0.key.topic) }) else {
            return completion(.error(.unknownTopicOrPartition))
        }
        let time = shard.wallTime
        // Of a partition that comes twice the last one counts.
        var facts: [OffsetKey: CommittedOffset] = [:]
        for commit in commits {
            facts[commit.key] = CommittedOffset(
                offset: commit.offset,
                leaderEpoch: commit.leaderEpoch,
                metadata: commit.metadata,
                commitTime: time,
                expiryTime: commit.retentionMillis.map { millis in
                    let (end, isTooFar) = time.rawValue.addingReportingOverflow(millis)
                    return Timestamp(isTooFar ? .max : end)
                }
            )
        }
        let records = facts.sorted { $0.key < $1.key }.map { key, offset in
            GroupRecord.offset(group: name, key: key, offset)
        }
        answerLater(completion) { finish in
            write(records, of: name, tooLong: .invalidCommitOffsetSize) { [unowned self] error in
                if error == nil { self.shard.counters.commitCount += facts.count }
                finish(.error(error ?? .noError))
                // A topic may have been deleted meanwhile, and another one get its name.
                let gone = facts.filter { !self.isThere($0.key.topic) }
                if error == nil, !gone.isEmpty { self.forget(gone, of: name, isRepeated: true) }
            }
        }
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
                let known = self.machine.table.groups[name]?.offsets ?? [:]
                let wanted = keys ?? known.keys.sorted()
                finish(.offsets(wanted.map { ($0, known[$0]) }))
            }
        }
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
    static let consumerType = "consumer"

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
    func topicsDeleted(_ names: Set<String>) {
        guard isServing, replica.isServing else { return }
        for name in machine.table.groups.keys.sorted() {
            forgetOffsets(of: name, .topicsDeleted, isRepeated: true) { key, _ in
                names.contains(key.topic)
            }
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
            expireOffsets(of: name)
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
            if let expiry = offset.expiryTime { return expiry <= time }
            let age = time.rawValue - offset.commitTime.rawValue
            if !self.isThere(key.topic), age >= Self.orphanMillis { return true }
            switch need {
            case .all: return false
            case .topics(let topics) where topics.contains(key.topic): return false
            case .topics, .none(since: nil): return age >= retention
            case .none(since: let rest?):
                return time.rawValue - max(rest, offset.commitTime).rawValue >= retention
            }
        }
    }

    /// How old a commit for a topic that is not there has to be: the topic may be so new that this broker has not heard of it.
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
            case .empty: return .none(since: group.phaseTime)
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
        isRepeated: Bool = false,
        where isOver: (OffsetKey, CommittedOffset) -> Bool
    ) {
        let offsets = machine.table.groups[name]?.offsets ?? [:]
        let over = offsets.filter { isOver($0.key, $0.value) }
        if !over.isEmpty { rememberForgotten(over.count, why, of: name) }
        forget(over, of: name, isRepeated: isRepeated)
    }

    /// Forgets commits, so many at a time that a batch holds them however long the names are.
    ///
    /// `isRepeated`: whether what the log does not take is tried again, since a topic may be made anew under the name. Others are asked
    /// for again by clients, or by the next look at what is over.
    private func forget(
        _ offsets: [OffsetKey: CommittedOffset],
        of name: String,
        isRepeated: Bool = false
    ) {
        var part: [OffsetKey: CommittedOffset] = [:]
        var byteCount = 0
        for (key, offset) in offsets.sorted(by: { $0.key < $1.key }) {
            part[key] = offset
            byteCount += name.utf8.count + key.topic.utf8.count + Self.tombstoneByteCount
            guard byteCount >= Self.batchByteLimit / 2 else { continue }
            forgetAtOnce(part, of: name, isRepeated)
            part.removeAll()
            byteCount = 0
        }
        if !part.isEmpty { forgetAtOnce(part, of: name, isRepeated) }
    }

    /// Forgets commits that fit into a batch.
    private func forgetAtOnce(
        _ offsets: [OffsetKey: CommittedOffset],
        of name: String,
        _ isRepeated: Bool
    ) {
        let tombstones = Self.tombstones(of: name, offsets.keys.sorted())
        write(tombstones, of: name, tooLong: .unknownServerError) { [unowned self] error in
            guard error != nil, isRepeated else { return }
            let reign = reign
            shard.schedule(after: Self.retryDelay) { [weak self] in
                guard let self, self.reign == reign, self.replica.isServing else { return }
                let known = self.machine.table.groups[name]?.offsets ?? [:]
                // What was committed since belongs to another topic.
                let left = offsets.filter { known[$0.key] == $0.value }
                self.forget(left, of: name, isRepeated: true)
            }
        }
    }

    /// What a record takes beside its names.
    private static let tombstoneByteCount = 64
}
