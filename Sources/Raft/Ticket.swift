package import FlotillaModel

/// Names one durable write that a member asked for, so that its completion can be told apart.
///
/// Writes of one group are numbered and reach the disk in that order: a completed ticket completes
/// every ticket before it. A ticket also carries the truncation generation of the log it belongs
/// to. After a suffix was replaced, a late completion of the old suffix says nothing about the new
/// entries that now sit at the same indexes; the generation shows it, and it is ignored. The write
/// that replaced the suffix completes later and attests everything before it.
package struct Ticket: Hashable, Sendable {
    /// The number of the write, counted from 1 since the member started.
    package let number: UInt64
    /// The member's term when it asked for the write.
    package let term: Term
    /// How often the member's log had lost a suffix when it asked for the write.
    package let generation: UInt64

    package init(number: UInt64, term: Term, generation: UInt64) {
        self.number = number
        self.term = term
        self.generation = generation
    }
}

extension Ticket: Comparable, CustomStringConvertible {
    /// Orders by number: the order in which the writes reach the disk.
    package static func < (left: Ticket, right: Ticket) -> Bool {
        left.number < right.number
    }

    /// `#7`: the seventh write.
    package var description: String {
        "#\(number)"
    }
}
