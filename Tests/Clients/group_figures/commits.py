"""Commits beside small writes, without and with producers of bulk."""

import asyncio
import contextlib
import time

from clients import batches
from clients.group_swarm import open_links
from clients.group_wire import commit_body
from clients.report import expect, expect_equal
from clients.wire import NONE, PRODUCE, Writer

from .asking import commit_on
from .bulk import BULK_PARTITIONS, BULK_TOPIC, Bulk
from .cluster import Busy, Cluster
from .table import latency_rows, row

TOPIC, SMALL_TOPIC = "figures", "small"
COMMITTING_GROUPS, COMMITS_PER_SECOND = 50, 200
SMALL_PRODUCERS, SMALL_WRITES_PER_SECOND, SMALL_BYTES = 10, 200, 100
WARM_UP_SECONDS = 2


class Load:
    """Clients that ask one thing after the other, at an even rate or as fast as they are answered."""

    def __init__(self):
        self.seconds = []
        self.is_stopping = False

    def start(self, clients, rate):
        """A task for each client; together they ask `rate` times a second, in turns, or without a pause where it is None."""
        interval = rate and len(clients) / rate
        return [
            asyncio.create_task(self.run(interval, number / rate if rate else 0, client.ask)) for number, client in enumerate(clients)]

    async def run(self, interval, delay, ask):
        """Asks until told to stop."""
        due = time.monotonic() + delay
        while not self.is_stopping:
            if interval:
                await asyncio.sleep(max(0, due - time.monotonic()))
                due = max(due + interval, time.monotonic())
            begin = time.monotonic()
            await ask()
            self.seconds.append(time.monotonic() - begin)


class CommittingGroup:
    """A group without members whose client commits 1, 2, 3 …"""

    def __init__(self, link, name):
        self.link, self.name, self.offset = link, name, 0

    async def ask(self):
        """One commit."""
        self.offset += 1
        expect_equal(await commit_on(self.link, commit_body(self.name, TOPIC, {0: self.offset})), NONE, f"error of a commit of {self.name}")


class SmallProducer:
    """A client that writes one record with acks=all, and waits."""

    def __init__(self, link, partition):
        self.link = link
        self.body = Writer().string(None).add("hi", -1, 10_000).add("i", 1).string(SMALL_TOPIC).add("ii", 1, partition).bytes(
            batches.build([b"x" * SMALL_BYTES])).data()

    async def ask(self):
        """One write."""
        reader = await self.link.request(PRODUCE, 7, self.body)
        reader.read("i")
        reader.string()
        reader.read("i")
        expect_equal(reader.read("ih")[1], NONE, "error of a small write")


def commits(arguments):
    """Both side by side, without and with producers of bulk."""
    with contextlib.ExitStack() as stack:
        cluster = Cluster(arguments.binary, stack)
        cluster.create(TOPIC, 1)
        placement = cluster.create(SMALL_TOPIC, SMALL_PRODUCERS)
        cluster.create(BULK_TOPIC, BULK_PARTITIONS)
        asyncio.run(measure_commits(cluster, placement, arguments.seconds, stack))


async def measure_commits(cluster, placement, seconds, stack):
    """All phases."""
    names = [f"group-{number}" for number in range(COMMITTING_GROUPS)]
    address = lambda number: cluster.brokers[number - 1].kafka
    links = await open_links([*(address(cluster.coordinator(name)) for name in names), *map(address, placement.values())])
    groups = [CommittingGroup(link, name) for link, name in zip(links, names)]
    producers = [SmallProducer(link, partition) for link, partition in zip(links[len(groups):], placement)]
    for has_bulk in (False, True):
        bulk = stack.enter_context(Bulk(cluster.addresses)) if has_bulk else None
        if bulk:
            bulk.wait()
        for commit_rate in (COMMITS_PER_SECOND, None):
            title = f"commits {'at ' + str(commit_rate) + '/s' if commit_rate else 'flat out'} from {len(groups)} groups, " \
                f"small writes at {SMALL_WRITES_PER_SECOND}/s, " + (bulk.title if bulk else "nothing else")
            await measure_phase(cluster, title, groups, producers, commit_rate, seconds)
        if bulk:
            row("bulk acknowledged", bulk.finish(), "records/s")
    for link in links:
        link.close()
    for group in groups:
        with cluster.connection(cluster.coordinator(group.name)) as connection:
            expect_equal(connection.committed_offsets(group.name, TOPIC, [0]), {0: group.offset}, f"committed offset of {group.name}")


async def measure_phase(cluster, title, groups, producers, commit_rate, seconds):
    """Both loads for some seconds."""
    print(title, flush=True)
    committing, writing = Load(), Load()
    tasks = committing.start(groups, commit_rate) + writing.start(producers, SMALL_WRITES_PER_SECOND)
    await asyncio.sleep(WARM_UP_SECONDS)
    committing.seconds.clear()
    writing.seconds.clear()
    busy, own, begin = Busy(cluster), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    taken = time.monotonic() - begin
    seen = list(committing.seconds), list(writing.seconds)
    shares, used = busy.shares(), (time.process_time() - own) / taken
    committing.is_stopping = writing.is_stopping = True
    await asyncio.gather(*tasks)
    row(f"{'':4}commits", len(seen[0]) / taken, "/s", f"this program used {100 * used:.0f} % of a core")
    latency_rows(f"{'':4}commit", seen[0])
    latency_rows(f"{'':4}write of one record, acks=all", seen[1])
    row(f"{'':4}processor of a broker", [100 * each for each in shares], "%")
    if commit_rate:
        expect(len(seen[0]) > 0.9 * commit_rate * taken, f"{len(seen[0]) / taken:.0f} commits/s where {commit_rate} were to be")
