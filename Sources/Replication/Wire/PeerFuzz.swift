import FlotillaModel
import FlotillaRaft
import FlotillaRecords

import struct NIOCore.ByteBuffer

/// Tries arbitrary bytes as a frame from a peer.
///
/// An error is fine; a trap, or a promise that does not hold, is the finding: what is read as a frame
/// writes the same bytes, and is routed to the partition that it names.
package func fuzzPeerFrame(_ bytes: RawSpan) {
    var input = ByteBuffer()
    input.writeBytes(bytes)
    fuzzFrame(input)
    // Behind sound checksums, entries reach the code that a random change never would.
    let request = appendRequest(spelledBy: input)
    let parts = PeerMessage.raft(request).encoded()
    fuzzFrame(contiguous(parts).0)
}

private func fuzzFrame(_ input: ByteBuffer) {
    let destination = PeerMessage.destination(of: input)
    guard let message = try? PeerMessage(decoding: input) else {
        return
    }
    let (frame, length) = contiguous(message.encoded())
    precondition(frame == input, "a frame writes the bytes that it was read from")
    precondition(Int(length) == input.readableBytes, "a frame's length counts the frame")
    switch message {
    case .raft(let envelope):
        precondition(destination == envelope.partition, "a frame goes where it says")
    case .replica(let message):
        precondition(destination == message.partition, "a frame goes where it says")
        fuzzRepair(message)
    case .beat, .beatAnswer, .application:
        precondition(destination == nil, "other frames go to no partition")
    }
}

private func fuzzRepair(_ message: ReplicaMessage) {
    guard let repair = try? RepairMessage(message) else { return }
    let again = repair.message(
        of: message.partition,
        from: message.senderEpoch,
        to: message.targetEpoch
    )
    precondition(
        contiguous(PeerMessage.replica(again).encoded())
            == contiguous(PeerMessage.replica(message).encoded()),
        "a message writes the bytes that it was read from"
    )
}

/// The frame without its length, and the length.
private func contiguous(_ parts: [ByteBuffer]) -> (ByteBuffer, UInt32) {
    var frame = ByteBuffer()
    for part in parts {
        frame.writeImmutableBuffer(part)
    }
    let length = frame.readInteger(endianness: .little, as: UInt32.self) ?? 0
    return (frame, length)
}

/// Reads the input as a list of kind, length and payload, and makes sound entries of them: their
/// checksums and their chain are right, whatever their payloads hold.
private func appendRequest(spelledBy input: ByteBuffer) -> RaftEnvelope {
    var input = input
    var entries: [LogEntry] = []
    while let kind = input.readInteger(as: UInt8.self),
        let length = input.readInteger(as: UInt8.self),
        let payload = input.readSlice(length: min(Int(length), input.readableBytes))
    {
        let place = FuzzedPlace(
            index: LogIndex(UInt64(entries.count + 1)),
            previousChecksum: entries.last?.frame.checksum ?? 0
        )
        entries.append(place.entry(kind: kind, payload: payload))
    }
    let request = AppendRequest(
        term: FuzzedPlace.term,
        sequence: 1,
        previous: .zero,
        entries: entries.map { EntryDescriptor(term: $0.frame.term, kind: .other, byteCount: 0) },
        commitIndex: .zero,
        lastIndex: LogIndex(UInt64(entries.count))
    )
    return RaftEnvelope(
        partition: .clusterMetadata,
        senderEpoch: CreationEpoch(1),
        targetEpoch: CreationEpoch(2),
        message: .appendRequest(request),
        entries: entries
    )
}

/// Where an entry of a fuzzed request stands.
private struct FuzzedPlace {
    static let term = Term(7)
    let index: LogIndex
    let previousChecksum: UInt32

    /// A batch where the payload has the shape of one, its own checksum uncompared; or else a control
    /// entry of some kind.
    func entry(kind: UInt8, payload: ByteBuffer) -> LogEntry {
        if let batch = try? RecordBatch(parsing: payload, isChecksumTrusted: true) {
            return .data(
                batch,
                index: index,
                term: Self.term,
                baseOffset: .zero,
                appendTime: Timestamp(1),
                previousChecksum: previousChecksum
            )
        }
        let kinds = FlotillaRecords.EntryKind.allCases.filter { $0 != .data }
        return .control(
            kinds[Int(kind) % kinds.count],
            payload: payload,
            index: index,
            term: Self.term,
            nextOffset: .zero,
            appendTime: Timestamp(1),
            previousChecksum: previousChecksum
        )
    }
}
