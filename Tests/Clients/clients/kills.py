"""SIGKILL under load: what was acknowledged is there, once and in order.

Twice: with the journal as it is by default, and with files of 1 MiB, so that files are recycled all the while and what was acknowledged
must have reached its segment before its journal file is written over.
"""

import random
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from .broker import Broker
from .report import expect, expect_equal
from .wire import Connection
from .workload import PARTITIONS

TOPIC = "killed"
RATE_PER_SECOND = 4000
SMALL_JOURNAL = {"FLOTILLA_JOURNAL_FILE_BYTES": str(1 << 20)}
# Noise behind each number: eight megabytes a second, which lz4 cannot shrink.
NOISE = random.Random(1).randbytes(4000)
NOISE_BYTES = 2000


class Load:
    """An idempotent producer with acks=all that numbers its records by partition and notes every answer."""

    def __init__(self, address):
        self.acknowledged = {partition: {} for partition in range(PARTITIONS)}
        self.failures = []
        self.sent = [0] * PARTITIONS
        self.is_stopping = threading.Event()
        self.producer = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
            "compression.type": "lz4", "message.timeout.ms": 180_000, "reconnect.backoff.max.ms": 200,
            "retry.backoff.max.ms": 200, "socket.timeout.ms": 10_000, "log_level": 0,
        })
        self.thread = threading.Thread(target=self.run)

    def delivered(self, error, record):
        """Notes the offset under which a record was acknowledged."""
        if error:
            self.failures.append(f"partition {record.partition()} {number_in(record.value())}: {error}")
        else:
            self.acknowledged[record.partition()][number_in(record.value())] = record.offset()

    def run(self):
        """Sends at an even rate until told to stop."""
        begin, count = time.monotonic(), 0
        while not self.is_stopping.is_set():
            due = int((time.monotonic() - begin) * RATE_PER_SECOND)
            while count < due:
                partition = count % PARTITIONS
                try:
                    self.producer.produce(
                        TOPIC, value_of(self.sent[partition]), b"key", partition, on_delivery=self.delivered)
                except BufferError:
                    break
                self.sent[partition] += 1
                count += 1
            self.producer.poll(0.01)

    def finish(self):
        """Stops and waits for every answer; returns how many never came."""
        self.is_stopping.set()
        self.thread.join()
        return self.producer.flush(120)


def value_of(number):
    """A record's value: its number, and noise that depends on it."""
    start = number % (len(NOISE) - NOISE_BYTES)
    return b"%d " % number + NOISE[start:start + NOISE_BYTES]


def number_in(value):
    """The number of a record, once its noise was found to be right."""
    number = int(value.split(b" ", 1)[0])
    if value != value_of(number):
        raise ValueError(f"the value of record {number} was changed")
    return number


def run(binary, report, kills, seconds, seed):
    """Kills the broker `kills` times within `seconds`, each time under load, with a large journal and with a small one."""
    kill_under_load(binary, report, kills, seconds, seed, "kills", {})
    kill_under_load(binary, report, kills, seconds, seed + 1, "kills, small journal", SMALL_JOURNAL)


def kill_under_load(binary, report, kills, seconds, seed, group, environment):
    """One series of kills, and the look at what is left."""
    source = random.Random(seed)
    with Broker(binary, environment=environment) as broker:
        with Connection(broker.host, broker.port) as connection:
            expect_equal(connection.create_topic(TOPIC, PARTITIONS), 0, "error of create topic")
        load = Load(broker.kafka)
        load.thread.start()
        slowest = 0.0
        try:
            with report.check(group, f"{kills} kills in {seconds} s, and a start after each (seed {seed})"):
                for _ in range(kills):
                    time.sleep(seconds / kills * source.uniform(0.5, 0.95))
                    broker.kill()
                    begin = time.monotonic()
                    broker.start()
                    slowest = max(slowest, time.monotonic() - begin)
        finally:
            left = load.finish()
        with report.check(group, "every record is answered, none with an error"):
            expect_equal(left, 0, "records without an answer")
            expect(not load.failures, f"{len(load.failures)} failed, first: {load.failures[:1]}")
        acknowledged = sum(map(len, load.acknowledged.values()))
        with report.check(group, f"{acknowledged} acknowledged records are there, once, in order"):
            expect(acknowledged > 0, "nothing was acknowledged at all")
            for partition, stored in read(broker.kafka).items():
                expect_history(partition, stored, load)
        print(f"     {group}: {acknowledged} acknowledged, slowest start {slowest * 1000:.0f} ms", file=report.stream)


def read(address):
    """The numbers stored in each partition, with their offsets."""
    consumer = Consumer({
        "bootstrap.servers": address, "group.id": "kills", "enable.partition.eof": True, "enable.auto.commit": False,
        "check.crcs": True, "log_level": 0,
    })
    consumer.assign([TopicPartition(TOPIC, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    stored = {partition: [] for partition in range(PARTITIONS)}
    open_partitions = set(stored)
    deadline = time.monotonic() + 120
    while open_partitions:
        expect(time.monotonic() < deadline, f"no end of partitions {open_partitions} within two minutes")
        for record in consumer.consume(5000, 0.5):
            if record.error():
                open_partitions.discard(record.partition())
            else:
                stored[record.partition()].append((record.offset(), number_in(record.value())))
    consumer.close()
    return stored


def expect_history(partition, stored, load):
    """The numbers of a partition rise one by one from 0, and each acknowledged one lies where the answer said."""
    numbers = [number for _, number in stored]
    wrong = next((index for index, number in enumerate(numbers) if number != index), None)
    if wrong is not None:
        expect(False, f"partition {partition}: {numbers[wrong]} where {wrong} belongs (lost, doubled or out of order)")
    offsets = dict((number, offset) for offset, number in stored)
    for number, offset in load.acknowledged[partition].items():
        expect_equal(offsets.get(number), offset, f"offset of acknowledged record {number} in partition {partition}")
    expect_equal([offset for offset, _ in stored], list(range(len(stored))), f"offsets of partition {partition}")
