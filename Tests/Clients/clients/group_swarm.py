"""Thousands of members of consumer groups in one process: one connection each, over bare sockets, in one event loop.

Members keep to the protocols as clients do, as far as the coordinator can tell: they join, sync, say in heartbeats that they live,
and follow what they are told. They read nothing.
"""

import asyncio
import random
import struct
import time
from collections import deque

from .group_wire import (
    CONSUMER_GROUP_HEARTBEAT, HEARTBEAT, JOIN_GROUP, MEMBER_ID_REQUIRED, MOMENTARY, REBALANCE_IN_PROGRESS, SYNC_GROUP,
    consumer_heartbeat_body, join_body, read_consumer_heartbeat, sync_body,
)
from .report import expect
from .wire import NONE, Reader, Writer, frame

RETRY_SECONDS = 0.1
JOIN_ATTEMPTS = 200
# Connections that are opened at a time.
OPENED_AT_ONCE = 200


class Link(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    def __init__(self):
        self.transport = None
        self.left = b""
        self.waiting = deque()
        self.correlation = 0

    def connection_made(self, transport):
        """It is there."""
        self.transport = transport

    def connection_lost(self, problem):
        """Whoever waits hears of it."""
        for _, future in self.waiting:
            if not future.done():
                future.set_exception(ConnectionError("the broker closed the connection"))
        self.waiting.clear()

    def data_received(self, data):
        """Hands each whole answer to the one who waits longest."""
        data = self.left + data if self.left else data
        position = 0
        while position + 4 <= len(data):
            (count,) = struct.unpack_from(">i", data, position)
            if position + 4 + count > len(data):
                break
            correlation, future = self.waiting.popleft()
            reader = Reader(data[position + 4:position + 4 + count])
            position += 4 + count
            if reader.read("i") != correlation:
                self.transport.abort()
            elif not future.done():
                future.set_result(reader)
        self.left = data[position:]

    def request(self, key, version, body):
        """Sends a request; the answer is to be awaited."""
        if self.transport.is_closing():
            raise ConnectionError("the connection is closed")
        self.correlation += 1
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((self.correlation, future))
        self.transport.write(frame(key, version, self.correlation, body))
        return future

    def close(self):
        """Ends it."""
        self.transport.abort()


async def open_link(address):
    """A connection to a broker."""
    host, port = address.rsplit(":", 1)
    _, link = await asyncio.get_running_loop().create_connection(Link, host, int(port))
    return link


async def open_links(addresses):
    """A connection to each, some at a time."""
    links = []
    for start in range(0, len(addresses), OPENED_AT_ONCE):
        links += await asyncio.gather(*(open_link(address) for address in addresses[start:start + OPENED_AT_ONCE]))
    return links


class Tally:
    """What the heartbeats of many members were answered with, and after how long."""

    def __init__(self):
        self.seconds = []
        self.errors = {}

    def note(self, begin, error):
        """One answer."""
        self.seconds.append(time.monotonic() - begin)
        if error not in (NONE, REBALANCE_IN_PROGRESS):
            self.errors[error] = self.errors.get(error, 0) + 1

    def clear(self):
        """Begins anew."""
        self.seconds, self.errors = [], {}


class SwarmMember:
    """What members of both protocols share: heartbeats at moments of their own."""

    def __init__(self, link, group, tally, interval):
        self.link = link
        self.group = group
        self.tally = tally
        self.interval = interval
        self.joins = 0

    async def live(self):
        """Heartbeats until cancelled; the first comes at any time within an interval."""
        await asyncio.sleep(random.uniform(0, self.interval[1]))
        while True:
            await self.beat()
            await asyncio.sleep(random.uniform(*self.interval))

    async def beat(self):
        """One heartbeat, and what follows from its answer."""
        raise NotImplementedError


class ClassicSwarmMember(SwarmMember):
    """A member of the classic protocol. Whoever leads gives every member one partition."""

    rebalance_millis = 60_000

    def __init__(self, link, group, tally, interval, session_millis=45_000):
        super().__init__(link, group, tally, interval)
        self.session_millis = session_millis
        self.member, self.generation = "", -1

    async def join(self):
        """Joins and syncs until it has a share."""
        for _ in range(JOIN_ATTEMPTS):
            self.joins += 1
            body = join_body(self.group, self.member, self.session_millis, self.rebalance_millis)
            reader = await self.link.request(JOIN_GROUP, 5, body)
            _, error, generation = reader.read("ihi")
            _, leader, member = reader.string(), reader.string(), reader.string()
            if error == MEMBER_ID_REQUIRED:
                self.member = member
                continue
            if error in MOMENTARY:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            expect(error == NONE, f"{self.group}: JoinGroup is answered with {error}")
            self.member, self.generation = member, generation
            others = reader.array(lambda each: (each.string(), each.string(), each.bytes())[0])
            shares = [(other, struct.pack(">i", number)) for number, other in enumerate(others)] if leader == member else []
            reader = await self.link.request(SYNC_GROUP, 3, sync_body(self.group, generation, member, shares))
            _, error = reader.read("ih")
            if error == NONE:
                return
            expect(error in (REBALANCE_IN_PROGRESS, *MOMENTARY), f"{self.group}: SyncGroup is answered with {error}")
        expect(False, f"{self.group}: no share after {JOIN_ATTEMPTS} attempts")

    async def ask(self):
        """Heartbeat 3: the error."""
        body = Writer().string(self.group).add("i", self.generation).string(self.member).string(None).data()
        return (await self.link.request(HEARTBEAT, 3, body)).read("ih")[1]

    async def beat(self):
        """Joins again when the others do."""
        begin = time.monotonic()
        error = await self.ask()
        self.tally.note(begin, error)
        if error == REBALANCE_IN_PROGRESS:
            await self.join()


class ModernSwarmMember(SwarmMember):
    """A member of the consumer protocol (KIP-848): it has what it is given as soon as it hears of it, and says so."""

    rebalance_millis = 60_000

    def __init__(self, link, group, tally, interval, topic, number):
        super().__init__(link, group, tally, interval)
        self.topic = topic
        self.member = f"member-{number:06d}-of-{group}"
        self.epoch = 0
        self.owned = []

    async def join(self):
        """Joins; its share comes with this answer or a later one."""
        for _ in range(JOIN_ATTEMPTS):
            self.joins += 1
            error, is_given = await self.ask(rebalance=self.rebalance_millis, topics=[self.topic], owned=[])
            if error == NONE:
                return await self.follow(is_given)
            expect(error in MOMENTARY, f"{self.group}: ConsumerGroupHeartbeat is answered with {error}")
            await asyncio.sleep(RETRY_SECONDS)
        expect(False, f"{self.group}: not joined after {JOIN_ATTEMPTS} attempts")

    async def ask(self, **what):
        """ConsumerGroupHeartbeat 1: (error, whether there is another share)."""
        body = consumer_heartbeat_body(self.group, self.member, self.epoch, **what)
        error, epoch, share = read_consumer_heartbeat(await self.link.request(CONSUMER_GROUP_HEARTBEAT, 1, body))
        if error != NONE:
            return error, False
        self.epoch = epoch
        is_given = share is not None and share != self.owned
        if is_given:
            self.owned = share
        return error, is_given

    async def follow(self, is_given):
        """Says that it has what it was given, until it is given nothing else."""
        while is_given:
            _, is_given = await self.ask(owned=self.owned)

    async def beat(self):
        """Says that it lives."""
        begin = time.monotonic()
        error, is_given = await self.ask()
        self.tally.note(begin, error)
        await self.follow(is_given)

    def partitions(self):
        """How many it has."""
        return sum(len(partitions) for _, partitions in self.owned)


async def run_all(bodies, at_once):
    """Runs many, at most some at a time."""
    gate = asyncio.Semaphore(at_once)

    async def run(body):
        async with gate:
            await body

    await asyncio.gather(*map(run, bodies))
