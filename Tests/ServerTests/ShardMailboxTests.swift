import FlotillaEnvironment
import FlotillaModel
import FlotillaServer
import NIOCore
import NIOEmbedded
import NIOPosix
import Testing

@Suite("A shard's mailbox, turns and timer")
struct ShardMailboxTests {
    @Test("Messages of several threads arrive once each, and each sender's in order")
    func mailbox() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        let loop = group.next()
        let mailbox = ShardMailbox<(sender: Int, number: Int)>(eventLoop: loop)
        mailbox.post((sender: 9, number: 0))
        let done = loop.makePromise(of: [[Int]].self)
        loop.execute {
            var received = [[Int]](repeating: [], count: 10)
            var count = 0
            mailbox.open { messages in
                for message in messages {
                    received[message.sender].append(message.number)
                    count += 1
                }
                if count == 4 * 1000 + 1 {
                    done.succeed(received)
                }
            }
        }
        let pool = WorkerPool(threadCount: 4)
        for sender in 0..<4 {
            pool.submit {
                for number in stride(from: 0, to: 1000, by: 2) {
                    mailbox.post((sender, number))
                    mailbox.post(contentsOf: [(sender, number + 1)])
                }
            }
        }
        pool.stop()
        let received = try await done.futureResult.get()
        #expect(received[9] == [0])
        for sender in 0..<4 {
            #expect(received[sender] == Array(0..<1000))
        }
        try await group.shutdownGracefully()
    }

    @Test("A full mailbox wakes its shard once")
    func oneWakeUp() {
        let loop = EmbeddedEventLoop()
        let mailbox = ShardMailbox<Int>(eventLoop: loop)
        var batches: [[Int]] = []
        mailbox.open { batches.append($0) }
        mailbox.post(1)
        mailbox.post(contentsOf: [])
        mailbox.post(contentsOf: [2, 3])
        mailbox.post(4)
        #expect(batches.isEmpty)
        loop.run()
        #expect(batches == [[1, 2, 3, 4]])
        mailbox.post(5)
        loop.run()
        #expect(batches == [[1, 2, 3, 4], [5]])
    }

    @Test("The end of a turn comes once, after everything that was already waiting")
    func turns() {
        let loop = EmbeddedEventLoop()
        var events: [String] = []
        let scheduler = TurnScheduler(eventLoop: loop) { events.append("end") }
        loop.assumeIsolated().execute {
            events.append("a")
            scheduler.markDirty()
            scheduler.markDirty()
        }
        loop.assumeIsolated().execute {
            events.append("b")
            scheduler.markDirty()
        }
        loop.run()
        #expect(events == ["a", "b", "end"])
        scheduler.markDirty()
        loop.run()
        #expect(events == ["a", "b", "end", "end"])
    }

    @Test("A timer runs at the earliest instant that was asked for since it last ran")
    func timer() {
        let loop = EmbeddedEventLoop()
        var count = 0
        let timer = ShardTimer(eventLoop: loop) { count += 1 }
        timer.arm(at: .start + .seconds(10))
        timer.arm(at: .start + .seconds(5))
        timer.arm(at: .start + .seconds(20))
        loop.advanceTime(to: .uptimeNanoseconds(4_999_999_999))
        #expect(count == 0)
        loop.advanceTime(to: .uptimeNanoseconds(5_000_000_000))
        #expect(count == 1)
        loop.advanceTime(to: .uptimeNanoseconds(15_000_000_000))
        #expect(count == 1)
        timer.arm(at: .start + .seconds(20))
        loop.advanceTime(to: .uptimeNanoseconds(20_000_000_000))
        #expect(count == 2)
    }

    @Test("The clock is the one of the loops' timers, and the wall clock is this decade's")
    func clocks() {
        let clock = SystemClock()
        let before = NIODeadline.now().uptimeNanoseconds
        let now = clock.now.nanoseconds
        let after = NIODeadline.now().uptimeNanoseconds
        #expect(now >= Int64(before) && now <= Int64(after))
        #expect(clock.wallTime.rawValue > 1_700_000_000_000)
    }
}
