"""Three brokers, and the one that coordinates a group is killed again and again while many groups commit."""

import bisect
import contextlib
import threading
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .cluster import start
from .group_history import Group
from .group_mixed import KINDS, Writer
from .group_wire import GroupConnection
from .report import expect, expect_equal

TOPIC = "failover-groups"
GROUPS = [f"commits-{number}" for number in range(10)]
# The group with members, and its topic.
MEMBERS, MEMBER_PARTITIONS = "failover-members", 6
SESSION_MILLIS, SHARE_SECONDS = 30_000, 40
# A busier client would measure the machine.
COMMIT_PAUSE_SECONDS = 0.02
ANSWER_UNDER_WAY_SECONDS = 0.02
KILLS, PAUSE_SECONDS = 3, 3
LONG_KILLS, LONG_PAUSE_SECONDS = 30, 10
BOUND_SECONDS = 10
END_SECONDS = 60


class Committer:
    """One group whose only client commits 1, 2, 3 … one after the other, and repeats what fails."""

    def __init__(self, addresses, group):
        self.group = group
        self.attempted = self.acknowledged = 0
        self.moments = [time.monotonic()]
        self.problems = []
        self.consumer = Consumer({
            "bootstrap.servers": addresses, "group.id": group, "enable.auto.commit": False, "log_level": 0,
            "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50,
            "retry.backoff.max.ms": 200, "socket.timeout.ms": 10_000,
        })
        self.is_stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        """Commits until told to stop."""
        while not self.is_stopping.wait(COMMIT_PAUSE_SECONDS):
            self.attempted += 1
            try:
                (answer,) = self.consumer.commit(offsets=[TopicPartition(TOPIC, 0, self.attempted)], asynchronous=False)
                if answer.error:
                    raise KafkaException(answer.error)
                self.acknowledged = self.attempted
                self.moments.append(time.monotonic())
            except KafkaException as problem:
                self.problems.append(str(problem))

    def next_moment(self, moment):
        """When it was first acknowledged after a moment; None while it was not."""
        index = bisect.bisect(self.moments, moment)
        return self.moments[index] if index < len(self.moments) else None

    def finish(self):
        """Stops, once."""
        if not self.is_stopping.is_set():
            self.is_stopping.set()
            self.thread.join()
            self.consumer.close()


