"""What tools do with groups: list, describe and delete them, and set, read and delete what they have committed."""

import time

from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient
from kafka import TopicPartition as PythonTopicPartition

from . import batches
from .group_history import Group
from .group_wire import GroupConnection
from .report import expect, expect_equal
from .wire import NONE

TOPIC, SHORT_LIVED, PARTITIONS, RECORDS = "administered", "administered-and-gone", 4, 25
GROUP, SIMPLE, OTHER = "administered", "administered-simple", "administered-other"
SESSION_MILLIS = 30_000
SHARE_SECONDS = 40
ANSWER_SECONDS = 30


def run(broker, report):
    """A group with a member, the same without, and what is left of it."""
    admin = AdminClient({"bootstrap.servers": broker.kafka, "log_level": 0})
    check = lambda name: report.check("groups, admin", name)
    with GroupConnection(broker.host, broker.port) as connection:
        for name in (SIMPLE, OTHER):
            connection.wait_for_coordinator(name)
            expect_equal(connection.commit(name, TOPIC, {2: 7}, metadata="note"), {2: NONE}, "error of a commit")
    with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group:
        with check("a group with a member is listed and described"):
            member = group.add("confluent-kafka")
            group.wait_until_shared(1, SHARE_SECONDS)
            expect_described(admin, member.of("assigned")[-1]["member"])
        with check("it cannot be deleted, and nobody else commits for it"):
            expect_protected(broker, admin)
        with check("without members it is empty"):
            member.leave()
            expect_states(admin, {GROUP: "EMPTY", SIMPLE: "EMPTY", OTHER: "EMPTY"})
            expect_equal(describe(admin, GROUP).state, ConsumerGroupState.EMPTY, "state")
    with check("its offsets are set and read"):
        alter(admin, GROUP, {partition: 10 + partition for partition in range(PARTITIONS)})
        expect_equal(offsets(admin, GROUP), {partition: 10 + partition for partition in range(PARTITIONS)}, "offsets")
        expect_equal(offsets(admin, SIMPLE), {2: 7}, "offsets of a group that never had members")
        expect_equal(offsets(admin, "administered-not-there"), {}, "offsets of a group that is not there")
        expect_resumed(broker)
    with check("some of its offsets are deleted"):
        deleted = delete_offsets(broker, GROUP, [0, 3])
        expect_equal(set(deleted.values()), {"NoError"}, "errors by partition")
        expect_equal(sorted(offsets(admin, GROUP)), [1, 2], "partitions that still have one")
    with check("groups are deleted, and what they had committed"):
        expect_deleted(admin)
    with check("what was committed for a topic goes with the topic"):
        expect_forgotten(broker)


# Questions.


def listed(admin, **rest):
    """{group: state} of all groups."""
    answer = admin.list_consumer_groups(request_timeout=ANSWER_SECONDS, **rest).result()
    expect(not answer.errors, f"errors of a list: {answer.errors}")
    return {group.group_id: group.state.name for group in answer.valid}


def expect_states(admin, wanted):
    """These groups are listed with these states, and a list of one state has those and no others."""
    seen = listed(admin)
    expect_equal({name: seen.get(name) for name in wanted}, wanted, "states in a list")
    for state in ("STABLE", "EMPTY"):
        seen = listed(admin, states={ConsumerGroupState[state]})
        expect_equal(set(seen) & set(wanted), {name for name in wanted if wanted[name] == state}, f"list of {state}")
        expect_equal(set(seen.values()) - {state}, set(), f"other states in a list of {state}")


def describe(admin, group):
    """The description of one group."""
    return admin.describe_consumer_groups([group], request_timeout=ANSWER_SECONDS)[group].result()


def offsets(admin, group):
    """{partition: offset} of all that the group has committed for the topic."""
    asked = [ConsumerGroupTopicPartitions(group)]
    answer = admin.list_consumer_group_offsets(asked, request_timeout=ANSWER_SECONDS)[group].result()
    return {each.partition: each.offset for each in answer.topic_partitions if each.topic == TOPIC and each.offset >= 0}


def alter(admin, group, wanted):
    """Sets offsets by tool; raises what one of the partitions is answered with."""
    places = [TopicPartition(TOPIC, partition, offset) for partition, offset in wanted.items()]
    asked = [ConsumerGroupTopicPartitions(group, places)]
    answer = admin.alter_consumer_group_offsets(asked, request_timeout=ANSWER_SECONDS)[group].result()
    for each in answer.topic_partitions:
        if each.error:
            raise KafkaException(each.error)


def delete(admin, group):
    """Deletes a group."""
    admin.delete_consumer_groups([group], request_timeout=ANSWER_SECONDS)[group].result()


