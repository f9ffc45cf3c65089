package import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage

// What arrives from other replicas, and what a follower does to its log.

extension Replica {
    /// A message from another replica of the partition.
    ///
    /// One for another creation of this replica is dropped, as is one whose entries are not those that it describes.
    ///
    /// - Parameters:
    ///   - envelope: its entries were checked when it was decoded, frames and batches.
    ///   - broker: the sender's, as the link knows it.
    package func receive(_ envelope: RaftEnvelope, from broker: BrokerID) {
        guard !hasFailed, !isInstalling, envelope.partition == group.partition,
            envelope.targetEpoch == member.epoch
        else { return }
        var envelope = envelope
        if case .appendRequest(let request) = envelope.message {
            guard request.carries(envelope.entries) else { return }
            guard envelope.entries.isEmpty || host.takesEntries || leaveOutNew(of: &envelope) else {
                return
            }
        } else if !envelope.entries.isEmpty {
            return
        }
        let sender = GroupMember(broker: broker, epoch: envelope.senderEpoch)
        if raft.role == .leader { sightings.saw(sender, now: host.now) }
        step(.receive(envelope.message, from: sender, to: member), carrying: envelope.entries)
        if case .appendResponse = envelope.message {
            noteCommitNews()
            sendHeld(to: sender)
        }
    }

    /// Where there is no room for new entries, what a request says of the log that is there still counts.
    ///
    /// Only by that does a member learn what is committed, and only what is committed goes to segments and makes room; and only by
    /// the answer does the leader learn of what it has. A request that replaces entries is taken whole: only then does the journal
    /// let the old ones go.
    ///
    /// - Returns: false when nothing of the request is news. It is dropped then, or leader and follower would talk without end.
    private func leaveOutNew(of envelope: inout RaftEnvelope) -> Bool {
        guard case .appendRequest(var request) = envelope.message else { return false }
        let firstNew = raft.firstEntryToTake(of: request)
        guard firstNew > raft.lastIndex else { return true }
        let newCount = Int(request.range.upperBound.rawValue - firstNew.rawValue)
        let isHeld = firstNew > request.range.lowerBound
        guard isHeld || request.term > raft.term || firstNew - 1 > raft.verifiedIndex else {
            return false
        }
        request.entries.removeLast(newCount)
        envelope.message = .appendRequest(request)
        envelope.entries.removeLast(newCount)
        return true
    }

    /// Takes the entries of the request at hand into the log and towards the journal.
    ///
    /// Their chain must continue the log's. Raft compared the terms of the entry before them; if its bytes differ all
    /// the same, one of the two logs was changed from outside, and taking more would hide it.
    func appendReceived(_ range: Range<LogIndex>, _ ticket: Ticket) {
        guard let first = carried.first?.frame.index, first <= range.lowerBound else {
            preconditionFailure("Raft takes entries of the request that it was given")
        }
        let start = Int(range.lowerBound.rawValue - first.rawValue)
        let count = Int(range.upperBound.rawValue - range.lowerBound.rawValue)
        let entries = carried[start..<start + count]
        guard let head = entries.first?.frame, log.isContinued(by: head) else {
            return fail(.unusableEntry(index: range.lowerBound, description: Self.divergence))
        }
        log.append(Array(entries))
        for entry in entries { addToJournal(entry) }
        expect(ticket)
    }

    private static let divergence =
        "it does not continue this log, though both agree on the term before it: one of the two logs was changed from "
        + "outside"

    /// A log that was in doubt is whole again: the journal is told, so that the next start does not doubt it.
    func electableChanged(_ isElectable: Bool) {
        guard isElectable else { return }
        addToJournal(.trusted(log.lastPosition, checksum: log.lastFrameChecksum))
    }
}

extension AppendRequest {
    /// Whether these are the entries that the request describes, each continuing the one before.
    func carries(_ carried: [LogEntry]) -> Bool {
        guard carried.count == entries.count else { return false }
        var index = previous.index
        var last: Frame?
        for (described, entry) in zip(entries, carried) {
            index = index.next
            guard entry.frame.index == index, described.describes(entry),
                last.map({ entry.frame.continues($0) }) ?? true
            else { return false }
            last = entry.frame
        }
        return true
    }
}

extension Frame {
    /// Whether an entry with this frame may stand behind one with another.
    fileprivate func continues(_ other: Frame) -> Bool {
        index == other.index.next && previousChecksum == other.checksum
            && baseOffset == other.endOffset
            && term >= other.term && appendTime >= other.appendTime
    }
}

extension PartitionLog {
    /// Whether an entry with this frame may stand at the log's end.
    fileprivate func isContinued(by frame: Frame) -> Bool {
        frame.index == lastIndex.next && frame.previousChecksum == lastFrameChecksum
            && frame.baseOffset == logEndOffset
            && frame.term >= lastPosition.term && frame.appendTime >= lastAppendTime
    }
}
