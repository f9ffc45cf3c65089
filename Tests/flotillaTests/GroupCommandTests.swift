@testable import FlotillaClient
import FlotillaModel
import Testing

@testable import flotilla

@Suite("What the commands for groups say, and where they seek")
struct GroupCommandTests {
    private static let now = Timestamp(1_800_000_000_000)

    private func partition(_ topic: String, _ index: Int32) -> NamedPartition {
        NamedPartition(topic: topic, index: index)
    }

    @Test(
        "Partitions are shown in ranges",
        arguments: [
            ([], "-"), ([("a", 0)], "a:0"), ([("a", 3), ("a", 0), ("a", 1), ("a", 2)], "a:0-3"),
            ([("b", 1), ("a", 0), ("a", 2), ("a", 3), ("b", 7)], "a:0,2-3 b:1,7"),
        ] as [([(String, Int32)], String)]
    )
    func ranges(partitions: [(String, Int32)], expected: String) {
        #expect(GroupText.partitions(partitions.map { partition($0, $1) }) == expected)
    }

    @Test("A topic is chosen with all partitions or with some")
    func choices() throws {
        #expect(try TopicChoice("a").partitions == [])
        #expect(try TopicChoice("a:0,2,5-7").partitions == [0, 2, 5, 6, 7])
        for text in ["", ":1", "a:", "a:x", "a:3-1", "a:1-2-3", "a:-1", "a:0-9999999"] {
            #expect(throws: CommandFailure.self, "\(text)") { try TopicChoice(text) }
        }
    }

