"""The requests of consumer groups over bare sockets, in their last non-flexible versions; those of KIP-848 have no other."""

import struct
import time
from dataclasses import dataclass

from .report import expect
from .wire import FIND_COORDINATOR, NONE, Connection, Writer

OFFSET_COMMIT, OFFSET_FETCH, JOIN_GROUP, HEARTBEAT, LEAVE_GROUP, SYNC_GROUP = 8, 9, 11, 12, 13, 14
DESCRIBE_GROUPS, CONSUMER_GROUP_HEARTBEAT = 15, 68

OFFSET_METADATA_TOO_LARGE, COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 12, 14, 15, 16
ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER_ID = 22, 23, 24, 25
INVALID_SESSION_TIMEOUT, REBALANCE_IN_PROGRESS, MEMBER_ID_REQUIRED = 26, 27, 79
UNKNOWN_SERVER_ERROR = -1
INVALID_REQUEST = 42
# What a client repeats after a look for the coordinator.
MOMENTARY = (COORDINATOR_LOAD_IN_PROGRESS, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR)
COORDINATOR_SECONDS = 30


@dataclass(frozen=True)
class Joined:
    """The answer to a JoinGroup; `members` are the ids that the one that assigns is told of."""

    error: int
    generation: int
    protocol: str | None
    leader: str
    member: str
    members: tuple = ()


def join_body(group, member="", session=10_000, rebalance=10_000, protocols=(("range", b"wire"),), kind="consumer",
              instance=None):
    """JoinGroup 5."""
    writer = Writer().string(group).add("ii", session, rebalance).string(member).string(instance).string(kind)
    return writer.array(list(protocols), lambda each, pair: each.string(pair[0]).bytes(pair[1])).data()


def sync_body(group, generation, member, assignments=(), instance=None):
    """SyncGroup 3."""
    writer = Writer().string(group).add("i", generation).string(member).string(instance)
    return writer.array(list(assignments), lambda each, pair: each.string(pair[0]).bytes(pair[1])).data()


def leave_body(group, members):
    """LeaveGroup 3."""
    return Writer().string(group).array(list(members), lambda each, id: each.string(id).string(None)).data()


def commit_body(group, topic, offsets, generation=-1, member="", metadata=""):
    """OffsetCommit 7 of {partition: offset}; `metadata` is the same for all, or {partition: text}."""
    writer = Writer().string(group).add("i", generation).string(member).string(None).add("i", 1).string(topic)

    def partition(each, pair):
        note = metadata.get(pair[0], "") if isinstance(metadata, dict) else metadata
        each.add("iqi", *pair, -1).string(note)

    return writer.array(list(offsets.items()), partition).data()


def fetch_body(group, topic, partitions):
    """OffsetFetch 5."""
    return Writer().string(group).add("i", 1).string(topic).array(partitions, lambda each, n: each.add("i", n)).data()


def varint(number):
    """An unsigned variable-length number."""
    data = b""
    while number > 0x7F:
        data += bytes([number & 0x7F | 0x80])
        number >>= 7
    return data + bytes([number])


def compact(text):
    """A string of a flexible version, or null."""
    if text is None:
        return b"\0"
    data = text.encode()
    return varint(len(data) + 1) + data


def compact_array(elements, write):
    """An array of a flexible version, or null."""
    return b"\0" if elements is None else varint(len(elements) + 1) + b"".join(map(write, elements))


def consumer_heartbeat_body(group, member, epoch, rebalance=-1, topics=None, pattern=None, owned=None):
    """ConsumerGroupHeartbeat 1, with the end of its header; `owned` is [(topic id, [partition])]. What is None has not changed."""
    write = lambda each: each[0] + compact_array(each[1], lambda number: struct.pack(">i", number)) + b"\0"
    return b"".join((
        b"\0", compact(group), compact(member), struct.pack(">i", epoch), compact(None), compact(None), struct.pack(">i", rebalance),
        compact_array(topics, compact), compact(pattern), compact(None), compact_array(owned, write), b"\0",
    ))


