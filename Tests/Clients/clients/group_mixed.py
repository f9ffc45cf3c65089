"""One group of several client libraries while records are written: who comes, who goes, and who is killed.

The long form has eight members, tools among them, which leave, are killed and are stopped for longer than their session in turns, for
minutes, while the broker crashes now and then.
"""

import random
import threading
import time

from confluent_kafka import Producer

from .group_history import Group
from .group_wire import GroupConnection
from .report import Expectation, expect, expect_equal
from .wire import NONE

TOPIC, GROUP, PARTITIONS = "mixed", "mixed", 12
KINDS = ("confluent-kafka", "kafka-python", "aiokafka")
SESSION_MILLIS = 6000
# Beyond the session: what the others need to hear of it and to join, on a machine that is busy.
GRACE_SECONDS = 10
SHARE_SECONDS = 40
END_SECONDS = 40
RATE_PER_SECOND = 600
PAUSE_SECONDS = 0.02
# The long form.
LONG_KINDS = (
    "confluent-kafka", "kafka-python", "aiokafka", "kcat", "flotilla", "confluent-kafka", "kafka-python", "aiokafka",
)
LONG_SECONDS, LONG_RATE_PER_SECOND = 300, 300
FATES = ("leaves", "is killed", "is stopped")
CALM_SECONDS = 1
# One in so many turns begins with a crash of the broker, and in one in so many the next member comes before the last one is missed.
CRASH_TURNS, HASTE_TURNS = 5, 3
QUIET_GROUPS = 20
# Beyond the session: what the coordinator, and those who are left, need to notice that somebody is gone.
NOTICE_SECONDS = 6
# What was said before arrives within this time.
SAYING_SECONDS = 0.5
SEED = 20261130


class Writer:
    """Writes numbers at an even rate, those of each partition one by one from 0."""

    def __init__(self, addresses, topic, partitions, rate=RATE_PER_SECOND):
        self.topic = topic
        self.rate = rate
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
            while count < (time.monotonic() - begin) * self.rate:
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


def run(broker, report, is_long, seconds=LONG_SECONDS):
    """Members of three libraries, or of all of them and of tools, come, go and die; then all is judged that they said."""
    if is_long:
        with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS, broker.binary) as group:
            Course(broker, group, TOPIC, "groups, mixed, long", report, seconds).run(LONG_KINDS)
        return
    check = lambda name: report.check("groups, mixed", name)
    with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group, \
            Writer(broker.kafka, TOPIC, PARTITIONS) as writer:
        with check("members of three libraries share the partitions"):
            for kind in KINDS:
                group.add(kind)
            group.wait_until_shared(len(KINDS), SHARE_SECONDS)
            time.sleep(1)
        with check(f"{KINDS[1]} comes and leaves again"):
            guest = group.add(KINDS[1])
            group.wait_until_shared(len(KINDS) + 1, SHARE_SECONDS)
            time.sleep(1)
            guest.leave()
            group.wait_until_shared(len(KINDS), SHARE_SECONDS)
        with check(f"{KINDS[0]} is killed, and the others take over") as notes:
            moment = group.living()[0].kill()
            group.wait_until_shared(len(KINDS) - 1, SESSION_MILLIS / 1000 + GRACE_SECONDS)
            notes.append(f"{time.monotonic() - moment:.1f} s from kill to take-over")
        judge(broker, group, writer.finish(), check)


def judge(broker, group, wanted, check):
    """Ends all members, and looks at what they said."""
    with check("every record is read at least once, and committed") as notes:
        group.wait_until_read(wanted, END_SECONDS)
        # Some commit now and then.
        time.sleep(CALM_SECONDS)
        for member in group.living():
            member.leave()
        group.expect_each_read(wanted)
        with GroupConnection(broker.host, broker.port) as connection:
            seen = connection.committed_offsets(group.name, group.topic, list(wanted))
        expect_equal(seen, wanted, "committed offsets at the end")
        reads = sum(len(rows) for member in group.members for rows in member.reads().values())
        notes.append(f"{sum(wanted.values())} records, {reads - sum(wanted.values())} read again")
    with check("no partition has two owners " + ("at a time" if group.is_incremental else "in one generation")):
        group.expect_one_owner()
    with check("each share is read in order and without a gap"):
        group.expect_order()
    with check("nobody begins before what was committed"):
        group.expect_progress()


