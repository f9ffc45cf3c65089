/// Events in the order of their time, and of their coming within one time: a binary heap.
struct EventQueue<Event> {
    private struct Item {
        var time: Int
        var number: Int
        var event: Event

        func isBefore(_ other: Item) -> Bool {
            (time, number) < (other.time, other.number)
        }
    }

    private var items: [Item] = []
    private var nextNumber = 0

    mutating func add(_ event: Event, at time: Int) {
        items.append(Item(time: time, number: nextNumber, event: event))
        nextNumber += 1
        var child = items.count - 1
        while child > 0, items[child].isBefore(items[(child - 1) / 2]) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func next() -> (time: Int, event: Event)? {
        guard let first = items.first else {
            return nil
        }
        items[0] = items[items.count - 1]
        items.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2]
            where child < items.count && items[child].isBefore(items[least]) {
                least = child
            }
            guard least != parent else {
                break
            }
            items.swapAt(parent, least)
            parent = least
        }
        return (first.time, first.event)
    }
}
