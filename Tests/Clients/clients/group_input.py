"""What no member should say to a coordinator: each lie has its error, and the group goes on."""

import time

from .broker import Broker
from .group_wire import (
    HEARTBEAT, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID, INVALID_REQUEST, INVALID_SESSION_TIMEOUT,
    JOIN_GROUP, LEAVE_GROUP, OFFSET_COMMIT, OFFSET_FETCH, OFFSET_METADATA_TOO_LARGE, SYNC_GROUP, UNKNOWN_MEMBER_ID,
    UNKNOWN_SERVER_ERROR, GroupConnection, commit_body, fetch_body, join_body, leave_body, sync_body,
)
from .plain import serves
from .report import expect, expect_equal
from .wire import NONE, UNKNOWN_TOPIC_OR_PARTITION, Writer

TOPIC, PARTITIONS = "group-input", 3
GROUP, STRANGER = "lied-to", "nobody-knows-me"
MEBIBYTE = 1 << 20
MEMORY_BOUND = 512 * MEBIBYTE
METADATA_LIMIT = 4096
# More than a batch of the coordinator's log may have, and less than a request.
TOO_LARGE_BYTES = 24 * MEBIBYTE
LARGE_BYTES = 3 * MEBIBYTE
LONGEST_STRING = (1 << 15) - 1


