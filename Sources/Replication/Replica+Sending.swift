import DequeModule
import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage

// Messages leave when what they rest on is durable; append requests when their entries are at hand, in order.

extension Replica {
    /// Sends a message once `ticket` is durable.
    func send(_ message: Message, to target: GroupMember, after ticket: Ticket?) {
        if let ticket, !outbox.isDurable(ticket) {
            outbox.hold(message, to: target, until: ticket)
        } else {
            dispatch(message, to: target)
        }
    }

    /// Sends what rested on writes up to `ticket`.
    func release(through ticket: Ticket) {
        for held in outbox.release(through: ticket) { dispatch(held.message, to: held.target) }
    }

    private func dispatch(_ message: Message, to target: GroupMember) {
        if case .appendRequest(let request) = message, !request.entries.isEmpty {
            dispatch(request, to: target)
        } else {
            transmit(message, [], to: target)
        }
    }

    func transmit(
        _ message: Message,
        _ entries: [LogEntry],
        to target: GroupMember,
        on lane: PeerLane = .live
    ) {
        let envelope = RaftEnvelope(
            partition: group.partition,
            senderEpoch: member.epoch,
            targetEpoch: target.epoch,
            message: message,
            entries: entries
        )
        host.send(envelope, to: target.broker, on: lane, from: self)
    }

    // MARK: Append requests

    /// Sends a request with its entries, behind those to the same member that still wait.
    ///
    /// Overtaken, a request would be refused: the follower lacks the entry before it, and the leader would go back to
    /// probing. Heartbeats and votes do overtake; nothing in them speaks of entries that the follower may lack.
    private func dispatch(_ request: AppendRequest, to target: GroupMember) {
        if outbox.isRepeat(request, to: target) { outbox.forgetRoute(to: target) }
        var waiting = Outbox.Waiting(request: request)
        if let first = carried.first, first.frame.index == request.range.lowerBound,
            carried.count == request.entries.count
        {
            waiting.entries = carried
            waiting.isGranted = true
        }
        if var lane = outbox[target] {
            // What does not fit is taken as lost on the way; Raft repeats it.
            guard lane.waiting.count < raft.settings.windowMessageLimit else { return }
            lane.waiting.append(waiting)
            outbox[target] = lane
            return
        }
        do throws(StorageError) {
            let isGranted = isGranted(&waiting, to: target)
            let load = isGranted ? try gather(&waiting, afterLoad: false) : nil
            if isGranted, load == nil, transmit(waiting, to: target) { return }
            var lane = Outbox.Lane(target: target)
            lane.waiting.append(waiting)
            outbox[target] = lane
            if let load { start(load, for: target) }
        } catch {
            cannotRead(error)
        }
    }

    /// Whether a request's entries may be read and sent now: those in memory always, old ones when the host says so.
    private func isGranted(_ waiting: inout Outbox.Waiting, to target: GroupMember) -> Bool {
        guard !waiting.isGranted, !log.isInMemory(waiting.request.range.lowerBound) else {
            return true
        }
        let byteCount = waiting.request.entries.reduce(0) { $0 + $1.byteCount }
        waiting.isGranted = host.grantsOldEntries(byteCount, to: target, from: self)
        return waiting.isGranted
    }

    /// Sends a request, unless it would have to change lanes while others are on their way.
    ///
    /// The tail travels live, what has left memory in bulk, so that a catch-up delays nobody else. Between the lanes there
    /// is no order: a member's requests change over when it has acknowledged all that it was sent on the other one.
    ///
    /// - Returns: whether it was sent; otherwise it waits for `sendHeld(to:)`.
    private func transmit(_ ready: Outbox.Waiting, to target: GroupMember) -> Bool {
        let range = ready.request.range
        let lane = log.isInMemory(range.lowerBound) ? PeerLane.live : .bulk
        let match = raft.progress(of: target)?.match ?? .zero
        guard outbox.mayTake(lane, to: target, matchIndex: match) else { return false }
        outbox.noteSent(range.upperBound - 1, on: lane, to: target)
        transmit(.appendRequest(ready.request), ready.entries, to: target, on: lane)
        return true
    }

    /// Tries to send what the host has not granted; called at each tick.
    func sendHeld() {
        for target in outbox.heldTargets { sendHeld(to: target) }
    }

    /// Sends what waited until a member had everything that travels on the other lane.
    func sendHeld(to target: GroupMember) {
        guard !hasFailed, let lane = outbox[target], !lane.isLoading else { return }
        do throws(StorageError) {
            try sendWaiting(to: target, afterLoad: false)
        } catch {
            outbox[target] = nil
            cannotRead(error)
        }
    }

