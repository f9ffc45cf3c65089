"""A member of a consumer group in a process of its own, so that it can be killed like one.

It reads a topic whose values are numbers, commits what it has read, and prints what happens to it as lines of JSON, each with a time of the
monotonic clock. It leaves when its standard input ends, and so does not outlive whoever started it.
"""

import argparse
import asyncio
import json
import os
import struct
import sys
import threading
import time

from aiokafka import AIOKafkaConsumer
from aiokafka import ConsumerRebalanceListener as AIORebalanceListener
from aiokafka import TopicPartition as AIOTopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor as AIORangeAssignor
from aiokafka.errors import KafkaError as AIOKafkaError
from confluent_kafka import Consumer, KafkaException, TopicPartition
from kafka import ConsumerRebalanceListener, KafkaConsumer, OffsetAndMetadata
from kafka import TopicPartition as PythonTopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError

POLL_SECONDS = 0.2
MAX_POLL_MILLIS = 60_000
HEARTBEAT_MILLIS = 1000
is_stopping = threading.Event()
said = threading.Lock()


def say(event, **rest):
    """Prints one line."""
    line = json.dumps({"event": event, "time": time.monotonic(), **rest})
    with said:
        print(line, file=sys.__stdout__, flush=True)


def say_assigned(generation, member, partitions):
    """A share has come."""
    say("assigned", generation=generation, member=member, partitions=sorted(each.partition for each in partitions))


def say_revoked(partitions):
    """A share is given back."""
    say("revoked", partitions=sorted(each.partition for each in partitions))


def say_read(rows):
    """Records have come: [partition, offset, number] of each."""
    if rows:
        say("read", rows=rows)


def next_offsets(rows):
    """Where to go on, by partition."""
    return {partition: offset + 1 for partition, offset, _ in rows}


def run_confluent(arguments):
    """By librdkafka with the classic protocol."""
    consumer = confluent_consumer(
        arguments, {
            "partition.assignment.strategy": "range", "session.timeout.ms": arguments.session,
            "heartbeat.interval.ms": HEARTBEAT_MILLIS,
        })
    consumer.subscribe(
        [arguments.topic], on_assign=lambda _, partitions: say_assigned(*confluent_identity(consumer), partitions),
        on_revoke=lambda _, partitions: say_revoked(partitions), on_lost=lambda _, partitions: say_revoked(partitions))
    read_with_confluent(consumer, arguments)


def run_confluent_consumer(arguments):
    """By librdkafka with the consumer protocol: partitions come and go one by one, and the rest stays."""
    consumer = confluent_consumer(arguments, {"group.protocol": "consumer"})
    held = set()

    def assigned(_, partitions):
        held.update(partitions)
        say_assigned(*confluent_identity(consumer), held)

    def revoked(_, partitions):
        held.difference_update(partitions)
        say_revoked(partitions)
        if held:
            say_assigned(*confluent_identity(consumer), held)

    consumer.subscribe([arguments.topic], on_assign=assigned, on_revoke=revoked, on_lost=revoked)
    read_with_confluent(consumer, arguments)


def confluent_consumer(arguments, settings):
    """librdkafka's consumer."""
    return Consumer({
        "bootstrap.servers": arguments.brokers, "group.id": arguments.group, "auto.offset.reset": "earliest",
        "enable.auto.commit": False, "max.poll.interval.ms": MAX_POLL_MILLIS, "reconnect.backoff.max.ms": 500,
        "log_level": 0, **({"group.instance.id": arguments.instance} if arguments.instance else {}), **settings,
    })


def confluent_identity(consumer):
    """Its generation and id: what a transaction would be told of the group is the name of the format, then the generation."""
    metadata = consumer.consumer_group_metadata()
    return struct.unpack_from("=i", metadata, len("CGMDv2:"))[0], consumer.memberid()


def read_with_confluent(consumer, arguments):
    """Reads and commits until told to stop."""
    while not is_stopping.is_set():
        records = consumer.consume(1000, POLL_SECONDS)
        for record in records:
            if record.error():
                say("trouble", problem=str(record.error()))
        rows = [[each.partition(), each.offset(), int(each.value())] for each in records if not each.error()]
        say_read(rows)
        if rows:
            offsets = next_offsets(rows)
            try:
                wanted = [TopicPartition(arguments.topic, *each) for each in offsets.items()]
                for each in consumer.commit(offsets=wanted, asynchronous=False):
                    if each.error:
                        raise KafkaException(each.error)
                say("committed", offsets=list(offsets.items()))
            except KafkaException as problem:
                say("refused", problem=str(problem))
    consumer.close()


