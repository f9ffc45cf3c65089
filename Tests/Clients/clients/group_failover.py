"""Three brokers, and the one that coordinates a group is killed again and again while many groups commit.

In the long form fifty groups commit 200 times a second in all, most of them over bare sockets: these read back what they have
committed, and know of a coordinator that is gone without waiting for a library to notice.
"""

import bisect
import contextlib
import threading
import time
from collections import defaultdict

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from .cluster import start
from .group_history import Group
from .group_mixed import KINDS, Writer
from .group_wire import GroupConnection
from .report import Expectation, expect, expect_equal
from .wire import NONE

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
# Groups over bare sockets beside those of librdkafka, and how often each of all of them commits in the long form.
LONG_BARE_GROUPS, LONG_COMMIT_SECONDS = 40, 0.25
BARE_GROUPS = 2
BARE_RETRY_SECONDS, BARE_TIMEOUT_SECONDS = 0.02, 5
# In so many commits over a bare socket one is read back.
READ_BACK_COMMITS = 4
BOUND_SECONDS = 10
END_SECONDS = 60


class Committer:
    """One group whose only client commits 1, 2, 3 … one after the other, and goes on after what fails."""

    name = "librdkafka"
    retry_seconds = COMMIT_PAUSE_SECONDS

    def __init__(self, addresses, group, interval):
        self.group = group
        self.interval = interval
        self.attempted = self.acknowledged = 0
        self.moments = [time.monotonic()]
        self.problems = []
        # What no client may ever see, which ends it.
        self.broken = None
        self.open(addresses)
        self.is_stopping = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def open(self, addresses):
        """Makes the client."""
        self.consumer = Consumer({
            "bootstrap.servers": addresses, "group.id": self.group, "enable.auto.commit": False, "log_level": 0,
            "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50,
            "retry.backoff.max.ms": 200, "socket.timeout.ms": 10_000,
        })

    def close(self):
        """Ends the client."""
        self.consumer.close()

    def commit(self, offset):
        """One commit; what it throws says that it may or may not have been."""
        (answer,) = self.consumer.commit(offsets=[TopicPartition(TOPIC, 0, offset)], asynchronous=False)
        if answer.error:
            raise KafkaException(answer.error)

    def run(self):
        """Commits until told to stop, at an even rate as long as all goes well."""
        due = time.monotonic()
        while not self.is_stopping.wait(max(0, due - time.monotonic())) and not self.broken:
            self.attempted += 1
            try:
                self.commit(self.attempted)
                self.acknowledged = self.attempted
                self.moments.append(time.monotonic())
                due = max(due + self.interval, time.monotonic())
            except Expectation as problem:
                self.broken = str(problem)
            except (KafkaException, EOFError, OSError, AssertionError) as problem:
                self.problems.append(f"{type(problem).__name__}: {problem}")
                due = time.monotonic() + self.retry_seconds

    def next_moment(self, moment):
        """When it was first acknowledged after a moment; None while it was not."""
        index = bisect.bisect(self.moments, moment)
        return self.moments[index] if index < len(self.moments) else None

    def finish(self):
        """Stops, once."""
        if not self.is_stopping.is_set():
            self.is_stopping.set()
            self.thread.join()
            self.close()


