"""A group of the consumer protocol (KIP-848) of librdkafka's members while records are written; in the long form our own beside them."""

import time

from confluent_kafka import Consumer

from .broker import Broker
from .group_history import Group
from .group_mixed import GRACE_SECONDS, LONG_SECONDS, SHARE_SECONDS, Course, Writer, judge
from .group_wire import CONSUMER_GROUP_HEARTBEAT, GroupConnection, consumer_heartbeat_body, read_consumer_heartbeat
from .report import expect, expect_equal
from .wire import NONE

KIND = "confluent-kafka consumer"
TOPIC, GROUP, PARTITIONS, MEMBERS = "divided", "divided", 12, 3
LONG_TOPIC = "longer"
SESSION_MILLIS = 6000
SETTINGS = {
    "FLOTILLA_GROUP_CONSUMER_SESSION_TIMEOUT_MS": str(SESSION_MILLIS),
    "FLOTILLA_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS": "500",
}
INVALID_REGULAR_EXPRESSION = 128
HOSTILE_PATTERNS = ("a(", r"(a)\1", "(((a{1000}){1000}){1000})", ".*a|" * 1000, "a" * 5000)
HOSTILE_SECONDS = 2
LONG_KINDS = (KIND, "flotilla consumer", KIND, "flotilla consumer", KIND, KIND, "flotilla consumer", KIND)


class ConsumerGroup(Group):
    """Members of the consumer protocol: each has its own epoch, and partitions move one by one."""

    is_incremental = True

    def is_shared(self):
        """Whether the living members hold all partitions, each one, in even shares."""
        shares = [member.share() for member in self.living()]
        if not shares or None in shares:
            return False
        sizes = [len(partitions) for _, partitions in shares]
        held = sorted(partition for _, partitions in shares for partition in partitions)
        return held == list(range(self.partitions)) and max(sizes) - min(sizes) <= 1

    def expect_one_owner(self):
        """No two members hold a partition at a time."""
        self.expect_no_overlap()


def run(binary, report, is_long, seconds=LONG_SECONDS):
    """Members come, go and die; then all is judged that they said."""
    check = lambda name: report.check("groups, consumer protocol", name)
    with Broker(binary, environment=SETTINGS) as broker:
        with GroupConnection(broker.host, broker.port) as connection:
            for topic in (TOPIC, LONG_TOPIC):
                expect_equal(connection.create_topic(topic, PARTITIONS), NONE, f"error of creating {topic}")
        with ConsumerGroup(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group, \
                Writer(broker.kafka, TOPIC, PARTITIONS) as writer:
            live(group, check)
            judge(broker, group, writer.finish(), check)
        with check("an expression names topics, and a hostile one is refused"):
            expect_patterns(broker)
        if is_long:
            with ConsumerGroup(broker.kafka, LONG_TOPIC, LONG_TOPIC, PARTITIONS, SESSION_MILLIS, binary) as group:
                Course(broker, group, LONG_TOPIC, "groups, consumer, long", report, seconds).run(LONG_KINDS)


def live(group, check):
    """What happens to the members."""
    with check("members share the partitions"):
        for _ in range(MEMBERS):
            group.add(KIND)
        group.wait_until_shared(MEMBERS, SHARE_SECONDS)
        time.sleep(1)
    with check("one comes and leaves again"):
        guest = group.add(KIND)
        group.wait_until_shared(MEMBERS + 1, SHARE_SECONDS)
        time.sleep(1)
        guest.leave()
        group.wait_until_shared(MEMBERS, SHARE_SECONDS)
    with check("one is killed, and the others take over") as notes:
        moment = group.living()[0].kill()
        group.wait_until_shared(MEMBERS - 1, SESSION_MILLIS / 1000 + GRACE_SECONDS)
        notes.append(f"{time.monotonic() - moment:.1f} s from kill to take-over")
    with check("a static member comes back to what it had"):
        static = group.add(KIND, instance="left")
        group.wait_until_shared(MEMBERS, SHARE_SECONDS)
        share = static.share()[1]
        static.leave()
        again = group.add(KIND, instance="left")
        group.wait_until_shared(MEMBERS, SHARE_SECONDS)
        expect_equal(again.share()[1], share, "share of the static member")


def expect_patterns(broker):
    """librdkafka sends what begins with ^ to the broker."""
    consumer = Consumer({
        "bootstrap.servers": broker.kafka, "group.id": "by-pattern", "group.protocol": "consumer",
        "auto.offset.reset": "earliest", "log_level": 0,
    })
    consumer.subscribe(["^div.*"])
    deadline = time.monotonic() + SHARE_SECONDS
    while len(consumer.assignment()) != PARTITIONS:
        consumer.poll(0.2)
        expect(time.monotonic() < deadline, f"assigned: {consumer.assignment()}")
    consumer.close()
    # librdkafka looks at expressions itself before it sends them, and would hang on these.
    with GroupConnection(broker.host, broker.port) as connection:
        for pattern in HOSTILE_PATTERNS:
            begin = time.monotonic()
            expect_equal(join_by_pattern(connection, pattern), INVALID_REGULAR_EXPRESSION, f"error for {pattern[:30]}")
            expect(time.monotonic() - begin < HOSTILE_SECONDS, f"{pattern[:30]} took {time.monotonic() - begin:.1f} s")
        expect_equal(join_by_pattern(connection, "(a*)*b|(.*)*c|none"), NONE, "error of an expression that backtracks")


def join_by_pattern(connection, pattern):
    """ConsumerGroupHeartbeat 1 of a member that wants the topics of an expression: the error."""
    body = consumer_heartbeat_body("by-hostile-pattern", "someone", 0, rebalance=60_000, pattern=pattern, owned=[])
    return read_consumer_heartbeat(connection.request(CONSUMER_GROUP_HEARTBEAT, 1, body))[0]