def read_consumer_heartbeat(reader):
    """The answer to it: (error, epoch, [(topic id, [partition])] or None where the share has not changed)."""
    _, _, error = reader.read("bih")
    for _ in range(2):
        reader.take(max(0, reader.varint() - 1))
    epoch, _, is_given = reader.read("iib")
    if is_given < 0:
        return error, epoch, None
    share = []
    for _ in range(reader.varint() - 1):
        topic = reader.take(16)
        share.append((topic, [reader.read("i") for _ in range(reader.varint() - 1)]))
        reader.take(reader.varint())
    return error, epoch, share


class GroupConnection(Connection):
    """A connection that knows the requests of groups."""

    def find_coordinator(self, group):
        """FindCoordinator 0: (error, broker)."""
        reader = self.request(FIND_COORDINATOR, 0, Writer().string(group).data())
        return reader.read("h"), reader.read("i")

    def wait_for_coordinator(self, group):
        """The broker that coordinates the group, as soon as one does."""
        deadline = time.monotonic() + COORDINATOR_SECONDS
        while True:
            error, broker = self.find_coordinator(group)
            if error == NONE:
                return broker
            expect(error in MOMENTARY and time.monotonic() < deadline, f"FindCoordinator is answered with {error}")
            time.sleep(0.05)

    def join(self, group, member="", **rest):
        """JoinGroup 5, once."""
        return self.receive_join(self.send_request(JOIN_GROUP, 5, join_body(group, member, **rest)))

    def receive_join(self, correlation):
        """Reads the answer to JoinGroup 5."""
        reader = self.receive_response(correlation)
        _, error, generation = reader.read("ihi")
        protocol, leader, member = reader.string(), reader.string(), reader.string()
        members = reader.array(lambda each: (each.string(), each.string(), each.bytes())[0])
        return Joined(error, generation, protocol, leader, member, tuple(members))

    def enter(self, group, **rest):
        """JoinGroup as a client does it: once for an id, and once with it."""
        first = self.join(group, **rest)
        return self.join(group, first.member, **rest) if first.error == MEMBER_ID_REQUIRED else first

    def sync(self, group, generation, member, assignments=()):
        """SyncGroup 3: (error, assignment)."""
        reader = self.request(SYNC_GROUP, 3, sync_body(group, generation, member, assignments))
        _, error = reader.read("ih")
        return error, reader.bytes()

    def enter_alone(self, group, assignment=b"all", **rest):
        """Becomes the only member, with this share."""
        joined = self.enter(group, **rest)
        expect(joined.error == NONE, f"JoinGroup is answered with {joined.error}")
        answer = self.sync(group, joined.generation, joined.member, [(joined.member, assignment)])
        expect(answer == (NONE, assignment), f"SyncGroup is answered with {answer[0]}")
        return joined

    def heartbeat(self, group, generation, member):
        """Heartbeat 3: the error."""
        body = Writer().string(group).add("i", generation).string(member).string(None).data()
        return self.request(HEARTBEAT, 3, body).read("ih")[1]

    def leave(self, group, *members):
        """LeaveGroup 3: (error, [error of each member])."""
        reader = self.request(LEAVE_GROUP, 3, leave_body(group, members))
        _, error = reader.read("ih")
        return error, reader.array(lambda each: (each.string(), each.string(), each.read("h"))[2])

    def commit(self, group, topic, offsets, **rest):
        """OffsetCommit 7: {partition: error}."""
        reader = self.request(OFFSET_COMMIT, 7, commit_body(group, topic, offsets, **rest))
        reader.read("ii")
        reader.string()
        return dict(reader.array(lambda each: each.read("ih")))

    def committed(self, group, topic, partitions):
        """OffsetFetch 5: {partition: (offset, metadata)}; -1 where nothing is committed."""
        reader = self.request(OFFSET_FETCH, 5, fetch_body(group, topic, partitions))
        reader.read("ii")
        reader.string()

        def partition(each):
            index, offset, _ = each.read("iqi")
            metadata, error = each.string(), each.read("h")
            expect(error == NONE, f"the committed offset of partition {index} has error {error}")
            return index, (offset, metadata)

        found = dict(reader.array(partition))
        error = reader.read("h")
        expect(error == NONE, f"OffsetFetch is answered with {error}")
        return found

    def committed_offsets(self, group, topic, partitions):
        """The same without the metadata, however long the coordinator takes to serve."""
        self.wait_for_coordinator(group)
        return {partition: offset for partition, (offset, _) in self.committed(group, topic, partitions).items()}
