"""Many members that say that they live."""

import asyncio
import contextlib
import time
from collections import defaultdict

from clients.group_swarm import ClassicSwarmMember, ModernSwarmMember, Tally, open_links, run_all
from clients.report import expect, expect_equal

from .asking import find_on
from .cluster import Busy, Cluster
from .table import latency_rows, row

HEARTBEAT_SECONDS = (3, 5)
GROUP_SIZE = 10
# Of the consumer protocol: the part of the members that are in one group, and the partitions of its topic.
LARGE_GROUP_SHARE = 5
WANTED_PARTITIONS = 1000
LARGE_JOINS_AT_ONCE, GROUPS_AT_ONCE = 100, 50
IDLE_SECONDS, SHARES_SECONDS = 10, 180


def members(arguments):
    """The classic protocol, then the consumer protocol."""
    for kind in ("classic", "consumer"):
        with contextlib.ExitStack() as stack:
            cluster = Cluster(arguments.binary, stack)
            asyncio.run(measure_members(cluster, kind, arguments.members, arguments.seconds))


async def measure_members(cluster, kind, count, seconds):
    """One protocol."""
    tally = Tally()
    if kind == "classic":
        plan = [(f"group-{number}", GROUP_SIZE, None) for number in range(count // GROUP_SIZE)]
    else:
        large = count // LARGE_GROUP_SHARE
        plan = [("large", large, "wide")]
        plan += [(f"group-{number}", GROUP_SIZE, "narrow") for number in range((count - large) // GROUP_SIZE)]
        cluster.create("wide", WANTED_PARTITIONS, 1)
        cluster.create("narrow", 2 * GROUP_SIZE, 1)
    print(f"{kind} protocol: {count} members, {', '.join(describe(plan))}; a heartbeat every {HEARTBEAT_SECONDS[0]} to "
          f"{HEARTBEAT_SECONDS[1]} s; broker 1 / 2 / 3")
    await asyncio.sleep(3)
    idle = Busy(cluster)
    await asyncio.sleep(min(IDLE_SECONDS, seconds))
    row("processor of a broker without members", [100 * each for each in idle.shares()], "%")
    empty = cluster.memory()
    row("memory of a broker without members", empty, "MiB")
    names = [name for name, size, _ in plan for _ in range(size)]
    links = await open_links([cluster.brokers[cluster.coordinator(name) - 1].kafka for name in names])
    await asyncio.gather(*(find_on(link, name) for link, name in zip(links, names)))
    shares = [sum(cluster.coordinator(name) == number for name in names) for number in (1, 2, 3)]
    connected = cluster.memory()
    row(f"{'':4}with {' / '.join(map(str, shares))} connections, for each", kibibytes(empty, connected, shares), "KiB")
    waiting, groups = iter(links), []
    for name, size, topic in plan:
        make = lambda number: (
            ModernSwarmMember(next(waiting), name, tally, HEARTBEAT_SECONDS, topic, number) if topic
            else ClassicSwarmMember(next(waiting), name, tally, HEARTBEAT_SECONDS))
        groups.append([make(number) for number in range(size)])
    lives = []

    async def enter(member):
        await member.join()
        lives.append(asyncio.create_task(member.live()))

    async def enter_all(group):
        await asyncio.gather(*map(enter, group))

    begin, busy = time.monotonic(), Busy(cluster)
    try:
        if kind == "consumer":
            await run_all(map(enter, groups[0]), LARGE_JOINS_AT_ONCE)
            await wait_for_shares(groups[0], WANTED_PARTITIONS)
            row(f"{'':4}the {len(groups[0])} of the large group have joined, and all its partitions have owners, after",
                time.monotonic() - begin, "s")
            begin = time.monotonic()
        await run_all(map(enter_all, groups[1:] if kind == "consumer" else groups), GROUPS_AT_ONCE)
        if kind == "consumer":
            for group in groups[1:]:
                await wait_for_shares(group, 2 * GROUP_SIZE)
        row(f"{'':4}the groups of {GROUP_SIZE} have joined and have their shares after", time.monotonic() - begin, "s")
        row(f"{'':4}processor meanwhile", [100 * each for each in busy.shares()], "%")
        # The members of the last groups have said once that they live.
        await asyncio.sleep(HEARTBEAT_SECONDS[1])
        tally.clear()
        joins = sum(member.joins for group in groups for member in group)
        busy, own, begin = Busy(cluster), time.process_time(), time.monotonic()
        await asyncio.sleep(seconds)
        taken = time.monotonic() - begin
        beats = list(tally.seconds)
        used = 100 * (time.process_time() - own) / taken
        row("heartbeats", len(beats) / taken, "/s", f"for {taken:.0f} s; this program used {used:.0f} % of a core")
        row("processor of a broker", [100 * each for each in busy.shares()], "%")
        latency_rows("heartbeat", beats)
        row("memory of a broker", cluster.memory(), "MiB")
        row(f"{'':4}for each member, without its connection", kibibytes(connected, cluster.memory(), shares), "KiB")
        expect(not tally.errors, f"heartbeats were answered with errors: {tally.errors}")
        expect(len(beats) > 0.8 * taken * count / HEARTBEAT_SECONDS[1], f"{len(beats)} heartbeats in {taken:.0f} s")
        expect_equal(sum(member.joins for group in groups for member in group), joins, "joins, while nobody comes or goes,")
        for life in lives:
            expect(not life.done(), f"a member has ended: {life.exception() if life.done() else None}")
    finally:
        for life in lives:
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        for link in links:
            link.close()


def describe(plan):
    """Groups by their sizes."""
    counts = defaultdict(int)
    for _, size, _ in plan:
        counts[size] += 1
    return [f"{number} group{'s' if number > 1 else ''} of {size}" for size, number in sorted(counts.items(), reverse=True)]


def kibibytes(before, now, counts):
    """What has been added for each of so many."""
    return [1024 * (each - was) / max(1, number) for was, each, number in zip(before, now, counts)]


async def wait_for_shares(group, partitions):
    """Until all partitions have an owner, in even shares."""
    deadline = time.monotonic() + SHARES_SECONDS
    while True:
        shares = [member.partitions() for member in group]
        if sum(shares) == partitions and max(shares) - min(shares) <= 1:
            return
        expect(
            time.monotonic() < deadline,
            f"{group[0].group}: {sum(shares)} of {partitions} partitions have owners, {min(shares)} to {max(shares)} each")
        await asyncio.sleep(0.02)