class Course:
    """Minutes in the life of a group: its members meet every fate, in an order drawn from a seed, and the broker crashes."""

    def __init__(self, broker, group, topic, name, report, seconds):
        self.broker = broker
        self.group = group
        self.topic = topic
        self.check = lambda title: report.check(name, title)
        self.seconds = seconds
        self.random = random.Random(SEED)
        self.crashes = 0
        self.quiet = {f"{group.name}-quiet-{number}": 1000 + number for number in range(QUIET_GROUPS)}

    def run(self, kinds):
        """All of it."""
        group, limit = self.group, self.group.session_millis / 1000 + NOTICE_SECONDS
        with Writer(self.broker.kafka, self.topic, group.partitions, LONG_RATE_PER_SECOND) as writer:
            with self.check(f"{len(kinds)} members share the partitions"):
                for kind in kinds:
                    group.add(kind)
                group.wait_until_shared(len(kinds), SHARE_SECONDS)
                self.commit_quietly()
            begin = time.monotonic()
            with self.check(f"they come and go for {self.seconds} s (seed {SEED})") as notes:
                self.live(begin, notes)
            end = time.monotonic()
            wanted = writer.finish()
        judge(self.broker, group, wanted, self.check)
        with self.check(f"no partition is without an owner for longer than {limit:.0f} s") as notes:
            notes.append(f"longest {group.expect_owned(begin, end, limit):.1f} s")

    def commit_quietly(self):
        """Groups without members, whose commits are to stay as they are."""
        with GroupConnection(self.broker.host, self.broker.port) as connection:
            for name, offset in self.quiet.items():
                connection.wait_for_coordinator(name)
                expect_equal(connection.commit(name, self.topic, {0: offset}), {0: NONE}, "error of a commit")

    def live(self, begin, notes):
        """Turn after turn."""
        turns, counts, times = [], dict.fromkeys(FATES, 0), []
        while time.monotonic() - begin < self.seconds:
            number = sum(counts.values())
            if number % CRASH_TURNS == CRASH_TURNS - 1:
                self.crash()
            if not turns:
                # Each kind of member meets each fate before one meets the same again.
                turns = sorted({(member.kind, fate) for member in self.group.living() for fate in FATES})
                self.random.shuffle(turns)
            kind, fate = turns.pop()
            times.append(self.turn(kind, fate, number % HASTE_TURNS == HASTE_TURNS - 1))
            counts[fate] += 1
        notes.append(", ".join(f"{count} {fate}" for fate, count in counts.items()))
        notes.append(f"{self.crashes} crashes of the broker; {max(times):.1f} s until the others had all at the latest")

    def turn(self, kind, fate, is_hasty):
        """One member goes, and one comes; how long it took the others to have all partitions."""
        group, count = self.group, len(self.group.living())
        victim = self.random.choice([member for member in group.living() if member.kind == kind])
        patience = group.session_millis / 1000 + GRACE_SECONDS
        begin = time.monotonic()
        {"leaves": victim.leave, "is killed": victim.kill, "is stopped": victim.stall}[fate]()
        try:
            if is_hasty:
                group.add(kind)
                count += 1
            group.wait_until_shared(count - 1, patience)
        except Expectation as problem:
            raise Expectation(f"{kind} {fate}{', another comes at once' if is_hasty else ''}: {problem}") from None
        taken = time.monotonic() - begin
        time.sleep(CALM_SECONDS)
        if fate == "is stopped":
            victim.go_on()
            if is_hasty:
                group.wait_until_shared(count, SHARE_SECONDS)
                victim.leave()
                count -= 1
        elif not is_hasty:
            group.add(kind)
        else:
            count -= 1
        try:
            group.wait_until_shared(count, SHARE_SECONDS)
        except Expectation as problem:
            raise Expectation(f"{kind} {fate}, and then: {problem}") from None
        time.sleep(CALM_SECONDS)
        return taken

    def crash(self):
        """The broker dies and comes back: what was acknowledged is committed, and nothing that nobody asked for."""
        moment = time.monotonic()
        self.broker.kill()
        self.broker.start()
        self.crashes += 1
        group, partitions = self.group, list(range(self.group.partitions))
        with GroupConnection(self.broker.host, self.broker.port) as connection:
            seen = connection.committed_offsets(group.name, self.topic, partitions)
            for name, offset in self.quiet.items():
                expect_equal(connection.committed_offsets(name, self.topic, [0]), {0: offset}, f"committed offset of {name}")
        time.sleep(SAYING_SECONDS)
        for partition, (low, high) in group.committed_range(moment).items():
            offset = max(0, seen[partition])
            expect(low <= offset <= high, f"partition {partition}: {offset} is committed after a crash, not {low} to {high}")
        group.wait_until_shared(len(group.living()), group.session_millis / 1000 + GRACE_SECONDS)
        time.sleep(CALM_SECONDS)
