"""Three brokers in three racks: consumers read from the replica next to them, and clients live through the leader's death."""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import threading
import time
import urllib.request

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AIOTopicPartition
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as PythonTopicPartition

from .broker import Broker
from .report import expect, expect_equal

RACKS = ("a", "b", "c")
NEAR = "near"
RECORDS, RECORD_BYTES = 400, 5000
# The first broker leads each of these, and is killed while clients write and read.
FAILOVER = {"confluent-kafka": "failover-confluent", "kafka-python": "failover-python", "aiokafka": "failover-aio"}
FAILOVER_SECONDS, KILL_AFTER_SECONDS = 4.0, 1.0
PAUSE_SECONDS = 0.005


def run(binary, report):
    """Forms the cluster, reads near and far, and kills the leader."""
    with contextlib.ExitStack() as stack:
        brokers = start(binary, stack)
        addresses = ",".join(broker.kafka for broker in brokers)
        create_topics(addresses)
        write(addresses)
        for name, read in READERS.items():
            with report.check("cluster", f"{name} reads from the replica in its rack (KIP-392)"):
                expect_read_near(brokers, addresses, read)
        with report.check("cluster", "without a rack the leader is read"):
            before = bytes_out(brokers)
            expect_equal(read_confluent(addresses, None), RECORDS, "records read")
            grown = differences(before, bytes_out(brokers))
            expect(grown[0] >= RECORDS * RECORD_BYTES, f"bytes that left each broker: {grown}")
        with report.check("cluster", "clients write and read on when the leader is killed"):
            live_through_death(brokers, addresses)
        with report.check("cluster", "a consumer near the dead leader reads what was written"):
            expect_equal(read_confluent(addresses, "a"), RECORDS, "records read")


def start(binary, stack):
    """Three brokers that found a cluster; all have to be there before one of them is ready."""
    peers, kafka = free_addresses(len(RACKS)), free_addresses(len(RACKS))
    brokers = [
        Broker(
            binary, environment={"FLOTILLA_BROKER_RACK": rack},
            arguments=("--node-id", str(number), "--peer", peers[number - 1], "--join", ",".join(peers)))
        for number, rack in enumerate(RACKS, 1)
    ]
    for broker, address in zip(brokers, kafka):
        broker.kafka = address
        stack.callback(broker.remove)
    run_all([broker.start for broker in brokers])
    return brokers


