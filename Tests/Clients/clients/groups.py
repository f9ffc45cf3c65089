"""Consumer groups with the members that people have: reading, committing, coming back, and being looked after."""

import asyncio
import contextlib
import subprocess
import threading
import time

from aiokafka import AIOKafkaConsumer
from confluent_kafka import Consumer
from kafka import KafkaConsumer

from . import (
    batches, group_admin, group_cli, group_consumer, group_failover, group_input, group_mixed,
)
from .broker import Broker
from .group_history import Group
from .group_mixed import Writer
from .group_wire import GroupConnection
from .report import expect, expect_equal
from .wire import NONE

TOPIC, PARTITIONS, RECORDS = "grouped", 4, 2000
# The topics of static members, and those who are that.
STATIC = {kind: f"static-{kind}" for kind in group_mixed.KINDS}
KEPT = "kept"
READ_SECONDS = 30
SESSION_MILLIS = 30_000
SHARE_SECONDS = 40
ONE_BROKER_PARTS = ("reading", "static", "admin", "mixed", "command", "crash")
PARTS = (*ONE_BROKER_PARTS, "consumer", "input", "failover")


def run(binary, report, is_long, parts=PARTS):
    """One broker for what is quick, one for what is wrong, and three for what goes on when one of them dies."""
    if set(parts) & set(ONE_BROKER_PARTS):
        run_with_one_broker(binary, report, is_long, parts)
    if "consumer" in parts:
        group_consumer.run(binary, report, is_long)
    if "input" in parts:
        group_input.run(binary, report)
    if "failover" in parts:
        group_failover.run(binary, report, is_long)


