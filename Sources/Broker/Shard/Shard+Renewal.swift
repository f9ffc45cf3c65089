import FlotillaCoordination
import FlotillaModel

/// Replicas that lost their votes, or parts of their logs that cannot be put back: the controller puts new members in their places.
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
        guard recovered[group]?.hasLostVote == true else { return false }
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
            return
        }
        ask(0, .metadata(.renewReplica(member, of: group.partition))) { [unowned self] reply in
            if case .metadata(.refused(let refusal)) = reply {
                self.noteRefusal(refusal, of: group)
            }
            self.schedule(after: Self.renewalPause) { [unowned self] in
                self.askForRenewal(of: group)
            }
        }
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
