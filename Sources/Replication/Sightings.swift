import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft

/// When a leader last heard of its members, for those who watch the group.
struct Sightings {
    struct Sighting {
        var member: GroupMember
        var heard: Instant
        var caughtUp: Instant?
    }

    private var all: [Sighting] = []
    /// The log's end at the last tick, and when that was.
    private var lastTick: (end: LogIndex, time: Instant)?

    subscript(member: GroupMember) -> Sighting? {
        all.first { $0.member == member }
    }

    /// A member said something.
    mutating func saw(_ member: GroupMember, now: Instant) {
        if let place = all.firstIndex(where: { $0.member == member }) {
            all[place].heard = now
        } else {
            all.append(Sighting(member: member, heard: now))
        }
    }

    /// Notes who has everything that the log held at the tick before.
    ///
    /// Compared with the end of right now, nobody would ever have caught up with a log that is written all the time.
    mutating func tick(_ raft: borrowing Raft, now: Instant) {
        guard raft.role == .leader else {
            all.removeAll()
            lastTick = nil
            return
        }
        all.removeAll { raft.progress(of: $0.member) == nil }
        if let lastTick {
            for place in all.indices
            where raft.progress(of: all[place].member)?.match ?? .zero >= lastTick.end {
                all[place].caughtUp = lastTick.time
            }
        }
        lastTick = (raft.lastIndex, now)
    }
}
