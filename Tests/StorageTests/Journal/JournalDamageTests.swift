import FlotillaEnvironment
import FlotillaModel
import FlotillaRaft
import FlotillaRecords
import FlotillaStorage
import FlotillaSimulation
import Testing

import struct NIOCore.ByteBuffer

@Suite("A damaged journal")
struct JournalDamageTests {
    private let file = JournalHarness.path(slot: 0)
    private let group = GroupID.test(1)
    private let other = GroupID.test(2)

    /// A journal of three rounds for two groups, and where the last one lies.
    private struct Written {
        var harness = JournalHarness()
        var journal: Journal
        var before: [LogEntry]
        var after: [LogEntry]
        var otherEntries: [LogEntry]
        var lastRound: Range<Int>
        var echo: Range<Int>
    }

    /// The last round appends to both groups and has a vote of the first.
    private func write() throws -> Written {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(group)
        var otherLog = TestLog(other)
        let before = log.append([5, 30])
        _ = try journal.perform([
            JournalSubmission(group, [.hardState(.test(2, vote: 1)), .entries(before)]),
            JournalSubmission(
                other,
                [.hardState(.test(7, vote: 3)), .entries(otherLog.append([40]))]
            ),
        ])
        harness.disk.isRecording = true
        let added = log.append([20, 61])
        _ = try journal.perform([
            JournalSubmission(group, [.hardState(.test(3, vote: 2)), .entries(added)]),
            JournalSubmission(other, [.entries(otherLog.append([9]))]),
        ])
        guard case .write(_, let position, let count) = try #require(harness.disk.operations.first)
        else {
            preconditionFailure("a round begins with its write")
        }
        let start = Int(position)
        let echoByteCount = harness.number(file, at: start + 80, as: UInt32.self)
        return Written(
            harness: harness,
            journal: journal,
            before: before,
            after: log.entries,
            otherEntries: otherLog.entries,
            lastRound: start..<start + count,
            echo: start + count - 4096..<start + count - 4096 + Int(echoByteCount)
        )
    }

    /// The bytes of a round that mean something, and a few of its padding.
    private func positions(of written: Written) -> [Int] {
        let start = written.lastRound.lowerBound
        let heads = Int(written.harness.number(file, at: start + 64, as: UInt32.self))
        let payload = Int(written.harness.number(file, at: start + 72, as: UInt64.self))
        let end = start + 128 + heads + payload
        return Array(start..<end) + [end, end + 100, written.echo.lowerBound - 1]
            + Array(written.echo)
            + [written.echo.upperBound]
    }

    @Test("each byte of the last, unsealed round flipped: cut or untouched, and votes stay")
    func flippedLastRound() throws {
        let written = try write()
        var cutCount = 0
        for position in positions(of: written) {
            let recovery = try written.harness.recover {
                $0.flip(file, at: Int64(position), mask: 0x10)
            }
            let found = try #require(recovery[group])
            #expect(recovery.damage.isEmpty, "byte \(position): a torn tail is no damage")
            #expect(!found.isSuspect && !found.isHardStateLost)
            #expect(found.hardState == .test(3, vote: 2), "byte \(position): the vote stands twice")
            if recovery.tornTail == nil {
                #expect(found.entries.checksums == written.after.checksums, "byte \(position)")
                #expect(recovery[other]?.entries.checksums == written.otherEntries.checksums)
            } else {
                cutCount += 1
                #expect(found.entries.checksums == written.before.checksums, "byte \(position)")
                #expect(recovery[other]?.entries.count == 1)
                #expect(recovery.tornTail?.file == file)
                #expect(recovery.tornTail?.position == written.lastRound.lowerBound)
            }
        }
        #expect(cutCount > 500)
    }