def free_addresses(count):
    """Addresses whose ports were free a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return ["127.0.0.1:%d" % each.getsockname()[1] for each in sockets]


def run_all(bodies):
    """Runs each in a thread, and raises the first thing that one of them raised."""
    problems = []

    def guarded(body):
        try:
            body()
        except Exception as problem:  # told below, in the thread that asked
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def create_topics(addresses):
    """One partition each, on all brokers, led by the first."""
    admin = AdminClient({"bootstrap.servers": addresses})
    topics = [NewTopic(name, 1, replica_assignment=[[1, 2, 3]]) for name in (NEAR, *FAILOVER.values())]
    for future in admin.create_topics(topics, operation_timeout=20).values():
        future.result(20)


def write(addresses):
    """What the consumers of racks read."""
    producer = Producer({"bootstrap.servers": addresses, "acks": "all", "enable.idempotence": True})
    for number in range(RECORDS):
        producer.produce(NEAR, os.urandom(RECORD_BYTES), b"%d" % number, 0)
    expect_equal(producer.flush(30), 0, "records not sent")


# Reading near.


def expect_read_near(brokers, addresses, read):
    """All records are read, and all but none of their bytes leave the follower of rack b."""
    before = bytes_out(brokers)
    expect_equal(read(addresses, "b"), RECORDS, "records read")
    grown = differences(before, bytes_out(brokers))
    expect(grown[1] >= RECORDS * RECORD_BYTES, f"bytes that left each broker: {grown}")
    expect(grown[0] + grown[2] < RECORD_BYTES, f"bytes that left each broker: {grown}")


def bytes_out(brokers):
    """The bytes of records that have left each broker."""
    seen = []
    for broker in brokers:
        with urllib.request.urlopen(f"http://{broker.admin}/metrics", timeout=5) as answer:
            page = answer.read().decode()
        seen.append(sum(float(each) for each in re.findall(r"^flotilla_bytes_out_total(?:\{[^}]*\})? (\S+)$", page, re.M)))
    return seen


def differences(before, after):
    """What has been added since."""
    return [new - old for old, new in zip(before, after)]


def read_confluent(addresses, rack):
    """By librdkafka; the number of records, each expected to be the next."""
    consumer = Consumer({
        "bootstrap.servers": addresses, "group.id": "near", "enable.auto.commit": False, "auto.offset.reset": "error",
        "client.rack": rack or "",
    })
    consumer.assign([TopicPartition(NEAR, 0, OFFSET_BEGINNING)])
    count, deadline = 0, time.monotonic() + 20
    while count < RECORDS and time.monotonic() < deadline:
        for record in consumer.consume(100, 0.5):
            expect(not record.error(), f"error: {record.error()}")
            expect_equal(record.offset(), count, "offset")
            count += 1
    consumer.close()
    return count


def read_kcat(addresses, rack):
    """By kcat, up to the end of the partition."""
    command = [
        "kcat", "-b", addresses, "-q", "-C", "-t", NEAR, "-p", "0", "-o", "beginning", "-e", "-X", f"client.rack={rack}",
        "-f", "%o\n",
    ]
    result = subprocess.run(command, capture_output=True, timeout=30, check=True)
    offsets = [int(line) for line in result.stdout.split()]
    expect_equal(offsets, list(range(len(offsets))), "offsets")
    return len(offsets)


def read_python(addresses, rack):
    """By kafka-python."""
    consumer = KafkaConsumer(
        bootstrap_servers=addresses.split(","), enable_auto_commit=False, auto_offset_reset="none", client_rack=rack)
    assigned = PythonTopicPartition(NEAR, 0)
    consumer.assign([assigned])
    consumer.seek_to_beginning(assigned)
    count, deadline = 0, time.monotonic() + 20
    while count < RECORDS and time.monotonic() < deadline:
        count += sum(len(records) for records in consumer.poll(500).values())
    consumer.close()
    return count


def read_aio(addresses, rack):
    """By aiokafka."""

    async def read():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=addresses, enable_auto_commit=False, auto_offset_reset="none", client_rack=rack)
        await consumer.start()
        try:
            assigned = AIOTopicPartition(NEAR, 0)
            consumer.assign([assigned])
            await consumer.seek_to_beginning(assigned)
            count, deadline = 0, time.monotonic() + 20
            while count < RECORDS and time.monotonic() < deadline:
                count += sum(len(records) for records in (await consumer.getmany(timeout_ms=500)).values())
            return count
        finally:
            await consumer.stop()

    return asyncio.run(read())


READERS = {
    "confluent-kafka": read_confluent, "kcat": read_kcat, "kafka-python": read_python, "aiokafka": read_aio,
}


# Living through the leader's death.


class Course:
    """What one client wrote, with the offsets that it was told, and what it read along the way."""

    def __init__(self, topic):
        self.topic = topic
        self.acknowledged = {}
        self.read = {}
        self.is_written = threading.Event()

    def acknowledge(self, number, offset):
        """A write was answered."""
        self.acknowledged[number] = offset

    def note(self, offset, value):
        """A record was read."""
        expect(offset not in self.read, f"{self.topic}: offset {offset} was read twice")
        self.read[offset] = int(value)

    def is_complete(self):
        """Whether all that was acknowledged was read."""
        return self.is_written.is_set() and max(self.acknowledged.values(), default=-1) in self.read

    def expect_exact(self, seconds):
        """Every acknowledged record is where it was said to be, once, and the numbers rise."""
        expect(self.acknowledged, f"{self.topic}: nothing was acknowledged")
        offsets = sorted(self.read)
        expect_equal(offsets, list(range(len(offsets))), f"{self.topic}: offsets read")
        numbers = [self.read[offset] for offset in offsets]
        expect_equal(numbers, sorted(set(numbers)), f"{self.topic}: numbers read")
        for number, offset in self.acknowledged.items():
            expect_equal(self.read.get(offset), number, f"{self.topic}: record at {offset}")
        # Whoever stops for good would have few.
        expect(len(self.acknowledged) > seconds * 10, f"{self.topic}: {len(self.acknowledged)} acknowledged")


def live_through_death(brokers, addresses):
    """Each client writes and reads while the leader of all its records is killed."""
    courses = {name: Course(topic) for name, topic in FAILOVER.items()}
    bodies = [lambda body=body, course=courses[name]: body(addresses, course) for name, body in WORKERS]

    def kill():
        time.sleep(KILL_AFTER_SECONDS)
        brokers[0].kill()

    run_all([*bodies, kill])
    for course in courses.values():
        course.expect_exact(FAILOVER_SECONDS)


def moments():
    """Numbers at a steady pace, as long as the exercise takes."""
    end, number = time.monotonic() + FAILOVER_SECONDS, 0
    while time.monotonic() < end:
        yield number
        number += 1


def write_confluent(addresses, course):
    """By librdkafka, idempotent."""
    producer = Producer({"bootstrap.servers": addresses, "acks": "all", "enable.idempotence": True, "linger.ms": 0})

    def told(number, error, record):
        if error is None:
            course.acknowledge(number, record.offset())

    for number in moments():
        producer.produce(
            course.topic, b"%d" % number, partition=0, on_delivery=lambda error, record, n=number: told(n, error, record))
        producer.poll(PAUSE_SECONDS)
    left = producer.flush(20)
    course.is_written.set()
    expect_equal(left, 0, f"{course.topic}: records not sent")


def follow_confluent(addresses, course):
    """By librdkafka, from the rack of a follower."""
    consumer = Consumer({
        "bootstrap.servers": addresses, "group.id": "near", "enable.auto.commit": False, "auto.offset.reset": "error",
        "client.rack": "b",
    })
    consumer.assign([TopicPartition(course.topic, 0, 0)])
    deadline = time.monotonic() + 25
    while not course.is_complete() and time.monotonic() < deadline:
        for record in consumer.consume(100, 0.1):
            # What it tells of a broker that is gone is no error of the partition.
            expect(not record.error() or record.error().retriable(), f"{course.topic}: {record.error()}")
            if not record.error():
                course.note(record.offset(), record.value())
    consumer.close()


def write_python(addresses, course):
    """By kafka-python, idempotent."""
    producer = KafkaProducer(bootstrap_servers=addresses.split(","), acks="all", enable_idempotence=True)
    futures = []
    for number in moments():
        futures.append((number, producer.send(course.topic, b"%d" % number, partition=0)))
        time.sleep(PAUSE_SECONDS)
    for number, future in futures:
        course.acknowledge(number, future.get(20).offset)
    course.is_written.set()
    producer.close()


def follow_python(addresses, course):
    """By kafka-python, from the rack of a follower."""
    consumer = KafkaConsumer(
        bootstrap_servers=addresses.split(","), enable_auto_commit=False, auto_offset_reset="none", client_rack="c")
    assigned = PythonTopicPartition(course.topic, 0)
    consumer.assign([assigned])
    consumer.seek(assigned, 0)
    deadline = time.monotonic() + 25
    while not course.is_complete() and time.monotonic() < deadline:
        for records in consumer.poll(100).values():
            for record in records:
                course.note(record.offset, record.value)
    consumer.close()


def work_aio(addresses, course):
    """By aiokafka, idempotent, writing and reading in one loop."""

    async def write():
        producer = AIOKafkaProducer(bootstrap_servers=addresses, acks="all", enable_idempotence=True)
        await producer.start()
        futures = []
        for number in moments():
            futures.append((number, await producer.send(course.topic, b"%d" % number, partition=0)))
            await asyncio.sleep(PAUSE_SECONDS)
        for number, future in futures:
            course.acknowledge(number, (await asyncio.wait_for(future, 20)).offset)
        course.is_written.set()
        await producer.stop()

    async def follow():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=addresses, enable_auto_commit=False, auto_offset_reset="none", client_rack="b")
        await consumer.start()
        assigned = AIOTopicPartition(course.topic, 0)
        consumer.assign([assigned])
        consumer.seek(assigned, 0)
        deadline = time.monotonic() + 25
        while not course.is_complete() and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    course.note(record.offset, record.value)
        await consumer.stop()

    async def work():
        await asyncio.gather(write(), follow())

    asyncio.run(work())


WORKERS = (
    ("confluent-kafka", write_confluent), ("confluent-kafka", follow_confluent),
    ("kafka-python", write_python), ("kafka-python", follow_python),
    ("aiokafka", work_aio),
)
