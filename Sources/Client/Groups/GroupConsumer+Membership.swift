import FlotillaKafkaWire
import FlotillaModel

// What both protocols have in common: the life of a membership, what is given up and what comes.

extension GroupConsumer {
    /// How long a farewell may take, with what is committed before it.
    private static let farewellPatience = Duration.seconds(5)

    /// Keeps the membership until `close()`, or until something ends it.
    func keepMembership() async {
        var backoff = Backoff(client.configuration)
        while isLiving {
            do throws(ClientError) {
                switch configuration.groupProtocol {
                case .classic: try await followClassic()
                case .consumer: try await followConsumer()
                }
                backoff.reset()
            } catch {
                // A connection that `close()` ended is no failure.
                guard isLiving else { break }
                guard isPassing(error) else {
                    fail(error)
                    break
                }
                configuration.listener.troubled(error)
                await membershipAlarm.wait(for: backoff.next())
            }
        }
        await part()
    }

    /// How the group knows this member now.
    var identity: (memberID: String, generation: Int32) {
        switch configuration.groupProtocol {
        case .classic: (classic.memberID, classic.generation)
        case .consumer: (modern.memberID, modern.epoch)
        }
    }

    /// Whether what this member reads is its own no more.
    var hasLostShare: Bool {
        switch configuration.groupProtocol {
        case .classic: classic.hasLostShare
        case .consumer: modern.hasLostShare
        }
    }

    // MARK: Heartbeats

    /// Says that the member lives, as long as it does.
    func beatInTime() async {
        var pause =
            configuration.groupProtocol == .classic ? configuration.heartbeatInterval : .zero
        while !Task.isCancelled {
            await beatAlarm.wait(for: pause)
            guard !Task.isCancelled else { return }
            let isWell: Bool
            if isStalled {
                await leaveStalled()
                isWell = true
            } else {
                switch configuration.groupProtocol {
                case .classic: isWell = await beatClassic()
                case .consumer: isWell = await beatConsumer()
                }
            }
            let interval =
                configuration.groupProtocol == .classic
                ? configuration.heartbeatInterval : modern.interval
            // A coordinator that has moved is found soon, but not without a pause.
            pause = isWell ? interval : Swift.min(interval, client.configuration.maximumBackoff)
        }
    }

    /// Leaves because the application does not ask for records; it joins again when that one does.
    private func leaveStalled() async {
        guard !hasLostShare, !identity.memberID.isEmpty else { return }
        let farewell = farewell()
        switch configuration.groupProtocol {
        case .classic: classic.leave()
        case .consumer: modern.leave()
        }
        membershipAlarm.ring()
        configuration.listener.troubled(
            .refused(
                .unknownMemberId,
                subject: "group \(configuration.group)",
                message:
                    "the application asked for no records for \(configuration.maximumPollInterval)"
            )
        )
        await say(farewell)
    }

    // MARK: Shares

    /// Has what this member reads become `share`: gives up what is not in it, then takes what is new.
    ///
    /// `acknowledge` is called when something was given up, `isCurrent` after every wait: what the group decided may be past.
    ///
    /// - Returns: whether something was given up.
    func adopt(
        _ share: [NamedPartition: TopicID],
        acknowledge: () -> Void,
        isCurrent: () -> Bool
    ) async throws(ClientError) -> Bool {
        let gone = Set(owned.filter { share[$0.key] != $0.value }.keys)
        if !gone.isEmpty {
            guard await takeTurn() else { return false }
            if isCurrent() {
                await giveUp(gone)
                acknowledge()
            }
            giveTurn()
        }
        guard isCurrent() else { return !gone.isEmpty }
        let new = share.filter { owned[$0.key] == nil }
        let (starts, committed) = try await starts(of: Array(new.keys))
        guard isCurrent(), isLiving else { return !gone.isEmpty }
        own(new, from: starts, committed: committed)
        // Records of new partitions wait until the application has heard of them, and perhaps moved.
        await configuration.listener.assigned(self, new.keys.sorted())
        await readArrived()
        return !gone.isEmpty
    }

    /// Commits what was read of partitions, tells the application, and reads them no more.
    ///
    /// Who calls has the turn.
    func giveUp(_ partitions: Set<NamedPartition>, within patience: Duration? = nil) async {
        guard !partitions.isEmpty else { return }
        await stopReading(partitions)
        await commitLast(of: partitions, within: patience)
        await configuration.listener.revoked(self, partitions.sorted())
        forget(partitions)
    }

    /// Drops everything because it belongs to somebody else; who calls has the turn.
    func giveUpLost() async {
        let partitions = Set(owned.keys)
        await stopReading(partitions)
        if !partitions.isEmpty {
            await configuration.listener.lost(self, partitions.sorted())
        }
        forget(partitions)
        switch configuration.groupProtocol {
        case .classic: classic.forgetLoss()
        case .consumer: modern.forgetLoss()
        }
    }

    private func forget(_ partitions: Set<NamedPartition>) {
        for partition in partitions {
            owned[partition] = nil
            pendingCommit[partition] = nil
        }
        progress.forget(partitions)
    }

    // MARK: The end

    /// Gives up what this member reads, and leaves.
    private func part() async {
        if hasLostShare {
            await giveUpLost()
        } else {
            await giveUp(Set(owned.keys), within: Self.farewellPatience)
        }
        await say(farewell())
    }

    /// What is said at the end.
    private enum Farewell {
        /// Nobody knows this member, or it is static and will come back.
        case none
        case classic(memberID: String)
        case consumer(ConsumerGroupHeartbeatRequest)
    }

    private func farewell() -> Farewell {
        switch configuration.groupProtocol {
        case .classic:
            let isKnown = !classic.memberID.isEmpty && configuration.instanceID == nil
            return isKnown ? .classic(memberID: classic.memberID) : .none
        case .consumer: return modern.farewell.map { .consumer($0) } ?? .none
        }
    }

    private func say(_ farewell: Farewell) async {
        let code: Int16
        do throws(ClientError) {
            switch farewell {
            case .none: return
            case .classic(let memberID):
                let group = configuration.group
                let response = try await ask(within: Self.farewellPatience) { version in
                    version >= 3
                        ? LeaveGroupRequest(
                            groupId: group,
                            members: [.init(memberId: memberID, reason: "the consumer is closed")]
                        ) : LeaveGroupRequest(groupId: group, memberId: memberID)
                }
                code = response.members.first?.errorCode ?? response.errorCode
            case .consumer(let request):
                code = try await ask(within: Self.farewellPatience) { _ in request }.errorCode
            }
        } catch {
            return configuration.listener.troubled(error)
        }
        // Who is not known has left already.
        guard code != ErrorCode.unknownMemberId.rawValue,
            let error = ClientError(code: code, subject: "leaving group \(configuration.group)")
        else { return }
        configuration.listener.troubled(error)
    }
}
