"""One group of several client libraries while records are written: who comes, who goes, and who is killed."""

import threading
import time

from confluent_kafka import Producer

from .group_history import Group
from .group_wire import GroupConnection
from .report import expect, expect_equal

TOPIC, GROUP, PARTITIONS = "mixed", "mixed", 12
KINDS = ("confluent-kafka", "kafka-python", "aiokafka")
SESSION_MILLIS = 6000
# Beyond the session: what the others need to hear of it and to join, on a machine that is busy.
GRACE_SECONDS = 10
SHARE_SECONDS = 40
END_SECONDS = 40
RATE_PER_SECOND = 600
PAUSE_SECONDS = 0.02


class Writer:
    """Writes numbers at an even rate, those of each partition one by one from 0."""

    def __init__(self, addresses, topic, partitions):
        self.topic = topic
        self.sent = dict.fromkeys(range(partitions), 0)
        self.failures = []
        self.is_stopping = threading.Event()
        self.producer = Producer({
            "bootstrap.servers": addresses, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
            "reconnect.backoff.max.ms": 200, "retry.backoff.max.ms": 200, "message.timeout.ms": 120_000, "log_level": 0,
        })
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.is_stopping.set()
        self.thread.join()

    def run(self):
        """Sends until told to stop."""
        partitions, begin, count = len(self.sent), time.monotonic(), 0
        while not self.is_stopping.is_set():
            while count < (time.monotonic() - begin) * RATE_PER_SECOND:
                partition = count % partitions
                self.producer.produce(self.topic, b"%d" % self.sent[partition], partition=partition, on_delivery=self.told)
                self.sent[partition] += 1
                count += 1
            self.producer.poll(0)
            time.sleep(PAUSE_SECONDS)

    def told(self, error, _):
        """A write was answered."""
        if error:
            self.failures.append(str(error))

    def finish(self):
        """Stops, waits for every answer, and returns how many records each partition has."""
        self.is_stopping.set()
        self.thread.join()
        expect_equal(self.producer.flush(60), 0, "records without an answer")
        expect(not self.failures, f"{len(self.failures)} records failed, first: {self.failures[:1]}")
        return dict(self.sent)


def run(broker, report, is_long):
    """Members of three libraries come, go and die; then all is judged that they said."""
    check = lambda name: report.check("groups, mixed", name)
    with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group, \
            Writer(broker.kafka, TOPIC, PARTITIONS) as writer:
        with check("members of three libraries share the partitions"):
            for kind in KINDS:
                group.add(kind)
            group.wait_until_shared(len(KINDS), SHARE_SECONDS)
            time.sleep(1)
        for kind in KINDS if is_long else KINDS[1:2]:
            with check(f"{kind} comes and leaves again"):
                guest = group.add(kind)
                group.wait_until_shared(len(KINDS) + 1, SHARE_SECONDS)
                time.sleep(1)
                guest.leave()
                group.wait_until_shared(len(KINDS), SHARE_SECONDS)
        for kind in KINDS if is_long else KINDS[:1]:
            with check(f"{kind} is killed, and the others take over") as notes:
                victim = next(member for member in group.living() if member.kind == kind)
                moment = victim.kill()
                group.wait_until_shared(len(KINDS) - 1, SESSION_MILLIS / 1000 + GRACE_SECONDS)
                notes.append(f"{time.monotonic() - moment:.1f} s from kill to take-over")
            if is_long:
                with check(f"{kind} comes back"):
                    group.add(kind)
                    group.wait_until_shared(len(KINDS), SHARE_SECONDS)
        wanted = writer.finish()
        with check("every record is read at least once, and committed") as notes:
            group.wait_until_read(wanted, END_SECONDS)
            for member in group.living():
                member.leave()
            group.expect_each_read(wanted)
            with GroupConnection(broker.host, broker.port) as connection:
                seen = connection.committed_offsets(GROUP, TOPIC, list(wanted))
            expect_equal(seen, wanted, "committed offsets at the end")
            notes.append(f"{sum(wanted.values())} records")
        with check("no partition has two owners in one generation"):
            group.expect_one_owner()
        with check("each share is read in order and without a gap"):
            group.expect_order()
        with check("nobody begins before what was committed"):
            group.expect_progress()
