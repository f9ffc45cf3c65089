package import NIOCore
import Synchronization

/// What other threads have for a shard: a lock, an array, and one wake-up per mailbox that was
/// empty.
///
/// Posting allocates nothing once the arrays have grown. Messages of one sender keep their order.
/// The mailbox itself has no bound: a sender has at most as much in it as its own limits let it
/// have in flight.
package final class ShardMailbox<Message: Sendable>: Sendable {
    private struct Contents {
        var messages: [Message] = []
        /// The other of two arrays, emptied by the last drain.
        var spare: [Message] = []
    }

    private typealias Handler = ([Message]) -> Void

    private let eventLoop: any EventLoop
    // Guards the arrays between senders and the shard.
    private let contents = Mutex(Contents())
    private let handler: NIOLoopBoundBox<Handler?>

    /// Makes the mailbox of `eventLoop`'s shard; what is posted waits until a handler is there.
    package init(eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
        handler = NIOLoopBoundBox.makeEmptyBox(eventLoop: eventLoop)
    }

    /// Sets who takes the messages; called once, on the shard.
    ///
    /// - Parameter handler: gets all messages since its last call, oldest first, in a turn of its
    ///   own.
    package func open(_ handler: @escaping ([Message]) -> Void) {
        precondition(self.handler.value == nil, "a mailbox has one reader")
        self.handler.value = handler
        drain()
    }

    /// Posts a message, from any thread.
    package func post(_ message: Message) {
        let wasEmpty = contents.withLock { contents in
            contents.messages.append(message)
            return contents.messages.count == 1
        }
        if wasEmpty {
            wake()
        }
    }

    /// Posts several messages with one wake-up, from any thread.
    package func post(contentsOf messages: [Message]) {
        guard !messages.isEmpty else {
            return
        }
        let wasEmpty = contents.withLock { contents in
            let wasEmpty = contents.messages.isEmpty
            contents.messages.append(contentsOf: messages)
            return wasEmpty
        }
        if wasEmpty {
            wake()
        }
    }

    private func wake() {
        eventLoop.execute {
            self.drain()
        }
    }

    private func drain() {
        guard let handler = handler.value else {
            return
        }
        var messages = contents.withLock { contents in
            let messages = contents.messages
            contents.messages = contents.spare
            contents.spare = []
            return messages
        }
        guard !messages.isEmpty else {
            return
        }
        handler(messages)
        messages.removeAll(keepingCapacity: messages.capacity <= 4096)
        let spare = messages
        contents.withLock { $0.spare = spare }
    }
}