    @Test("One of --to and --by says where to")
    func targets() throws {
        #expect(try SeekTarget(to: "start", by: nil, now: Self.now) == .place(.named(.earliest)))
        #expect(try SeekTarget(to: "-5", by: nil, now: Self.now) == .place(.beforeEnd(5)))
        #expect(
            try SeekTarget(to: "@-1s", by: nil, now: Self.now)
                == .place(.named(.time(Timestamp(1_799_999_999_000))))
        )
        #expect(try SeekTarget(to: nil, by: "-7", now: Self.now) == .shift(-7))
        for (to, by) in [(nil, nil), ("start", "1"), ("nowhere", nil), (nil, "x")] {
            #expect(throws: CommandFailure.self) { try SeekTarget(to: to, by: by, now: Self.now) }
        }
    }

    @Test(
        "A group is put where there are records, whatever was asked for",
        arguments: [
            (.place(.named(.earliest)), 10, nil, 10),
            (.place(.named(.offset(Offset(3)))), 3, 15, 10),
            (.place(.named(.offset(Offset(99)))), 99, nil, 20), (.shift(2), nil, 15, 17),
            (.shift(-100), nil, 15, 10), (.shift(.max), nil, 15, 20), (.shift(1), nil, nil, nil),
        ] as [(SeekTarget, Int64?, Int64?, Int64?)]
    )
    func offsets(target: SeekTarget, found: Int64?, committed: Int64?, expected: Int64?) {
        let offset = target.offset(
            found: found.map { Offset($0) },
            committed: committed.map { Offset($0) },
            readable: Offset(10)..<Offset(20)
        )
        #expect(offset == expected.map { Offset($0) })
    }

    // MARK: Lag

    private func lag(
        _ committed: Int64?,
        _ end: Int64?,
        _ age: Int64? = nil,
        start: Int64? = 0
    ) -> PartitionLag {
        PartitionLag(
            partition: partition("t", 0),
            committed: committed.map { Offset($0) },
            start: start.map { Offset($0) },
            end: end.map { Offset($0) },
            oldest: age.map { Timestamp(Self.now.rawValue - $0) },
            owner: nil
        )
    }

    @Test("A lag is known where both ends are, and never below zero")
    func records() {
        #expect(lag(3, 10).records == 7)
        #expect(lag(10, 3).records == 0)
        #expect(lag(nil, 10).records == nil && lag(3, nil).records == nil)
        #expect(lag(3, 10, 1500).milliseconds(at: Self.now) == 1500)
        #expect(lag(10, 10).milliseconds(at: Self.now) == 0)
        #expect(lag(3, 10, -99).milliseconds(at: Self.now) == 0, "clocks differ")
        #expect(lag(3, 10).milliseconds(at: Self.now) == nil)
    }

    @Test("Records that were deleted before they were read are not behind, as brokers say it too")
    func deletedRecords() {
        #expect(lag(3, 10, start: 6).records == 4 && lag(3, 10, start: 6).next == Offset(6))
        #expect(lag(8, 10, start: 6).records == 2)
        #expect(lag(3, 10, start: 10).records == 0)
        #expect(lag(3, 10, start: 10).milliseconds(at: Self.now) == 0)
        #expect(lag(3, 10, start: nil).records == nil, "half of what is needed is not enough")
        // The table keeps to the commit, and the total to what can be read.
        let total = LagText.total(group([lag(3, 10, 500, start: 6)]), since: nil, isWatching: false)
        #expect(total == "g  Stable  lag 4  seconds 0.5")
    }

    private func group(_ lags: [PartitionLag], at time: Int64 = 0) -> GroupLag {
        GroupLag(
            group: "g",
            state: "Stable",
            partitions: lags,
            time: Timestamp(Self.now.rawValue + time)
        )
    }

    @Test("A total adds what is known; a trend compares two looks")
    func totals() {
        var other = lag(0, 5, 2000)
        other.partition = partition("t", 1)
        let first = group([lag(3, 10, 1000), other])
        #expect(first.records == 12 && first.milliseconds == 2000)
        #expect(first.trend(since: nil) == nil && first.trend(since: first) == nil)
        let second = group([lag(9, 10, 500), other], at: 2000)
        #expect(second.trend(since: first) == -3)
        #expect(second.trend(of: second.partitions[0], since: first) == -3)
        #expect(second.trend(of: lag(nil, 10), since: first) == nil)
    }

    @Test("Numbers are short, and what is not known is a dash")
    func texts() {
        #expect([nil, 0, 40, 75_000].map { LagText.seconds($0) } == ["-", "0", "0.0", "75.0"])
        #expect(
            [nil, 0, 0.01, 12, -3.5].map { LagText.trend($0) } == [
                "-", "0/s", "0/s", "+12.0/s", "-3.5/s",
            ]
        )
        let table = LagText.table(group([lag(3, 10, 1000)]), isWatching: false)
        #expect(
            table == """
                g  Stable  lag 7  seconds 1.0
                TOPIC  PARTITION  COMMITTED  END  LAG  SECONDS  OWNER
                t              0          3   10    7      1.0      -
                """
        )
        let lines = LagText.json(group([lag(nil, 10)]))
        #expect(
            lines == [
                #"{"group":"g","topic":"t","partition":0,"committed":null,"end":10,"lag":null,"seconds":null,"trend":null,"owner":null}"#,
                #"{"group":"g","state":"Stable","lag":0,"seconds":null,"trend":null}"#,
            ]
        )
    }

    @Test("What a coordinator refuses is said in words, with the exit code that belongs to it")
    func refusals() {
        let cases: [(ErrorCode, String, Int32)] = [
            (.groupIdNotFound, "group g does not exist", 3),
            (.nonEmptyGroup, "group g has members", 1),
            (.coordinatorNotAvailable, "group g has no coordinator now", 4),
            (.groupAuthorizationFailed, "group g: GROUP_AUTHORIZATION_FAILED", 6),
        ]
        for (code, text, exitCode) in cases {
            let failure = CommandFailure(.refused(code, subject: "group g", message: nil))
            #expect(failure.text == text && failure.exitCode == exitCode)
        }
    }

    @Test("A group with members is left alone, and its readers are named")
    func members() {
        func member(_ client: String) -> Admin.GroupMember {
            Admin.GroupMember(id: client, clientID: client, host: "h", assignment: [])
        }
        var group = Admin.DescribedGroup(
            name: "g",
            groupProtocol: .classic,
            state: "Empty",
            protocolType: "consumer",
            assignor: "",
            coordinator: BrokerID(1),
            members: []
        )
        #expect(throws: Never.self) { try GroupRefusal.checkEmpty(group) }
        group.members = [member("a"), member("b"), member("c")]
        let failure = #expect(throws: CommandFailure.self) { try GroupRefusal.checkEmpty(group) }
        #expect(failure?.text == "group g has members (a at h and 2 others); stop them first")
    }
}
