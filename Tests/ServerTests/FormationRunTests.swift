import FlotillaCoordination
import FlotillaEnvironment
import FlotillaModel
@testable import FlotillaServer
import Logging
import Synchronization
import Testing

import struct NIOCore.ByteBuffer

private let silent = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

/// Brokers that reach each other by a call instead of a socket.
private final class Neighbourhood: Sendable {
    // Guards the table: runs ask from tasks of their own.
    private let boards = Mutex<[NetworkAddress: FormationBoard]>([:])

    struct Refused: Error, CustomStringConvertible {
        let description = "connection refused"
    }

    func add(_ board: FormationBoard, at address: NetworkAddress) {
        boards.withLock { $0[address] = board }
    }

    func run(_ board: FormationBoard) -> FormationRun {
        FormationRun(board: board, logger: silent) { [self] address, body in
            _ = try FormationCard(decoding: body)
            guard let other = boards.withLock({ $0[address] }) else { throw Refused() }
            return other.body
        }
    }
}

@Suite("Formation of a cluster of boards")
struct FormationRunTests {
    let scratch: Scratch
    private let neighbourhood = Neighbourhood()
    private static let seeds = JoinList((1...3).map { address($0) })

    init() throws {
        scratch = try Scratch()
    }

    private static func address(_ number: Int32) -> NetworkAddress {
        NetworkAddress(host: "b\(number)", port: 9192)
    }

    private func incarnation(_ number: Int32) -> BrokerIncarnation {
        BrokerIncarnation(high: 1, low: UInt64(number))
    }

    /// A broker with what its directory says now, listening under its name.
    private func board(
        _ number: Int32,
        join: JoinList = seeds,
        hasListener: Bool = true
    ) throws -> FormationBoard {
        let directory = scratch.file("\(number)")
        try scratch.disk.createDirectory(directory)
        let state = try ClusterIdentity.read(
            in: directory,
            broker: BrokerID(number),
            incarnation: incarnation(number),
            metadataEpoch: nil,
            disk: scratch.disk
        )
        let card = FormationCard(
            broker: BrokerID(number),
            incarnation: incarnation(number),
            run: .random(in: 0...UInt64.max),
            peerAddress: hasListener ? Self.address(number) : nil,
            kafkaAddresses: [],
            rack: nil,
            join: join,
            state: state
        )
        let board = try FormationBoard(card, directory: directory, disk: scratch.disk)
        neighbourhood.add(board, at: Self.address(number))
        return board
    }

    private var founders: FoundingList {
        FoundingList(
            (1...3).map { number in
                FoundingMember(
                    broker: BrokerID(number),
                    incarnation: incarnation(number),
                    address: Self.address(number)
                )
            }
        )
    }

    /// Forms the cluster of three, and gives their boards.
    private func form() async throws -> [FormationBoard] {
        let boards = try (1...3).map { try board($0) }
        let neighbourhood = neighbourhood
        let results = try await withThrowingTaskGroup(of: FormationRun.Result.self) { tasks in
            for board in boards {
                tasks.addTask { try await neighbourhood.run(board).perform().result }
            }
            return try await tasks.reduce(into: []) { $0.append($1) }
        }
        #expect(results == Array(repeating: .found(founders), count: 3))
        return boards
    }

    @Test("Three brokers find each other, found one cluster, and know it after a restart")
    func threeBrokers() async throws {
        _ = try await form()
        for number in 1...3 as ClosedRange<Int32> {
            let again = try board(number)
            #expect(again.card.state == .founded(founders))
            let (result, named) = try await neighbourhood.run(again).perform()
            #expect(result == .found(founders))
            #expect(named == Self.address(number))
        }
    }