class Watch:
    """Reads what is committed, and expects it to lie between what was acknowledged before and what was attempted after."""

    def __init__(self, brokers, committers):
        self.brokers = brokers
        self.committers = committers
        self.seen = dict.fromkeys(GROUPS, 0)

    def connection_to(self, number):
        """A connection to a broker by its number."""
        return GroupConnection(self.brokers[number - 1].host, self.brokers[number - 1].port)

    def coordinator(self, group):
        """The number of the broker that coordinates a group, and lives."""
        deadline = time.monotonic() + END_SECONDS
        while True:
            for number, broker in enumerate(self.brokers, 1):
                with contextlib.suppress(EOFError, OSError):
                    if broker.is_running():
                        with self.connection_to(number) as connection:
                            found = connection.find_coordinator(group)[1]
                        if found > 0 and self.brokers[found - 1].is_running():
                            return found
            expect(time.monotonic() < deadline, f"nobody coordinates {group}")
            time.sleep(0.05)

    def look(self):
        """One look at each group."""
        for committer in self.committers:
            low = max(committer.acknowledged, self.seen[committer.group])
            seen = self.committed(committer.group)
            high = committer.attempted
            expect(low <= seen <= high, f"{committer.group}: {seen} is committed, not within {low} to {high}")
            self.seen[committer.group] = seen

    def committed(self, group):
        """What the coordinator says, however long it takes to find one; 0 before the first commit."""
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                with self.connection_to(self.coordinator(group)) as connection:
                    return max(0, connection.committed(group, TOPIC, [0])[0][0])
            except (EOFError, OSError, AssertionError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


def run(binary, report, is_long):
    """Forms the cluster, lets groups commit and members read, and kills their coordinators."""
    kills, pause = (LONG_KILLS, LONG_PAUSE_SECONDS) if is_long else (KILLS, PAUSE_SECONDS)
    check = lambda name: report.check("groups, failover", name)
    with contextlib.ExitStack() as stack:
        brokers = start(binary, stack)
        addresses = ",".join(broker.kafka for broker in brokers)
        create_topics(addresses)
        committers, waits, starts = [], [], []
        watch = Watch(brokers, committers)
        members = stack.enter_context(Group(addresses, MEMBERS, MEMBERS, MEMBER_PARTITIONS, SESSION_MILLIS))
        writer = stack.enter_context(Writer(addresses, MEMBERS, MEMBER_PARTITIONS))
        with check("members of three libraries share the partitions"):
            for kind in KINDS:
                members.add(kind)
            members.wait_until_shared(len(KINDS), SHARE_SECONDS)
        shares = [member.share() for member in members.members]
        for group in GROUPS:
            committers.append(Committer(addresses, group))
            stack.callback(committers[-1].finish)
        with check(f"{kills} coordinators die, and no acknowledged commit is lost or goes back") as notes:
            for number in range(kills):
                begin = time.monotonic()
                kill_coordinator(brokers, watch, (MEMBERS, *GROUPS)[number % (len(GROUPS) + 1)], waits, starts)
                time.sleep(max(0, begin + pause - time.monotonic()))
            for committer in committers:
                committer.finish()
            watch.look()
            problems = [problem for committer in committers for problem in committer.problems]
            notes.append(f"{sum(each.acknowledged for each in committers)} commits, {len(problems)} failed {problems[:1]}")
            notes.append(f"slowest start {max(starts):.1f} s")
        with check(f"at most {BOUND_SECONDS} s after a kill its groups commit again") as notes:
            expect(waits, "nothing was measured")
            waits.sort()
            p50, p99 = (waits[len(waits) * percent // 100] for percent in (50, 99))
            notes.append(f"{len(waits)} groups: p50 {p50:.2f} s, p99 {p99:.2f} s, max {waits[-1]:.2f} s")
            expect(waits[-1] <= BOUND_SECONDS, notes[0])
        with check("members keep their shares, and read and commit everything") as notes:
            expect_whole(watch, members, shares, writer.finish(), notes)


def create_topics(addresses):
    """On all brokers."""
    admin = AdminClient({"bootstrap.servers": addresses, "log_level": 0})
    topics = [NewTopic(TOPIC, 1, 3), NewTopic(MEMBERS, MEMBER_PARTITIONS, 3)]
    for future in admin.create_topics(topics, operation_timeout=20).values():
        future.result(20)


def kill_coordinator(brokers, watch, group, waits, starts):
    """Kills the coordinator of a group, notes how long each group that it had cannot commit, and how long it takes to start."""
    watch.look()
    number = watch.coordinator(group)
    broker = brokers[number - 1]
    hit = [each for each in watch.committers if watch.coordinator(each.group) == number]
    moment = time.monotonic()
    broker.kill()
    # What was acknowledged before may be on its way to the client a little longer.
    dead = time.monotonic() + ANSWER_UNDER_WAY_SECONDS
    while any(each.next_moment(dead) is None for each in hit):
        expect(time.monotonic() < moment + END_SECONDS, f"no commit in {END_SECONDS} s after the kill of broker {number}")
        time.sleep(0.01)
    waits += [each.next_moment(dead) - moment for each in hit]
    watch.look()
    begin = time.monotonic()
    broker.start()
    starts.append(time.monotonic() - begin)


def expect_whole(watch, members, shares, wanted, notes):
    """No member has joined anew, each record was read in order, and all of it is committed."""
    members.wait_until_read(wanted, END_SECONDS)
    expect_equal([member.share() for member in members.members], shares, "shares at the end")
    for member in members.members:
        member.leave()
    members.expect_each_read(wanted)
    members.expect_order()
    members.expect_progress()
    with watch.connection_to(watch.coordinator(MEMBERS)) as connection:
        seen = connection.committed_offsets(MEMBERS, MEMBERS, list(wanted))
    expect_equal(seen, wanted, "committed offsets at the end")
    notes.append(f"{sum(wanted.values())} records")