def run_with_one_broker(binary, report, is_long, parts):
    """Whoever leaves it as it was comes before whoever kills it."""
    with Broker(binary) as broker:
        with GroupConnection(broker.host, broker.port) as connection:
            for topic in (TOPIC, KEPT, group_admin.TOPIC, group_mixed.TOPIC, *STATIC.values()):
                partitions = group_mixed.PARTITIONS if topic == group_mixed.TOPIC else PARTITIONS
                expect_equal(connection.create_topic(topic, partitions), NONE, f"error of creating {topic}")
            write(connection, TOPIC, RECORDS // PARTITIONS)
        for name, read in READERS.items() if "reading" in parts else ():
            with report.check("groups", f"{name} reads as a group, commits, and does not read it again"):
                expect_read_once(broker, name, read)
        for kind in (STATIC if is_long else list(STATIC)[:1]) if "static" in parts else ():
            with report.check("groups", f"{kind}: a static member that comes back disturbs nobody"):
                expect_static_calm(broker, kind, STATIC[kind])
        if "admin" in parts:
            group_admin.run(broker, report)
        if "mixed" in parts:
            group_mixed.run(broker, report, is_long)
        if "command" in parts:
            group_cli.run(broker, report)
        if "crash" in parts:
            with report.check("groups", "commits and members outlive a crash of the broker") as notes:
                expect_kept(broker, notes)


def write(connection, topic, count, start=0):
    """`count` numbers in each partition, from `start` on."""
    for partition in range(PARTITIONS):
        batch = batches.build([b"%d" % number for number in range(start, start + count)])
        expect_equal(connection.produce(topic, partition, batch), (NONE, start), "answer to produce")


# Reading as a group.


def expect_read_once(broker, name, read):
    """The first consumer reads all from the start, the second only what has come since, and all of it is committed."""
    with GroupConnection(broker.host, broker.port) as connection:
        begins = dict.fromkeys(range(PARTITIONS), 0)
        for consumer in ("first", "second"):
            if consumer == "second":
                write(connection, TOPIC, 3, begins[0])
            ends = {partition: connection.list_offset(TOPIC, partition, -1)[2] for partition in begins}
            rows = read(broker.kafka, name, sum(ends.values()) - sum(begins.values()))
            wanted = {partition: list(range(begins[partition], ends[partition])) for partition in begins}
            expect_equal(by_partition(rows), wanted, f"offsets that the {consumer} consumer reads")
            seen = connection.committed_offsets(name, TOPIC, list(begins))
            expect_equal(seen, ends, f"offsets that the {consumer} consumer has committed")
            begins = ends


def by_partition(rows):
    """The offsets of each partition in the order in which they were read."""
    found = {partition: [] for partition in range(PARTITIONS)}
    for partition, offset in rows:
        found[partition].append(offset)
    return found


def read_confluent(addresses, group, count):
    """By librdkafka: (partition, offset) of each record."""
    consumer = Consumer({
        "bootstrap.servers": addresses, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
    })
    consumer.subscribe([TOPIC])
    rows, deadline = [], time.monotonic() + READ_SECONDS
    while len(rows) < count and time.monotonic() < deadline:
        for record in consumer.consume(500, 0.5):
            expect(not record.error(), f"error: {record.error()}")
            rows.append((record.partition(), record.offset()))
    consumer.commit(asynchronous=False)
    consumer.close()
    return rows


def read_python(addresses, group, count):
    """By kafka-python."""
    consumer = KafkaConsumer(
        TOPIC, bootstrap_servers=addresses.split(","), group_id=group, auto_offset_reset="earliest",
        enable_auto_commit=False)
    rows, deadline = [], time.monotonic() + READ_SECONDS
    while len(rows) < count and time.monotonic() < deadline:
        for records in consumer.poll(500).values():
            rows += [(record.partition, record.offset) for record in records]
    consumer.commit()
    consumer.close()
    return rows


def read_aio(addresses, group, count):
    """By aiokafka."""

    async def read():
        consumer = AIOKafkaConsumer(
            TOPIC, bootstrap_servers=addresses, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        try:
            rows, deadline = [], time.monotonic() + READ_SECONDS
            while len(rows) < count and time.monotonic() < deadline:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    rows += [(record.partition, record.offset) for record in records]
            await consumer.commit()
            return rows
        finally:
            await consumer.stop()

    return asyncio.run(read())


def read_kcat(addresses, group, _):
    """By kcat, up to the end of all partitions; it commits by itself."""
    command = [
        "kcat", "-b", addresses, "-q", "-G", group, "-X", "auto.offset.reset=earliest", "-e", "-f", "%p %o\n", TOPIC,
    ]
    result = subprocess.run(command, capture_output=True, timeout=READ_SECONDS, check=True)
    return [tuple(map(int, line.split())) for line in result.stdout.splitlines()]


READERS = {
    "confluent-kafka": read_confluent, "kafka-python": read_python, "aiokafka": read_aio, "kcat": read_kcat,
}


# Static members.


def expect_static_calm(broker, kind, topic):
    """Whether it stops or is killed, leads or follows: it gets its share again, and the other keeps its own."""
    with Group(broker.kafka, topic, topic, PARTITIONS, SESSION_MILLIS) as group, \
            Writer(broker.kafka, topic, PARTITIONS) as writer:
        members = [group.add(kind, f"name-{number}") for number in range(2)]
        group.wait_until_shared(2, SHARE_SECONDS)
        shares = [member.share() for member in members]
        for number, end in enumerate(("leave", "kill")):
            other = members[1 - number]
            before = len(other.of("assigned") + other.of("revoked"))
            getattr(members[number], end)()
            members[number] = group.add(kind, f"name-{number}")
            group.wait_until_shared(2, SHARE_SECONDS)
            expect_equal([member.share() for member in members], shares, f"shares after one member's {end}")
            after = len(other.of("assigned") + other.of("revoked"))
            expect_equal(after, before, f"changes that the other member has seen after one's {end}")
        group.add(kind, "name-2")
        group.wait_until_shared(3, SHARE_SECONDS)
        wanted = writer.finish()
        group.wait_until_read(wanted, READ_SECONDS)
        group.expect_each_read(wanted)
        group.expect_one_owner()
        group.expect_progress()


# A crash.


class Committer:
    """Commits rising offsets of a group of its own, one after the other, until the broker is gone."""

    def __init__(self, broker, group):
        self.group = group
        self.attempted = self.acknowledged = 0
        self.connection = GroupConnection(broker.host, broker.port)
        self.connection.wait_for_coordinator(group)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        """Ends with the connection."""
        with self.connection, contextlib.suppress(EOFError, OSError):
            while True:
                self.attempted += 1
                seen = self.connection.commit(self.group, KEPT, {0: self.attempted})
                if seen != {0: NONE}:
                    return
                self.acknowledged = self.attempted


def expect_kept(broker, notes):
    """What was acknowledged is committed and nothing else, and the members go on as if nothing had been."""
    with Group(broker.kafka, KEPT, KEPT, PARTITIONS, SESSION_MILLIS) as group, \
            Writer(broker.kafka, KEPT, PARTITIONS) as writer:
        for kind in group_mixed.KINDS:
            group.add(kind)
        group.wait_until_shared(3, SHARE_SECONDS)
        with GroupConnection(broker.host, broker.port) as connection:
            quiet = {f"quiet-{number}": 1000 + number for number in range(20)}
            for name, offset in quiet.items():
                connection.wait_for_coordinator(name)
                expect_equal(connection.commit(name, KEPT, {0: offset}), {0: NONE}, "error of a commit")
        committers = [Committer(broker, f"busy-{number}") for number in range(8)]
        time.sleep(1)
        shares = [member.share() for member in group.members]
        broker.kill()
        begin = time.monotonic()
        broker.start()
        for committer in committers:
            committer.thread.join()
        with GroupConnection(broker.host, broker.port) as connection:
            for name, offset in quiet.items():
                expect_equal(connection.committed_offsets(name, KEPT, [0]), {0: offset}, f"committed offset of {name}")
            for each in committers:
                seen = connection.committed_offsets(each.group, KEPT, [0])[0]
                wanted = (each.acknowledged, each.attempted)
                expect(seen in wanted and seen > 0, f"committed offset of {each.group}: {seen}, not one of {wanted}")
        time.sleep(3)
        wanted = writer.finish()
        group.wait_until_read(wanted, READ_SECONDS)
        expect_equal([member.share() for member in group.members], shares, "shares after the crash")
        first = min(event["time"] for member in group.members for event in member.of("committed") if event["time"] > begin)
        for member in group.members:
            member.leave()
        group.expect_each_read(wanted)
        group.expect_order()
        with GroupConnection(broker.host, broker.port) as connection:
            expect_equal(connection.committed_offsets(KEPT, KEPT, list(wanted)), wanted, "committed offsets at the end")
        notes.append(f"{sum(each.acknowledged for each in committers)} commits, the next {first - begin:.2f} s after the kill")
