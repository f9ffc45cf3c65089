import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import struct NIOCore.ByteBuffer

/// Writes a `.state` anew, from a replay or from a peer's bytes.
package struct StateRepair: Sendable {
    let write: StateWrite
    let partition: TopicPartition
    /// What the state has to agree with; nil for one that this replica made itself.
    let expectation: Expectation?

    /// What this replica knows of a state that a peer sent.
    struct Expectation: Sendable {
        /// The entry before, where it is in memory.
        var mark: LogMark?
        var terms: TermTable
        /// The first entry whose term is known.
        var firstIndex: LogIndex
    }

    /// Does the work; blocks.
    package func perform() -> StateRepairResult {
        do throws(StorageError) {
            if let expectation, try !agrees(expectation) {
                throw .repairRefused(
                    file: "\(write.directory)/\(write.name.fileName(.state))",
                    at: write.name.firstIndex
                )
            }
            try write.perform()
            return StateRepairResult(repair: self, outcome: .success(()))
        } catch {
            return StateRepairResult(repair: self, outcome: .failure(error))
        }
    }

    private func agrees(_ expectation: Expectation) throws(StorageError) -> Bool {
        guard let state = try? LogState(parsing: write.bytes, partition: partition),
            state.name == write.name, state.segment == write.name,
            state.extent == SegmentExtent(), state.logStartOffset <= state.mark.endOffset,
            state.membership.index <= state.mark.index,
            expectation.mark ?? state.mark == state.mark
        else { return false }
        let known = expectation.terms.rows.filter { $0.firstIndex > expectation.firstIndex }
        let claimed = state.terms.rows.filter { $0.firstIndex > expectation.firstIndex }
        guard known == claimed else { return false }
        // The segment that follows says what it continues.
        let manner = SegmentScanner.Manner(isUncached: true, verifiesPayload: false)
        let scanner = try onDisk { () throws(DiskError) in
            try SegmentScanner(write.name, in: write.directory, on: write.disk, manner)
        }
        guard case .success(let header) = scanner.header else { return expectation.mark != nil }
        return header.previousChecksum == state.mark.checksum
    }
}

/// What became of a `StateRepair`.
package struct StateRepairResult: Sendable {
    let repair: StateRepair
    let outcome: Result<Void, StorageError>
}