    /// Brings the entries of a request together.
    ///
    /// - Returns: what has to be loaded first; nil when all are there.
    private func gather(
        _ waiting: inout Outbox.Waiting,
        afterLoad: Bool
    ) throws(StorageError) -> SegmentLoad? {
        let range = waiting.request.range
        let byteCount = waiting.request.entries.reduce(0) { $0 + $1.byteCount }
        var isAfterLoad = afterLoad
        var next = range.lowerBound + UInt64(waiting.entries.count)
        while next < range.upperBound {
            let read = try log.entries(
                from: next,
                maxByteCount: byteCount,
                maxCount: Int(range.upperBound.rawValue - next.rawValue),
                afterLoad: isAfterLoad
            )
            isAfterLoad = false
            switch read {
            case .ready(let found):
                precondition(!found.isEmpty, "a leader's log has what it sends")
                waiting.entries += found
                next = next + UInt64(found.count)
            case .load(let load): return load
            }
        }
        return nil
    }

    private func start(_ load: SegmentLoad, for target: GroupMember) {
        outbox[target]?.isLoading = true
        host.workers.run({ load.perform() }) { [weak self] loaded in
            guard let self, !self.hasFailed else { return }
            self.outbox[target]?.isLoading = false
            do throws(StorageError) {
                try self.log.finish(loaded)
                try self.sendWaiting(to: target, afterLoad: true)
            } catch {
                self.outbox[target] = nil
                self.cannotRead(error)
            }
        }
    }

    /// Sends the requests that waited, for a load or for another lane.
    private func sendWaiting(to target: GroupMember, afterLoad: Bool) throws(StorageError) {
        var isAfterLoad = afterLoad
        while var lane = outbox[target], !lane.isLoading {
            guard var first = lane.waiting.popFirst() else {
                outbox[target] = nil
                return
            }
            guard stillStands(first.request, to: target) else {
                outbox[target] = lane
                continue
            }
            guard isGranted(&first, to: target) else {
                lane.waiting.prepend(first)
                outbox[target] = lane
                return
            }
            if let load = try gather(&first, afterLoad: isAfterLoad) {
                lane.waiting.prepend(first)
                outbox[target] = lane
                return start(load, for: target)
            }
            isAfterLoad = false
            guard transmit(first, to: target) else {
                lane.waiting.prepend(first)
                outbox[target] = lane
                return
            }
            outbox[target] = lane
        }
    }

    /// Whether this replica still leads in the request's term, so that its log still has the request's entries.
    private func stillStands(_ request: AppendRequest, to target: GroupMember) -> Bool {
        raft.role == .leader && raft.term == request.term && raft.progress(of: target) != nil
    }

    // MARK: Entries that Raft no longer knows

    /// Reads entries for Raft, which then asks to have them sent.
    func read(
        for target: GroupMember,
        from index: LogIndex,
        byteLimit: Int,
        afterLoad: Bool = false
    ) {
        if !afterLoad, !log.isInMemory(index),
            !host.grantsOldEntries(byteLimit, to: target, from: self)
        {
            return step(.entriesRead(for: target, first: index, []))
        }
        do throws(StorageError) {
            let read = try log.entries(
                from: index,
                maxByteCount: byteLimit,
                maxCount: raft.settings.appendEntryLimit,
                afterLoad: afterLoad
            )
            switch read {
            case .ready(let entries): answerRead(for: target, from: index, entries)
            case .load(let load):
                host.workers.run({ load.perform() }) { [weak self] loaded in
                    self?.resumeRead(for: target, from: index, byteLimit: byteLimit, loaded)
                }
            }
        } catch {
            cannotRead(error)
            step(.entriesRead(for: target, first: index, []))
        }
    }

    private func resumeRead(
        for target: GroupMember,
        from index: LogIndex,
        byteLimit: Int,
        _ loaded: SegmentLoaded
    ) {
        guard !hasFailed else { return }
        do throws(StorageError) {
            try log.finish(loaded)
        } catch {
            cannotRead(error)
            return step(.entriesRead(for: target, first: index, []))
        }
        read(for: target, from: index, byteLimit: byteLimit, afterLoad: true)
    }

    private func answerRead(for target: GroupMember, from index: LogIndex, _ entries: [LogEntry]) {
        let descriptors = entries.compactMap { EntryDescriptor($0) }
        precondition(descriptors.count == entries.count, "memberships in the log were checked")
        step(.entriesRead(for: target, first: index, descriptors), carrying: entries)
    }

    /// Entries for a follower cannot be read: they are gone, which Raft is told, or damaged, which the host is.
    ///
    /// Whatever it is, Raft asks again later.
    private func cannotRead(_ error: StorageError) {
        switch error {
        case .indexOutOfRange: tellLogStart()
        case .damaged: host.damaged(self, error)
        default: break
        }
    }

    /// Tells Raft where the log begins, if retention has moved that: who needs more gets files.
    func tellLogStart() {
        if log.firstIndex > raft.base.index.next {
            step(.logStartAdvanced(to: log.firstIndex))
        }
        // What was uncertain of terms has been healed, or went with the log's head.
        if !areTermsTold, log.areTermsKnown {
            areTermsTold = true
            step(.termsLearned(log.termRuns))
        }
    }
}
