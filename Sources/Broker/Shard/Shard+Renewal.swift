import FlotillaCoordination
import FlotillaModel
import FlotillaStorage

/// Replicas that lost their votes, that cannot be opened, or parts of whose logs cannot be put back: the controller puts new members in their places.
///
/// - Source: DESIGN §3 (hard state); architecture bugs 2 and 13.
extension Shard {
    /// How long after an answer the metadata is looked at again.
    private static let renewalPause = Duration.seconds(5)

    /// Whether a replica must not be opened as the member that it was.
    ///
    /// Where this broker alone has the partition nobody could take a new member in, and the log is all there is: it is opened,
    /// and neither votes nor leads.
    func mustBeRenewed(_ group: GroupID) -> Bool {
        guard
            recovered[group]?.hasLostVote == true || unreadable.contains(group)
                || forgotten.contains(group)
        else { return false }
        let members = image.place(of: group.partition)?.members ?? []
        return members.contains { $0.broker != settings.broker }
    }

    /// Asks for a new member until the metadata has one.
    ///
    /// What the disk holds of the old one stays until that is whole.
    func renew(_ group: GroupID) {
        guard renewals[group] == nil else { return }
        renewals[group] = ""
        environment.log(.renewing(group))
        askForRenewal(of: group)
    }

    private func askForRenewal(of group: GroupID) {
        let member = GroupMember(broker: settings.broker, epoch: group.epoch)
        // A replica that still takes part may have been healed meanwhile, or be needed because another one is gone.
        guard image.place(of: group.partition)?.replica(on: settings.broker) == member,
            mustBeRenewed(group) || healer.needsSuccessor(group)
        else {
            renewals[group] = nil
            return releaseUnreadable(group)
        }
        // What cannot be read today may be readable after the next start, and all there is: others must serve without it.
        let isServed = leadership.leader(of: group.partition)?.leader != nil
        guard isServed || !unreadable.contains(group) else { return askAgain(for: group) }
        ask(0, .metadata(.renewReplica(member, of: group.partition))) { [unowned self] reply in
            if case .metadata(.refused(let refusal)) = reply {
                self.noteRefusal(refusal, of: group)
            }
            self.askAgain(for: group)
        }
    }

    /// Lets go of what the journal holds for a replica that cannot be opened, when another member is to take its place.
    ///
    /// Nobody will write it into segments, so the journal would keep it, fill up, and have no room for the new member either. The metadata
    /// is made durable first: with older one a start that can read the replica would take it for the member, without its vote.
    private func releaseUnreadable(_ group: GroupID) {
        guard unreadable.contains(group) else { return }
        ask(0, .metadataIsDurable(image.appliedIndex)) { [unowned self] _ in
            self.journalOutbox.append(
                JournalSubmission(
                    shard: self.index,
                    group: group,
                    ticket: 0,
                    records: [.remove]
                )
            )
            self.environment.requestTurnEnd()
        }
    }

    private func askAgain(for group: GroupID) {
        schedule(after: Self.renewalPause) { [unowned self] in self.askForRenewal(of: group) }
    }

    private func noteRefusal(_ refusal: Refusal, of group: GroupID) {
        guard renewals[group] != refusal.message else { return }
        renewals[group] = refusal.message
        environment.log(
            .retrying(
                what: "a new member in the place of \(group)",
                description: refusal.message
            )
        )
    }
}
