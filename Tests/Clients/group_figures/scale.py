"""Many groups with committed offsets, and the death of a coordinator."""

import asyncio
import contextlib
import statistics
import time
from collections import defaultdict

from clients.group_swarm import ClassicSwarmMember, Tally, open_links
from clients.group_wire import commit_body
from clients.report import expect, expect_equal
from clients.wire import NONE

from .asking import commit_on, fetch_on, find_on
from .cluster import OFFSETS_TOPIC, SEGMENT_BYTES, SETTLE_SECONDS, Cluster
from .table import latency_rows, row

TOPIC, OFFSETS = "figures", 10
WORKERS_PER_BROKER = 12
PROBE_SECONDS = 0.002
# A coordinator's death may keep its groups waiting for so long.
FAILOVER_SECONDS = 10
JOINS_AT_ONCE = 300
# Members that are asked for nothing for minutes; how often they would say that they live does not matter then.
SESSION_MILLIS, HEARTBEAT_SECONDS = 1_500_000, (3, 5)
# When what was written is in segments, and memory is given back.
FLUSH_SECONDS = 5


class ManyGroups:
    """Groups with committed offsets, and perhaps one member each, on a cluster of their own."""

    def __init__(self, cluster, count, has_members):
        self.cluster = cluster
        self.has_members = has_members
        self.names = [f"group-{number:05d}" for number in range(count)]
        self.members = {}
        self.offset = 0
        self.tally = Tally()

    def identity(self, name):
        """What a commit says of who commits."""
        member = self.members.get(name)
        return {"generation": member.generation, "member": member.member} if member else {}

    async def with_links(self, work, per_broker):
        """Has connections to each broker do `work(link, group)` for all groups that it coordinates, one by one on each connection."""
        async def run(link, waiting):
            while waiting:
                await work(link, waiting.pop())

        cluster = self.cluster
        waiting = defaultdict(list)
        for name in self.names:
            waiting[cluster.coordinator(name)].append(name)
        numbers = [number for number in waiting for _ in range(per_broker)]
        links = await open_links([cluster.brokers[number - 1].kafka for number in numbers])
        try:
            await asyncio.gather(*(run(link, waiting[number]) for number, link in zip(numbers, links)))
        finally:
            for link in links:
                link.close()

    async def join(self):
        """Each group gets its member; its session is so long that it says nothing more until it is asked for."""
        async def work(link, name):
            member = ClassicSwarmMember(link, name, self.tally, HEARTBEAT_SECONDS, SESSION_MILLIS)
            await member.join()
            self.members[name] = member

        await self.with_links(work, JOINS_AT_ONCE // len(self.cluster.brokers))

    async def commit(self):
        """Each group commits all its partitions."""
        self.offset += 1
        await self.with_links(self.commit_one, WORKERS_PER_BROKER)

    async def commit_one(self, link, name):
        """One commit of a group."""
        body = commit_body(name, TOPIC, dict.fromkeys(range(OFFSETS), self.offset), **self.identity(name))
        expect_equal(await commit_on(link, body), NONE, f"error of a commit of {name}")

    async def verify(self):
        """Each group has what it committed last."""
        await self.with_links(self.verify_one, WORKERS_PER_BROKER)

    async def verify_one(self, link, name):
        """A look at one group."""
        error, seen = await fetch_on(link, name, TOPIC, list(range(OFFSETS)))
        expect_equal((error, seen), (NONE, dict.fromkeys(range(OFFSETS), self.offset)), f"committed offsets of {name}")

    # The death of a coordinator.

    async def survive(self, victim):
        """After a kill: {partition: seconds until its first group is served}, {group: seconds until it was read and committed}."""
        moment = time.monotonic()
        victim_number = self.cluster.brokers.index(victim) + 1
        hit = defaultdict(list)
        for name in self.names:
            if self.cluster.coordinator(name) == victim_number:
                hit[self.cluster.partition(name)].append(name)
        victim.kill()
        others = [broker for broker in self.cluster.brokers if broker is not victim]
        self.offset += 1
        first, served = {}, {}

        async def take_over(partition, names):
            links = await open_links([broker.kafka for broker in others])
            asked = 0
            while partition not in first:
                expect(time.monotonic() - moment < SETTLE_SECONDS, f"nobody serves {names[0]} after {SETTLE_SECONDS} s")
                asked += 1
                error, number = await find_on(links[asked % len(links)], names[0])
                broker = self.cluster.brokers[number - 1] if error == NONE else victim
                if broker is victim or not await self.serve(links[others.index(broker)], names[0], served, moment):
                    await asyncio.sleep(PROBE_SECONDS)
                else:
                    first[partition] = served[names[0]]
            link = links[others.index(broker)]
            for name in names[1:]:
                expect(await self.serve(link, name, served, moment), f"{name} is not served where {names[0]} is")
            for link in links:
                link.close()

        await asyncio.gather(*(take_over(partition, names) for partition, names in hit.items()))
        return first, served

    async def serve(self, link, name, served, moment):
        """Reads what a group has committed, which must be all, and commits again; whether both went."""
        error, seen = await fetch_on(link, name, TOPIC, list(range(OFFSETS)))
        if error != NONE:
            return False
        before = self.offset - 1
        # A commit that went while the read of another did not is repeated.
        expect(set(seen.values()) <= {before, self.offset} and len(seen) == OFFSETS, f"{name}: {seen} is committed, not {before}")
        member = self.members.get(name)
        if member:
            member.link = link
            if await member.ask() != NONE:
                return False
        body = commit_body(name, TOPIC, dict.fromkeys(range(OFFSETS), self.offset), **self.identity(name))
        if await commit_on(link, body) != NONE:
            return False
        served[name] = time.monotonic() - moment
        return True


def scale(arguments):
    """Without members, then with one each."""
    for has_members in (False, True):
        with contextlib.ExitStack() as stack:
            cluster = Cluster(arguments.binary, stack)
            cluster.create(TOPIC, OFFSETS)
            time.sleep(2)
            measure_scale(cluster, ManyGroups(cluster, arguments.groups, has_members), arguments.runs)


def measure_scale(cluster, groups, runs):
    """One variant."""
    count = len(groups.names)
    cluster.check_placement(groups.names[:20])
    before = cluster.memory()
    print(f"{count} groups, {OFFSETS} offsets each{', one member each' if groups.has_members else ', no members'}; broker 1 / 2 / 3")
    row("memory without groups", before, "MiB")
    if groups.has_members:
        begin = time.monotonic()
        asyncio.run(groups.join())
        row(f"{'':4}all have joined after", time.monotonic() - begin, "s")
    times = []
    for run in range(runs):
        begin = time.monotonic()
        asyncio.run(groups.commit())
        times.append(time.monotonic() - begin)
        if run == 0:
            memory_rows(cluster, before, "memory after one commit of each", count)
    spread = f"({min(times):.2f} to {max(times):.2f}, {runs} runs)"
    row(f"commit of all groups, {WORKERS_PER_BROKER} connections to each broker", statistics.median(times), "s", spread)
    row(f"{'':4}requests, each of {OFFSETS} offsets", count / statistics.median(times), "/s")
    time.sleep(FLUSH_SECONDS)
    memory_rows(cluster, before, "memory after all commits", count)
    sizes, states, numbers = cluster.disk()
    row(f"{OFFSETS_TOPIC} on disk, segments of {SEGMENT_BYTES >> 20} MiB", sizes, "MiB")
    row(f"{'':4}of it snapshots (.state)", states, "MiB", f"{sum(numbers)} files")
    asyncio.run(groups.verify())
    # The one that coordinates most.
    led = [list(cluster.placement.values()).count(number) for number in (1, 2, 3)]
    victim = cluster.brokers[led.index(max(led))]
    first, served = asyncio.run(groups.survive(victim))
    expect_equal(len(served), sum(cluster.brokers[cluster.coordinator(name) - 1] is victim for name in groups.names), "groups served")
    latency_rows(f"coordinator killed: each of its {len(first)} partitions serves a group again", list(first.values()))
    latency_rows(f"{'':4}each of its groups was read, compared and committed again", list(served.values()))
    expect(max(first.values()) <= FAILOVER_SECONDS, f"a partition took {max(first.values()):.1f} s")
    begin = time.monotonic()
    victim.start()
    row(f"{'':4}the broker starts again and is ready", time.monotonic() - begin, "s")
    time.sleep(FLUSH_SECONDS)
    memory_rows(cluster, before, "memory after that", count)


def memory_rows(cluster, before, name, count):
    """What the brokers have in memory, and what that is for each group."""
    now = cluster.memory()
    row(name, now, "MiB")
    row(f"{'':4}more than without, for each group", [1024 * (each - was) / count for each, was in zip(now, before)], "KiB")