    @Test("the journal truncated at every byte of its last round: cut, never damaged")
    func truncatedLastRound() throws {
        let written = try write()
        let content = written.harness.disk.contents(file)
        let ends =
            positions(of: written) + [
                written.lastRound.upperBound - 1, written.lastRound.upperBound,
            ]
        for end in ends {
            let recovery = try written.harness.recover { disk in
                disk.put(file, content.getSlice(at: 0, length: end) ?? ByteBuffer())
            }
            let found = try #require(recovery[group])
            #expect(recovery.damage.isEmpty && !found.isSuspect)
            let isWhole = found.entries.checksums == written.after.checksums
            #expect(
                isWhole || found.entries.checksums == written.before.checksums,
                "cut at byte \(end)"
            )
            #expect(isWhole == (end >= written.echo.lowerBound), "cut at byte \(end)")
            let isVoteNew = found.hardState == .test(3, vote: 2)
            #expect(
                isVoteNew || !isWhole && found.hardState == .test(2, vote: 1),
                "cut at byte \(end)"
            )
        }
    }

    @Test("each byte of a sealed round flipped: told, and nothing lost silently")
    func flippedSealedRound() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        var toldCount = 0
        for position in positions(of: written) {
            let recovery = try written.harness.recover {
                $0.flip(file, at: Int64(position), mask: 0x04)
            }
            let found = try #require(recovery[group])
            let second = try #require(recovery[other])
            #expect(recovery.tornTail == nil, "byte \(position): a sealed round is not torn")
            #expect(
                found.hardState == .test(3, vote: 2) && !found.isHardStateLost,
                "byte \(position)"
            )
            #expect(
                second.hardState == .test(7, vote: 3) && !second.isHardStateLost,
                "byte \(position)"
            )
            toldCount += recovery.damage.isEmpty ? 0 : 1
            for (state, entries) in [(found, written.after), (second, written.otherEntries)] {
                let continuation = state.continuation(after: .zero, checksum: 0)
                let isComplete = continuation.entries.checksums == entries.checksums
                #expect(
                    isComplete || continuation.isSuspect,
                    "byte \(position): a loss is never silent"
                )
                #expect(
                    isComplete || recovery.damage.contains { !$0.isRepaired },
                    "byte \(position)"
                )
                #expect(
                    entries.checksums.starts(with: continuation.entries.checksums),
                    "byte \(position)"
                )
            }
        }
        #expect(toldCount >= positions(of: written).count - 5, "all but flips of padding are told")
    }

    @Test("a damaged header of a sealed round costs nothing: the next one repeats it")
    func flippedHeader() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        for offset in 0..<128 {
            let position = written.lastRound.lowerBound + offset
            let recovery = try written.harness.recover {
                $0.flip(file, at: Int64(position), mask: 0xFF)
            }
            #expect(recovery[group]?.entries.checksums == written.after.checksums)
            #expect(recovery.damage.map(\.kind) == [.roundHeader])
            #expect(recovery.damage.map(\.position) == [written.lastRound.lowerBound])
            #expect(recovery.damage.allSatisfy(\.isRepaired) && !recovery.areUnknownGroupsSuspect)
            #expect(recovery.groups.allSatisfy { !$0.state.isSuspect })
        }
    }

    @Test("a damaged payload costs that entry, by name, and only its group is suspect")
    func flippedPayload() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        let start = written.lastRound.lowerBound
        let heads = Int(written.harness.number(file, at: start + 64, as: UInt32.self))
        let recovery = try written.harness.recover { $0.flip(file, at: Int64(start + 128 + heads)) }
        guard case .payload(let lost) = try #require(recovery.damage.first).kind else {
            Issue.record("a damaged payload is named")
            return
        }
        #expect(lost.map(\.group) == [group] && lost.map(\.index) == [LogIndex(3)])
        #expect(recovery.damage.count == 1)
        let found = try #require(recovery[group])
        #expect(found.continuation(after: .zero, checksum: nil).entries.count == 2)
        #expect(found.continuation(after: .zero, checksum: nil).isSuspect)
        let held = found.continuation(after: LogIndex(3), checksum: written.after[2].frame.checksum)
        #expect(
            held.entries.count == 1 && !held.isSuspect,
            "segments that hold the entry make good for it"
        )
        #expect(recovery[other]?.continuation(after: .zero, checksum: nil).isSuspect == false)
    }

    @Test(
        "after a clean stop the damage of a round's records touches only the groups that were in it"
    )
    func cleanStopVouches() throws {
        let written = try write()
        var third = TestLog(.test(3))
        var entries: [LogEntry] = third.append([3])
        _ = try written.journal.perform([JournalSubmission(third.group, [.entries(entries)])])
        entries = third.entries
        try written.journal.close()
        let recovery = try written.harness.recover {
            $0.flip(file, at: Int64(written.lastRound.lowerBound + 130))
        }
        #expect(recovery.wasClean)
        #expect(recovery[third.group]?.continuation(after: .zero, checksum: 0).isSuspect == false)
        #expect(recovery[group]?.continuation(after: .zero, checksum: 0).isSuspect == true)
        #expect(recovery[group]?.continuation(after: LogIndex(4), checksum: nil).isSuspect == false)
        #expect(recovery[group]?.hardState == .test(3, vote: 2))
    }

    @Test("suspicion outlives starts until a leader has matched the group")
    func suspicionStays() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        written.harness.disk.flip(file, at: Int64(written.lastRound.lowerBound + 130))
        for _ in 0..<3 {
            let (journal, recovery) = try written.harness.open()
            #expect(recovery[group]?.isSuspect == true && recovery[other]?.isSuspect == true)
            journal.release(group, upTo: LogIndex(2))
            _ = try journal.sealIfNeeded()
        }
        let (journal, _) = try written.harness.open()
        let suffix = Array(written.after[2...])
        let last = suffix[1].frame
        _ = try journal.perform([
            JournalSubmission(
                group,
                [.entries(suffix), .trusted(last.position, checksum: last.checksum)]
            )
        ])
        written.harness.disk.crash(.dropUnsynced)
        let (_, recovery) = try written.harness.open()
        #expect(recovery[group]?.isSuspect == false && recovery[other]?.isSuspect == true)
        #expect(
            recovery[group]?.continuation(after: .zero, checksum: 0).entries.checksums
                == written.after.checksums
        )
    }

    @Test("with both copies of a vote bad the vote is lost, and told")
    func voteLost() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        let recovery = try written.harness.recover { disk in
            disk.flip(file, at: Int64(written.lastRound.lowerBound + 170))
            disk.flip(file, at: Int64(written.echo.lowerBound + 70))
        }
        #expect(recovery[group]?.isHardStateLost == true)
        #expect(recovery.damage.map(\.kind) == [.records(votesKept: false)])
        let again = try written.harness.recover { disk in
            disk.flip(file, at: Int64(written.lastRound.lowerBound + 170))
        }
        #expect(
            again[group]?.isHardStateLost == false && again[group]?.hardState == .test(3, vote: 2)
        )
    }

    @Test("a newer vote makes good for a lost one")
    func newerVote() throws {
        let written = try write()
        _ = try written.journal.perform([JournalSubmission(group, [.hardState(.test(4, vote: 1))])])
        let recovery = try written.harness.recover { disk in
            disk.flip(file, at: Int64(written.lastRound.lowerBound + 170))
            disk.flip(file, at: Int64(written.echo.lowerBound + 70))
        }
        #expect(
            recovery[group]?.isHardStateLost == false
                && recovery[group]?.hardState == .test(4, vote: 1)
        )
        #expect(recovery[other]?.isHardStateLost == true)
    }

    @Test(
        "one bad copy of a file's header costs nothing, and both only as much",
        arguments: [[0], [4096], [0, 4096]]
    )
    func fileHeader(copies: [Int64]) throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        let recovery = try written.harness.recover { disk in
            for copy in copies {
                disk.flip(file, at: copy + 49)
            }
        }
        #expect(recovery.damage.map(\.kind) == copies.map { _ in .fileHeader })
        #expect(recovery[group]?.entries.checksums == written.after.checksums)
        #expect(recovery.groups.allSatisfy { !$0.state.isSuspect && !$0.state.isHardStateLost })
    }

    @Test("a block that cannot be read at the end of the journal is damage and no torn tail")
    func unreadableBlock() throws {
        let written = try write()
        let bad = Int64(written.lastRound.lowerBound)
        let recovery = try written.harness.recover { disk in
            disk.fault = { operation in
                guard case .read(let path, let position, let count) = operation, path == file else {
                    return nil
                }
                let isHit = position < bad + 4096 && position + Int64(count) > bad
                return isHit ? .failed(operation: "pread", path: path, errno: 5) : nil
            }
        }
        #expect(!recovery.damage.isEmpty)
        #expect(recovery[group]?.isSuspect == true)
    }

    @Test("a record kind of a later version is refused")
    func laterRecordKind() throws {
        let written = try write()
        _ = try written.journal.sealIfNeeded()
        var content = written.harness.disk.contents(file)
        let start = written.lastRound.lowerBound
        let heads = Int(written.harness.number(file, at: start + 64, as: UInt32.self))
        content.setInteger(UInt8(9), at: start + 128)
        let headsSum = CRC32C.checksum(
            content.getSlice(at: start + 128, length: heads) ?? ByteBuffer()
        )
        content.setInteger(headsSum, at: start + 68, endianness: .little)
        let sum = CRC32C.checksum(content.getSlice(at: start, length: 124) ?? ByteBuffer())
        content.setInteger(sum, at: start + 124, endianness: .little)
        let changed = content
        #expect(throws: StorageError.unsupportedRecordKind(file: file, kind: 9)) {
            try written.harness.recover { $0.put(file, changed) }
        }
    }

    @Test("a file that is gone is missed, wherever it stood")
    func lostFile() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(group)
        while journal.liveByteCount < 5 * 65536 {
            _ = try journal.perform([
                JournalSubmission(
                    group,
                    [.hardState(.test(1, vote: 1)), .entries(log.append([8000]))]
                )
            ])
        }
        _ = try journal.sealIfNeeded()
        harness.disk.crash(.dropUnsynced)
        for slot in 0..<4 {
            let recovery = try harness.recover { disk in
                do {
                    try disk.remove(JournalHarness.path(slot: slot))
                } catch {
                    Issue.record(error)
                }
            }
            #expect(recovery.damage.contains { !$0.isRepaired }, "file \(slot)")
            let continuation = recovery[group]?.continuation(after: .zero, checksum: 0)
            #expect(continuation?.isSuspect == true, "file \(slot)")
        }
    }

    @Test("a file that nobody can place is set aside, not overwritten")
    func setAside() throws {
        let written = try write()
        let path = JournalHarness.path(slot: 5)
        let junk = ByteBuffer(repeating: 0xA5, count: 32 << 10)
        written.harness.disk.put(path, junk)
        let (_, recovery) = try written.harness.open()
        #expect(recovery[group]?.entries.checksums == written.after.checksums)
        #expect(written.harness.disk.contents(path + ".unreadable") == junk)
    }

    @Test("a round in a payload is not taken for one of the journal's")
    func payloadLooksLikeRound() throws {
        let harness = JournalHarness()
        let (journal, _) = try harness.open()
        var log = TestLog(group)
        _ = try journal.perform([JournalSubmission(group, [.entries(log.append([100]))])])
        let copied = harness.disk.contents(file).getSlice(at: 8192, length: 8192) ?? ByteBuffer()
        var payload = ByteBuffer()
        for shift in 0..<8 {
            payload.writeRepeatingByte(0, count: 512 * shift)
            payload.writeImmutableBuffer(copied)
        }
        let last = log.entries[0].frame
        let forged = LogEntry.control(
            .snapshotMark,
            payload: payload,
            index: last.index.next,
            term: last.term,
            nextOffset: .zero,
            appendTime: Timestamp(1),
            previousChecksum: last.checksum
        )
        harness.disk.isRecording = true
        _ = try journal.perform([JournalSubmission(group, [.entries([forged])])])
        guard
            case .write(let path, let position, _) = try #require(
                harness.disk.operations.last { operation in
                    if case .write = operation { true } else { false }
                }
            )
        else {
            return
        }
        let torn = try harness.recover { $0.flip(path, at: position + 3) }
        #expect(torn[group]?.entries.count == 1 && torn.damage.isEmpty)
        _ = try journal.sealIfNeeded()
        let sealed = try harness.recover { $0.flip(path, at: position + 3) }
        #expect(sealed[group]?.entries.count == 2)
        #expect(sealed.damage.map(\.kind) == [.roundHeader])
    }
}