class GroupInput:
    """One broker that is lied to, and is asked after each lie whether its groups still work."""

    def __init__(self, broker, report):
        self.broker = broker
        self.report = report
        self.count = 0

    def run(self):
        """Every kind in turn."""
        with self.connection() as connection:
            expect_equal(connection.create_topic(TOPIC, PARTITIONS), NONE, "error of create topic")
            connection.wait_for_coordinator(GROUP)
        for name, kind in (
            ("notes that are too long beside an offset", self.long_metadata),
            ("notes that look shorter than they are", self.odd_metadata),
            ("members that nobody knows", self.unknown_members),
            ("generations that were never, or are over", self.forged_generations),
            ("a group without a name", self.empty_name),
            ("partitions that are not there, and offsets that cannot be", self.impossible_commits),
            ("timeouts below nothing and beyond bounds", self.bad_timeouts),
            ("no strategy, and none that the others know", self.bad_protocols),
            ("subscriptions and shares of megabytes", self.large_shares),
            ("requests cut at every byte", self.truncated),
            ("counts and lengths beyond the end", self.inner_lengths),
            ("a group with the longest of names", self.long_group_name),
            ("a member whose name leaves no room for its id", self.long_member_name),
        ):
            with self.report.check("groups, bad input", name):
                if not self.broker.is_running():
                    self.broker.start()  # after a failed check, so that the next one can say something
                kind()
                self.expect_health()
        with self.report.check("groups, bad input", "the broker starts from what all that has left"):
            self.broker.kill()
            self.broker.start()
            self.expect_health()

    def connection(self):
        """A fresh connection."""
        return GroupConnection(self.broker.host, self.broker.port, timeout=60)

    def expect_health(self):
        """Records come back, and a new group lives a whole life."""
        serves(self.broker)
        self.count += 1
        group = f"health-{self.count}"
        with self.connection() as connection:
            connection.wait_for_coordinator(group)
            joined = connection.enter_alone(group)
            known = {"generation": joined.generation, "member": joined.member}
            expect_equal(connection.heartbeat(group, **known), NONE, "error of a plain heartbeat")
            expect_equal(connection.commit(group, TOPIC, {1: self.count}, **known), {1: NONE}, "errors of a plain commit")
            expect_equal(connection.committed(group, TOPIC, [1]), {1: (self.count, "")}, "the committed offset")
            expect_equal(connection.leave(group, joined.member), (NONE, [NONE]), "answer to a plain leave")

    def long_metadata(self):
        """Only the partition with the long note is refused."""
        longest = "n" * METADATA_LIMIT
        notes = {0: longest, 1: longest + "n", 2: "short"}
        with self.connection() as connection:
            seen = connection.commit("notes", TOPIC, {0: 5, 1: 6, 2: 7}, metadata=notes)
            expect_equal(seen, {0: NONE, 1: OFFSET_METADATA_TOO_LARGE, 2: NONE}, "errors of commits with notes")
            wanted = {0: (5, longest), 1: (-1, ""), 2: (7, "short")}
            expect_equal(connection.committed("notes", TOPIC, [0, 1, 2]), wanted, "what is committed")

    def odd_metadata(self):
        """A character is what Kafka counts, a unit of UTF-16, and not what a reader takes for one."""
        with self.connection() as connection:
            for name, note in (
                ("emoji", "\N{GRINNING FACE}" * (METADATA_LIMIT // 2 + 1)),
                ("line breaks", "\r\n" * (METADATA_LIMIT // 2 + 1)),
                ("one letter with its accents", "a" + "\N{COMBINING ACUTE ACCENT}" * METADATA_LIMIT),
            ):
                seen = connection.commit("odd-notes", TOPIC, {1: 6}, metadata=note)
                expect_equal(seen, {1: OFFSET_METADATA_TOO_LARGE}, f"error of a commit with too long a note of {name}")

    def unknown_members(self):
        """In a group that is not there, in one that is empty and in one with a member."""
        with self.connection() as connection:
            joined = connection.enter_alone(GROUP)
            gone = connection.enter_alone("left")
            expect_equal(connection.leave("left", gone.member), (NONE, [NONE]), "answer to a leave")
            for group, generation in ((GROUP, joined.generation), ("left", gone.generation), ("not-there", 1)):
                what = f"of a stranger in {group}"
                seen = connection.heartbeat(group, generation, STRANGER)
                expect_equal(seen, UNKNOWN_MEMBER_ID, f"error of a heartbeat {what}")
                seen = connection.sync(group, generation, STRANGER, [(STRANGER, b"all")])
                expect_equal(seen, (UNKNOWN_MEMBER_ID, b""), f"answer to a SyncGroup {what}")
                expect_equal(connection.join(group, STRANGER).error, UNKNOWN_MEMBER_ID, f"error of a JoinGroup {what}")
                expect_equal(connection.leave(group, STRANGER), (NONE, [UNKNOWN_MEMBER_ID]), f"answer to a leave {what}")
                seen = connection.commit(group, TOPIC, {0: 99}, generation=generation, member=STRANGER)
                expect(seen[0] in (UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION), f"error of a commit {what}: {seen}")
                expect_equal(connection.committed(group, TOPIC, [0]), {0: (-1, "")}, f"commits {what}")
            # Who belongs to no group may commit only while nobody is in it.
            expect_equal(connection.commit(GROUP, TOPIC, {0: 99}), {0: UNKNOWN_MEMBER_ID}, "errors of a commit from outside")
            self.expect_undisturbed(connection, joined)

    def forged_generations(self):
        """A member cannot speak for another generation than the present one."""
        with self.connection() as connection:
            joined = connection.enter_alone("forged")
            for generation in (joined.generation + 1, joined.generation - 1, (1 << 31) - 1, -2, -(1 << 31)):
                seen = connection.heartbeat("forged", generation, joined.member)
                expect_equal(seen, ILLEGAL_GENERATION, f"error of a heartbeat of generation {generation}")
                seen = connection.sync("forged", generation, joined.member, [(joined.member, b"more")])
                expect_equal(seen[0], ILLEGAL_GENERATION, f"error of a SyncGroup of generation {generation}")
                seen = connection.commit("forged", TOPIC, {0: 99}, generation=generation, member=joined.member)
                expect_equal(seen, {0: ILLEGAL_GENERATION}, f"errors of a commit of generation {generation}")
            expect_equal(connection.committed("forged", TOPIC, [0]), {0: (-1, "")}, "what is committed")
            seen = connection.sync("forged", joined.generation, joined.member)
            expect_equal(seen, (NONE, b"all"), "the share after forged requests")
            expect_equal(connection.leave("forged", joined.member), (NONE, [NONE]), "answer to a leave")

    def expect_undisturbed(self, connection, joined):
        """The true member of the group is still that."""
        seen = connection.heartbeat(GROUP, joined.generation, joined.member)
        expect_equal(seen, NONE, "error of the true member's heartbeat")
        expect_equal(connection.leave(GROUP, joined.member), (NONE, [NONE]), "answer to the true member's leave")

    def empty_name(self):
        """It has no members; old clients without a group commit under it."""
        with self.connection() as connection:
            connection.wait_for_coordinator("")
            expect_equal(connection.join("").error, INVALID_GROUP_ID, "error of JoinGroup")
            expect_equal(connection.sync("", 1, STRANGER)[0], INVALID_GROUP_ID, "error of SyncGroup")
            expect_equal(connection.heartbeat("", 1, STRANGER), INVALID_GROUP_ID, "error of Heartbeat")
            error, errors = connection.leave("", STRANGER)
            expect(INVALID_GROUP_ID in (error, *errors), f"LeaveGroup is answered with {error}, {errors}")
            expect_equal(connection.commit("", TOPIC, {0: 3}), {0: NONE}, "errors of OffsetCommit")
            expect_equal(connection.committed("", TOPIC, [0]), {0: (3, "")}, "what is committed")

    def impossible_commits(self):
        """What is not there is refused; what the log does not have yet is the client's business."""
        with self.connection() as connection:
            offsets = {0: 1, PARTITIONS: 1, -1: 1, (1 << 31) - 1: 1}
            wanted = {n: NONE if n == 0 else UNKNOWN_TOPIC_OR_PARTITION for n in offsets}
            expect_equal(connection.commit("odd", TOPIC, offsets), wanted, "errors by partition")
            seen = connection.commit("odd", "no such topic", {0: 1})
            expect_equal(seen, {0: UNKNOWN_TOPIC_OR_PARTITION}, "error of a commit for a topic that is not there")
            for offset in ((1 << 63) - 1, 0, 1 << 40):
                expect_equal(connection.commit("odd", TOPIC, {0: offset}), {0: NONE}, f"error of a commit of {offset}")
                expect_equal(connection.committed("odd", TOPIC, [0]), {0: (offset, "")}, "what is committed")
            for offset in (-1, -(1 << 63)):  # whether it is taken or not
                connection.commit("odd", TOPIC, {1: offset})
                connection.committed("odd", TOPIC, [1])
            seen = connection.committed("odd", TOPIC, [0, -5, PARTITIONS, (1 << 31) - 1])
            expect_equal({offset for offset, _ in list(seen.values())[1:]}, {-1}, "what is committed where nothing is")

    def bad_timeouts(self):
        """A session has bounds; how long a rebalance may take is the member's business."""
        with self.connection() as connection:
            for session in (-1, 0, -(1 << 31), 1, (1 << 31) - 1):
                seen = connection.join("timeouts", session=session).error
                expect_equal(seen, INVALID_SESSION_TIMEOUT, f"error of JoinGroup with a session of {session} ms")
            for rebalance in (-1, -(1 << 31), 0):
                # Whether such a member is quick enough to get its share is left to chance.
                joined = connection.enter("timeouts", rebalance=rebalance)
                expect_equal(joined.error, NONE, f"error of JoinGroup with {rebalance} ms for a rebalance")
                connection.sync("timeouts", joined.generation, joined.member, [(joined.member, b"")])
                connection.leave("timeouts", joined.member)
            joined = connection.enter_alone("timeouts", rebalance=(1 << 31) - 1)
            expect_equal(connection.leave("timeouts", joined.member), (NONE, [NONE]), "answer to a leave")

    def bad_protocols(self):
        """Somebody without a common strategy cannot come in, and does not disturb those who are."""
        with self.connection() as connection:
            for rest in ({"protocols": ()}, {"kind": ""}):
                seen = connection.enter("strategies", **rest).error
                expect_equal(seen, INCONSISTENT_GROUP_PROTOCOL, f"error of JoinGroup with {rest}")
            joined = connection.enter_alone(GROUP)
            for rest in ({"kind": "connect"}, {"protocols": [("other", b"")]}, {"protocols": [("", b"")]}):
                seen = connection.enter(GROUP, **rest).error
                expect_equal(seen, INCONSISTENT_GROUP_PROTOCOL, f"error of JoinGroup with {rest}")
            self.expect_undisturbed(connection, joined)

    def large_shares(self):
        """What fits comes back byte for byte, what does not is refused, and nothing of it stays in memory."""
        before = self.broker.resident_bytes()
        with self.connection() as connection:
            share = bytes(range(256)) * (LARGE_BYTES // 256)
            joined = connection.enter_alone("large", assignment=share, protocols=[("range", share)])
            expect_equal(connection.leave("large", joined.member), (NONE, [NONE]), "answer to a leave")
            for number in range(3):
                joined = connection.enter("too-large")
                expect_equal(joined.error, NONE, "error of JoinGroup")
                share = [(joined.member, bytes(TOO_LARGE_BYTES))]
                seen = connection.sync("too-large", joined.generation, joined.member, share)
                expect_equal(seen[0], UNKNOWN_SERVER_ERROR, f"error {number} of a SyncGroup that no batch holds")
                connection.leave("too-large", joined.member)
            for count, error in ((20_000, INVALID_REQUEST), (100, NONE)):
                joined = connection.enter("many", protocols=[(f"strategy-{n}", b"") for n in range(count)])
                expect_equal(joined.error, error, f"error of JoinGroup with {count} strategies")
            connection.leave("many", joined.member)
        grown = self.broker.resident_bytes() - before
        expect(grown < MEMORY_BOUND, f"the broker has grown by {grown // MEBIBYTE} MiB")

    def truncated(self):
        """The frame's length is right, and what it holds ends too early: an error or a close, never silence."""
        with self.connection() as connection:
            joined = connection.enter_alone(GROUP)
            for key, version, body in self.requests(joined):
                for count in range(len(body)):
                    self.expect_refusal(key, version, body[:count], f"API {key} cut at byte {count}")
            expect_equal(connection.committed(GROUP, TOPIC, [0]), {0: (-1, "")}, "commits of cut requests")
            self.expect_undisturbed(connection, joined)

    def requests(self, joined):
        """One request of each kind that would be good if it were whole."""
        known = {"generation": joined.generation, "member": joined.member}
        yield JOIN_GROUP, 5, join_body("cut", joined.member)
        yield SYNC_GROUP, 3, sync_body(GROUP, joined.generation, joined.member, [(joined.member, b"cut")])
        yield HEARTBEAT, 3, Writer().string(GROUP).add("i", joined.generation).string(joined.member).string(None).data()
        yield LEAVE_GROUP, 3, leave_body(GROUP, [joined.member])
        yield OFFSET_COMMIT, 7, commit_body(GROUP, TOPIC, {0: 99}, **known)
        yield OFFSET_FETCH, 5, fetch_body(GROUP, TOPIC, [0])

    def inner_lengths(self):
        """Every length is judged against what is left of the request."""
        before = self.broker.resident_bytes()
        huge = Writer().add("i", (1 << 31) - 1).data()
        for key, version, body in (
            (JOIN_GROUP, 5, join_body("huge")[:-15] + huge),
            (JOIN_GROUP, 5, join_body("huge", protocols=[("range", b"")])[:-4] + huge),
            (SYNC_GROUP, 3, sync_body("huge", 1, STRANGER)[:-4] + huge),
            (LEAVE_GROUP, 3, leave_body("huge", [])[:-4] + huge),
            (OFFSET_COMMIT, 7, commit_body("huge", TOPIC, {})[:-4] + huge),
            (OFFSET_FETCH, 5, fetch_body("huge", TOPIC, [])[:-4] + huge),
        ):
            self.expect_refusal(key, version, body, f"API {key} with a length beyond its end")
        grown = self.broker.resident_bytes() - before
        expect(grown < MEMORY_BOUND, f"the broker has grown by {grown // MEBIBYTE} MiB")

    def expect_refusal(self, key, version, body, what):
        """The broker closes: it has no answer to what it cannot read."""
        with self.connection() as connection:
            connection.send_request(key, version, body)
            expect(connection.is_closed_by_broker(10), f"{what} leaves the connection open")

    def long_group_name(self):
        """The longest name that the protocol can say is kept, and found again."""
        name = "n" * LONGEST_STRING
        with self.connection() as connection:
            connection.wait_for_coordinator(name)
            seen = connection.commit(name, TOPIC, {0: 11})
            expect_equal(seen, {0: NONE}, "error of a commit")
            joined = connection.enter_alone(name)
            expect_equal(connection.leave(name, joined.member), (NONE, [NONE]), "answer to a leave")
            self.broker.kill()
        self.broker.start()
        with self.connection() as connection:
            seen = connection.committed_offsets(name, TOPIC, [0])
            expect_equal(seen, {0: 11}, "what is committed after a crash")

    def long_member_name(self):
        """An id is made of a static name; whatever becomes of such a member, the other one stays in the group."""
        group = "long-member"
        with self.connection() as connection, self.connection() as other:
            joined = connection.enter_alone(group)
            other.send_request(JOIN_GROUP, 5, join_body(group, instance="i" * LONGEST_STRING))
            deadline = time.monotonic() + 2
            while connection.heartbeat(group, joined.generation, joined.member) == NONE:
                if time.monotonic() > deadline:
                    return  # it was kept out
                time.sleep(0.05)
            again = connection.join(group, joined.member)
            expect_equal(again.error, NONE, "error of the other member's JoinGroup")
            seen = connection.sync(group, again.generation, joined.member, [(joined.member, b"all")])
            expect_equal(seen, (NONE, b"all"), "the other member's share")


def run(binary, report):
    """All bad input against one broker."""
    with Broker(binary, environment={"FLOTILLA_GROUP_INITIAL_REBALANCE_DELAY_MS": "100"}) as broker:
        GroupInput(broker, report).run()