    @Test("A late broker waits for the cluster's id, and then joins; a member goes on alone")
    func lateBroker() async throws {
        let boards = try await form()
        let late = try board(4)
        let neighbourhood = neighbourhood
        async let joined = neighbourhood.run(late).perform()
        try await Task.sleep(for: .milliseconds(150))
        #expect(late.card.state == .empty)
        let membership = ClusterMembership(
            clusterID: "x",
            epoch: founders.epoch,
            founders: founders
        )
        try boards[1].establish(.member(membership))
        guard case (.join(let invitation), nil) = try await joined else {
            Issue.record("the late broker joins")
            return
        }
        #expect(invitation.clusterID == "x")
        #expect(
            invitation.through == [PeerAddress(broker: BrokerID(2), address: Self.address(2))]
        )
        #expect(late.clusterID == "x")
        #expect(try board(4).card.state == .joining(clusterID: "x"))

        let alone = Neighbourhood()
        let again = try board(2)
        let (result, _) = try await alone.run(again).perform()
        #expect(result == .resume(membership))
    }

    @Test("A broker without a list founds a cluster of itself and asks nobody")
    func alone() async throws {
        let board = try board(1, join: .none, hasListener: false)
        let (result, named) = try await neighbourhood.run(board).perform()
        #expect(result == .found(.alone(BrokerID(1), incarnation(1))))
        #expect(named == nil)
    }

    @Test("A refusal is thrown")
    func refusal() async throws {
        let other = JoinList([Self.address(1), Self.address(2)])
        let board = try board(1)
        _ = try self.board(2, join: other)
        await #expect(
            throws: FormationRefusal.listsDiffer(
                own: Self.seeds,
                other: other,
                at: Self.address(2)
            )
        ) {
            try await neighbourhood.run(board).perform()
        }
    }

    @Test("A run that waits ends when its task is cancelled")
    func cancelled() async throws {
        let board = try board(1)
        let neighbourhood = neighbourhood
        let run = Task { try await neighbourhood.run(board).perform().result }
        try await Task.sleep(for: .milliseconds(50))
        run.cancel()
        await #expect(throws: CancellationError.self) { try await run.value }
    }

    @Test("An answer that is no card counts as none")
    func foreignAnswer() async throws {
        let board = try board(1)
        try board.establish(.founded(founders))
        let run = FormationRun(board: board, logger: silent) { _, _ in
            ByteBuffer(string: "HTTP/1.1 400 Bad Request")
        }
        #expect(try await run.perform().result == .found(founders))
    }

    @Test("What cannot be written is not told")
    func writeFails() throws {
        let board = try board(1)
        try scratch.disk.removeTree(scratch.file("1"))
        #expect(throws: (any Error).self) { try board.establish(.founded(founders)) }
        #expect(board.card.state == .empty)
        #expect(try FormationCard(decoding: board.body).state == .empty)
    }

    @Test("A link is taken from other brokers of the same cluster only")
    func links() throws {
        let board = try board(1)
        func refusal(_ broker: Int32, _ life: Int32, _ clusterID: String) -> String? {
            board.refusal(
                ofLinkFrom: BrokerID(broker),
                incarnation: incarnation(life),
                clusterID: clusterID
            )
        }
        #expect(refusal(2, 2, "x") == nil)
        try board.establish(.joining(clusterID: "x"))
        #expect(refusal(2, 2, "x") == nil)
        #expect(refusal(2, 2, "") == nil)
        #expect(refusal(2, 2, "y") == "this is a broker of cluster x, not of y")
        #expect(refusal(1, 1, "x") == "this is broker 1 itself")
        #expect(refusal(1, 9, "x") == "broker 1 is this one; give each broker its own node.id")
    }

    @Test(
        "The log is told of whom the broker waits for, at once when it changes, but not too often"
    )
    func report() {
        var report = WaitReport()
        let start = ContinuousClock.now
        func told(_ seconds: Double, _ waiting: String...) -> String? {
            report.due(waiting, at: start + .seconds(seconds))
        }
        #expect(told(0, "b", "c") == nil)
        #expect(told(0.5, "b", "c") == nil)
        #expect(told(1, "b", "c") == "b; c")
        #expect(told(1.5, "c") == nil)
        #expect(told(2, "c") == "c")
        #expect(told(20, "c") == nil)
        #expect(told(32, "c") == "c")
        #expect(told(34) == nil)
    }
}