class BareCommitter(Committer):
    """The same over a bare socket, and now and then it reads what is committed: exactly what was acknowledged last."""

    name = "bare sockets"
    retry_seconds = BARE_RETRY_SECONDS

    def open(self, addresses):
        """Nothing is connected before it is needed."""
        self.addresses = addresses.split(",")
        self.connection = None

    def close(self):
        """Ends the connection."""
        if self.connection:
            self.connection.socket.close()
        self.connection = None

    def connect(self):
        """To the coordinator, which any broker that answers names."""
        for address in self.addresses:
            host, port = address.rsplit(":", 1)
            try:
                connection = GroupConnection(host, int(port), timeout=BARE_TIMEOUT_SECONDS)
            except OSError:
                continue
            with connection:
                error, number = connection.find_coordinator(self.group)
            if error == NONE:
                # Brokers are numbered in the order of their addresses.
                host, port = self.addresses[number - 1].rsplit(":", 1)
                return GroupConnection(host, int(port), timeout=BARE_TIMEOUT_SECONDS)
            raise OSError(f"FindCoordinator is answered with {error}")
        raise OSError("nobody answers")

    def commit(self, offset):
        """One commit, and perhaps a look at it."""
        try:
            self.connection = self.connection or self.connect()
            error = self.connection.commit(self.group, TOPIC, {0: offset})[0]
            if error != NONE:
                raise OSError(f"OffsetCommit is answered with {error}")
        except (EOFError, OSError, AssertionError):
            self.close()
            raise
        if offset % READ_BACK_COMMITS == 0:
            self.read_back(offset)

    def read_back(self, offset):
        """It is this client's only commit that is on its way, so nothing else can be there; where nobody answers nothing is said."""
        try:
            seen = self.connection.committed(self.group, TOPIC, [0])[0][0]
        except (EOFError, OSError, AssertionError):
            self.close()
            return
        if seen != offset:
            raise Expectation(f"{self.group}: {offset} is acknowledged, and then {seen} is read")


class Watch:
    """Reads what is committed, and expects it to lie between what was acknowledged before and what was attempted after."""

    def __init__(self, brokers, committers):
        self.brokers = brokers
        self.committers = committers
        self.seen = defaultdict(int)

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
            expect(not committer.broken, committer.broken)
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


def run(binary, report, is_long, kills=None):
    """Forms the cluster, lets groups commit and members read, and kills their coordinators."""
    kills, pause = (kills or LONG_KILLS, LONG_PAUSE_SECONDS) if is_long else (kills or KILLS, PAUSE_SECONDS)
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
        interval = LONG_COMMIT_SECONDS if is_long else COMMIT_PAUSE_SECONDS
        names = [*GROUPS, *(f"bare-{number}" for number in range(LONG_BARE_GROUPS if is_long else BARE_GROUPS))]
        for number, name in enumerate(names):
            make = Committer if name in GROUPS else BareCommitter
            committers.append(make(addresses, name, interval))
            stack.callback(committers[-1].finish)
            # They are not due all at the same time.
            time.sleep(interval / len(names))
        begin = time.monotonic()
        with check(f"{kills} coordinators die, and no acknowledged commit is lost or goes back") as notes:
            for number in range(kills):
                moment = time.monotonic()
                kill_coordinator(brokers, watch, (MEMBERS, *names)[number % (len(names) + 1)], waits, starts)
                time.sleep(max(0, moment + pause - time.monotonic()))
            seconds = time.monotonic() - begin
            for committer in committers:
                committer.finish()
            watch.look()
            problems = [problem for committer in committers for problem in committer.problems]
            count = sum(len(committer.moments) - 1 for committer in committers)
            notes.append(f"{count} commits of {len(names)} groups, {count / seconds:.0f}/s, {len(problems)} failed {problems[:1]}")
            notes.append(f"slowest start {max(starts):.1f} s")
        for name in (Committer.name, BareCommitter.name):
            with check(f"at most {BOUND_SECONDS} s after a kill its groups commit again ({name})") as notes:
                expect_soon([wait for kind, wait in waits if kind == name], notes)
        with check("members keep their shares, and read and commit everything") as notes:
            expect_whole(watch, members, shares, writer.finish(), notes)


def expect_soon(waits, notes):
    """Every wait was short."""
    expect(waits, "nothing was measured")
    waits.sort()
    p50, p99 = (waits[len(waits) * percent // 100] for percent in (50, 99))
    notes.append(f"{len(waits)} waits: p50 {p50:.2f} s, p99 {p99:.2f} s, max {waits[-1]:.2f} s")
    expect(waits[-1] <= BOUND_SECONDS, notes[0])


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
    while any(each.next_moment(dead) is None and not each.broken for each in hit):
        expect(time.monotonic() < moment + END_SECONDS, f"no commit in {END_SECONDS} s after the kill of broker {number}")
        time.sleep(0.01)
    watch.look()
    waits += [(each.name, each.next_moment(dead) - moment) for each in hit]
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
