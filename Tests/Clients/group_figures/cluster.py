"""Three brokers, and what they take of the machine."""

import json
import os
import subprocess
import time
from pathlib import Path

from clients.cluster import start as start_brokers
from clients.group_wire import GroupConnection
from clients.report import expect, expect_equal
from clients.wire import NONE

OFFSETS_TOPIC = "__consumer_offsets"
# So that snapshots are written at all: a segment begins with one.
SEGMENT_BYTES = 1 << 20
SETTLE_SECONDS = 60
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def java_hash(text):
    """`String.hashCode()` of Java, for names in ASCII."""
    value = 0
    for letter in text:
        value = (31 * value + ord(letter)) & 0xFFFFFFFF
    return value - (1 << 32) if value >= 1 << 31 else value


class Cluster:
    """Three brokers with a topic of groups."""

    def __init__(self, binary, stack):
        self.brokers = start_brokers(binary, stack)
        self.addresses = ",".join(broker.kafka for broker in self.brokers)
        with self.connection() as connection:
            connection.wait_for_coordinator("anybody")
            expect_equal(connection.alter_topic_config(OFFSETS_TOPIC, "segment.bytes", str(SEGMENT_BYTES)), NONE, "error of segment.bytes")
        self.placement = self.leaders(OFFSETS_TOPIC)

    def connection(self, number=None, timeout=30):
        """A connection to a broker by its number, or to one that runs."""
        broker = self.brokers[number - 1] if number else next(each for each in self.brokers if each.is_running())
        return GroupConnection(broker.host, broker.port, timeout=timeout)

    def leaders(self, topic):
        """{partition: number of the broker that leads it}, when each has one that runs."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            with self.connection() as connection:
                error, found = connection.metadata([topic])[topic]
            found = {partition: leader for partition, (_, leader) in found.items()}
            if error == NONE and all(leader > 0 and self.brokers[leader - 1].is_running() for leader in found.values()):
                return found
            expect(time.monotonic() < deadline, f"{topic} has no leaders: {found}")
            time.sleep(0.05)

    def partition(self, group):
        """The partition of a group, as Kafka computes it."""
        value = java_hash(group)
        return (0 if value == -(1 << 31) else abs(value)) % len(self.placement)

    def coordinator(self, group):
        """The number of the broker that coordinated a group when that was last asked for."""
        return self.placement[self.partition(group)]

    def check_placement(self, groups):
        """That computed is what brokers say."""
        with self.connection() as connection:
            for group in groups:
                expect_equal(connection.find_coordinator(group), (NONE, self.coordinator(group)), f"coordinator of {group}")

    def create(self, topic, partitions, replicas=3):
        """A topic."""
        self.tool("topic", "create", "--timeout", f"{SETTLE_SECONDS}s", topic, "-p", str(partitions), "-r", str(replicas))
        return self.leaders(topic)

    def tool(self, *arguments):
        """What a command prints."""
        done = subprocess.run(
            [self.brokers[0].binary, *arguments, "-b", self.addresses], capture_output=True, text=True, timeout=2 * SETTLE_SECONDS)
        expect(done.returncode == 0, f"{' '.join(arguments)} ends with {done.returncode}: {done.stderr}")
        return done.stdout

    def memory(self):
        """MiB in memory of each broker."""
        return [broker.resident_bytes() / 2**20 for broker in self.brokers]

    def processor(self):
        """Seconds of the processors that each broker has used."""
        used = []
        for broker in self.brokers:
            fields = Path(f"/proc/{broker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            used.append((int(fields[11]) + int(fields[12])) / CLOCK_TICKS)
        return used

    def disk(self):
        """For each broker: MiB of what groups have on disk, of the snapshots in it, and how many these are."""
        sizes, states, counts = [], [], []
        (described,) = self.tool("topic", "describe", OFFSETS_TOPIC, "-o", "json").splitlines()
        topic = json.loads(described)["id"]
        for broker in self.brokers:
            files = list(Path(broker.data_directory, "partitions").glob(f"{topic}-*/*"))
            sizes.append(sum(path.stat().st_blocks * 512 for path in files) / 2**20)
            states.append(sum(path.stat().st_size for path in files if path.suffix == ".state") / 2**20)
            counts.append(sum(path.suffix == ".state" for path in files))
        return sizes, states, counts


class Busy:
    """The share of a core that each broker uses from one moment to another."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.before, self.begin = cluster.processor(), time.monotonic()

    def shares(self):
        """Processor seconds a second."""
        seconds = time.monotonic() - self.begin
        return [(now - then) / seconds for now, then in zip(self.cluster.processor(), self.before)]