def run_python(arguments):
    """By kafka-python."""
    consumer = KafkaConsumer(
        bootstrap_servers=arguments.brokers.split(","), group_id=arguments.group, auto_offset_reset="earliest",
        enable_auto_commit=False, partition_assignment_strategy=[RangePartitionAssignor],
        max_poll_interval_ms=MAX_POLL_MILLIS, session_timeout_ms=arguments.session,
        heartbeat_interval_ms=HEARTBEAT_MILLIS, reconnect_backoff_max_ms=500, group_instance_id=arguments.instance)

    class Listener(ConsumerRebalanceListener):
        """Says what it hears."""

        def on_partitions_assigned(self, assigned):
            metadata = consumer.group_metadata()
            say_assigned(metadata.generation_id, metadata.member_id, assigned)

        def on_partitions_revoked(self, revoked):
            say_revoked(revoked)

    consumer.subscribe([arguments.topic], listener=Listener())
    while not is_stopping.is_set():
        try:
            found = consumer.poll(int(POLL_SECONDS * 1000))
        except KafkaError as problem:
            # It passes on what it meets while the broker is down.
            say("trouble", problem=repr(problem))
            found = {}
            time.sleep(POLL_SECONDS)
        rows = [[each.partition, each.offset, int(each.value)] for records in found.values() for each in records]
        say_read(rows)
        if rows:
            offsets = next_offsets(rows)
            try:
                consumer.commit({
                    PythonTopicPartition(arguments.topic, partition): OffsetAndMetadata(offset, "", -1)
                    for partition, offset in offsets.items()
                })
                say("committed", offsets=list(offsets.items()))
            except KafkaError as problem:
                say("refused", problem=repr(problem))
    consumer.close()


def run_aio(arguments):
    """By aiokafka."""

    async def work():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=arguments.brokers, group_id=arguments.group, auto_offset_reset="earliest",
            enable_auto_commit=False, partition_assignment_strategy=[AIORangeAssignor],
            max_poll_interval_ms=MAX_POLL_MILLIS, session_timeout_ms=arguments.session,
            heartbeat_interval_ms=HEARTBEAT_MILLIS, group_instance_id=arguments.instance)

        class Listener(AIORebalanceListener):
            """Says what it hears."""

            def on_partitions_assigned(self, assigned):
                # It has no other way to learn the generation.
                say_assigned(consumer._coordinator.generation, consumer._coordinator.member_id, assigned)

            def on_partitions_revoked(self, revoked):
                say_revoked(revoked)

        consumer.subscribe([arguments.topic], listener=Listener())
        await consumer.start()
        while not is_stopping.is_set():
            found = await consumer.getmany(timeout_ms=int(POLL_SECONDS * 1000))
            rows = [[each.partition, each.offset, int(each.value)] for records in found.values() for each in records]
            say_read(rows)
            if rows:
                offsets = next_offsets(rows)
                try:
                    await consumer.commit(
                        {AIOTopicPartition(arguments.topic, partition): offset for partition, offset in offsets.items()})
                    say("committed", offsets=list(offsets.items()))
                except AIOKafkaError as problem:
                    say("refused", problem=repr(problem))
        await consumer.stop()

    asyncio.run(work())


KINDS = {
    "confluent-kafka": run_confluent, "confluent-kafka consumer": run_confluent_consumer, "kafka-python": run_python, "aiokafka": run_aio,
}


def stop_at_end_of_input():
    """Whoever started this process holds its input open as long as the member shall stay."""
    os.read(0, 1)
    is_stopping.set()


def main():
    """Reads the command line and is a member until told otherwise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--brokers", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--session", type=int, required=True, help="milliseconds of silence before it is given up")
    parser.add_argument("--instance", help="its static name")
    arguments = parser.parse_args()
    threading.Thread(target=stop_at_end_of_input, daemon=True).start()
    KINDS[arguments.kind](arguments)
    say("left")


if __name__ == "__main__":
    main()