def delete_offsets(broker, group, partitions):
    """{partition: name of the error}; by kafka-python, since librdkafka's Python side cannot say it."""
    admin = KafkaAdminClient(bootstrap_servers=[broker.kafka])
    try:
        answer = admin.delete_group_offsets(group, [PythonTopicPartition(TOPIC, number) for number in partitions])
        return {place.partition: error.__name__ for place, error in answer.items()}
    finally:
        admin.close()


def expect_code(body, *wanted):
    """The body raises one of these errors."""
    try:
        body()
    except KafkaException as problem:
        expect(problem.args[0].code() in wanted, f"another error than {wanted}: {problem}")
        return
    raise AssertionError(f"no error where {wanted} belongs")


# Expectations.


def expect_described(admin, member):
    """State, strategy and the member with its share."""
    expect_states(admin, {GROUP: "STABLE", SIMPLE: "EMPTY", OTHER: "EMPTY"})
    seen = describe(admin, GROUP)
    expect_equal((seen.state, seen.partition_assignor), (ConsumerGroupState.STABLE, "range"), "state and strategy")
    expect_equal([each.member_id for each in seen.members], [member], "members")
    only = seen.members[0]
    expect_equal((only.client_id, only.host.lstrip("/")), ("rdkafka", "127.0.0.1"), "client and host of the member")
    share = sorted((each.topic, each.partition) for each in only.assignment.topic_partitions)
    expect_equal(share, [(TOPIC, partition) for partition in range(PARTITIONS)], "share of the member")


def expect_protected(broker, admin):
    """A group that has a member is not to be changed by others."""
    expect_code(lambda: delete(admin, GROUP), KafkaError.NON_EMPTY_GROUP)
    expect_code(lambda: alter(admin, GROUP, {0: 3}), KafkaError.UNKNOWN_MEMBER_ID)
    deleted = delete_offsets(broker, GROUP, [0, 1])
    expect_equal(set(deleted.values()), {"GroupSubscribedToTopicError"}, "errors of deleting offsets")
    expect_equal(describe(admin, GROUP).state, ConsumerGroupState.STABLE, "state afterwards")


def expect_resumed(broker):
    """The next member begins where the tool has put the group."""
    with GroupConnection(broker.host, broker.port) as connection:
        for partition in range(PARTITIONS):
            batch = batches.build([b"%d" % number for number in range(RECORDS)])
            expect_equal(connection.produce(TOPIC, partition, batch), (NONE, 0), "answer to produce")
    with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group:
        group.add("confluent-kafka")
        group.wait_until_read({partition: RECORDS - 10 - partition for partition in range(PARTITIONS)}, ANSWER_SECONDS)
        group.members[0].leave()
        seen = {partition: sorted(rows) for partition, rows in group.all_reads().items()}
        wanted = {partition: list(range(10 + partition, RECORDS)) for partition in range(PARTITIONS)}
        expect_equal(seen, wanted, "offsets read")


def expect_deleted(admin):
    """They are in no list, are described as dead, have no offsets, and cannot be deleted again."""
    for name in (GROUP, SIMPLE):
        delete(admin, name)
        expect_equal(offsets(admin, name), {}, f"offsets of {name}")
        expect_equal(describe(admin, name).state, ConsumerGroupState.DEAD, f"state of {name}")
        expect_code(lambda: delete(admin, name), KafkaError.GROUP_ID_NOT_FOUND)
    seen = listed(admin)
    expect_equal([name for name in (GROUP, SIMPLE, OTHER) if name in seen], [OTHER], "groups that are left")
    expect_equal(offsets(admin, OTHER), {2: 7}, "offsets of the group that is left")


def expect_forgotten(broker):
    """Soon after the topic; what was committed for another one stays."""
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.create_topic(SHORT_LIVED, 1), NONE, "error of create topic")
        expect_equal(connection.commit(OTHER, SHORT_LIVED, {0: 5}), {0: NONE}, "error of a commit")
        expect_equal(connection.committed(OTHER, SHORT_LIVED, [0])[0][0], 5, "committed offset")
        expect_equal(connection.delete_topic(SHORT_LIVED), NONE, "error of delete topic")
        deadline = time.monotonic() + ANSWER_SECONDS
        while connection.committed(OTHER, SHORT_LIVED, [0])[0][0] != -1:
            expect(time.monotonic() < deadline, "the offset committed for a topic that is gone stays")
            time.sleep(0.05)
        expect_equal(connection.committed(OTHER, TOPIC, [2]), {2: (7, "note")}, "committed offset of another topic")
