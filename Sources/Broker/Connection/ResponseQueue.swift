import DequeModule
import FlotillaEnvironment

/// The answers of one connection, which leave in the order of their requests whatever the order they are ready in.
struct ResponseQueue {
    /// The place of one request's answer.
    struct Slot: Hashable {
        fileprivate var number: UInt64
    }

    private struct Place {
        var parts: [OutputPart]?
        /// What the request costs until its answer is handed over.
        var requestByteCount: Int
        /// What of the answer counts as held for a consumer.
        var heldByteCount = 0
    }

    private var places = Deque<Place>()
    private var firstNumber: UInt64 = 0

    /// The number of requests without an answer, or with one that waits for an earlier one.
    var count: Int { places.count }

    /// Takes the next place.
    mutating func open(requestByteCount: Int) -> Slot {
        places.append(Place(parts: nil, requestByteCount: requestByteCount))
        return Slot(number: firstNumber + UInt64(places.count - 1))
    }

    /// Fills a place; empty parts answer nothing, as for Produce with acks=0.
    mutating func fill(_ slot: Slot, _ parts: [OutputPart], heldByteCount: Int) {
        precondition(slot.number >= firstNumber, "a request is answered once")
        let position = Int(slot.number - firstNumber)
        precondition(places[position].parts == nil, "a request is answered once")
        places[position].parts = parts
        places[position].heldByteCount = heldByteCount
    }

    /// Takes the next answer, if it is ready.
    mutating func takeReady()
        -> (parts: [OutputPart], requestByteCount: Int, heldByteCount: Int)?
    {
        guard let first = places.first, let parts = first.parts else { return nil }
        places.removeFirst()
        firstNumber += 1
        return (parts, first.requestByteCount, first.heldByteCount)
    }
}
