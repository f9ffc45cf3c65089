"""aiokafka: pure Python over asyncio, with old versions of every API."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ..workload import Message


class Peer:
    """Every operation of the exercise, by aiokafka, each in a loop of its own."""

    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    reads_lz4 = True
    has_headers = True
    has_null_values = True
    sets_timestamps = True

    def __init__(self, address):
        self.address = address

    def close(self):
        """Nothing to do: every operation closes what it opened."""

    def with_admin(self, operation):
        async def run():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.address)
            await admin.start()
            try:
                return await operation(admin)
            finally:
                await admin.close()

        return asyncio.run(run())

    def with_consumer(self, operation):
        async def run():
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.address, enable_auto_commit=False, auto_offset_reset="none")
            await consumer.start()
            try:
                return await operation(consumer)
            finally:
                await consumer.stop()

        return asyncio.run(run())

    def create_topic(self, topic, partitions):
        answer = self.with_admin(lambda admin: admin.create_topics([NewTopic(topic, partitions, 1)]))
        refuse_errors([error for _, error, *_ in answer.topic_errors])

    def delete_topic(self, topic):
        answer = self.with_admin(lambda admin: admin.delete_topics([topic]))
        refuse_errors([error for _, error, *_ in answer.topic_error_codes])

    def produce(self, topic, messages, codec, acks, wait_for_arrival):
        async def run():
            producer = AIOKafkaProducer(
                bootstrap_servers=self.address, compression_type=None if codec == "none" else codec,
                acks="all" if acks == "all" else int(acks), enable_idempotence=acks == "all", linger_ms=20)
            await producer.start()
            futures = [
                await producer.send(
                    topic, message.value, message.key, message.partition, message.timestamp, list(message.headers))
                for message in messages
            ]
            await producer.flush()
            await asyncio.gather(*futures)
            if acks == "0":
                # What the loop still has in its buffer is lost with it.
                await asyncio.to_thread(wait_for_arrival, len(messages))
            await producer.stop()

        asyncio.run(run())

    def consume(self, topic, partitions, count):
        async def read(consumer):
            assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
            consumer.assign(assigned)
            await consumer.seek_to_beginning(*assigned)
            received = []
            deadline = time.monotonic() + 60
            while len(received) < count and time.monotonic() < deadline:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    received += [
                        Message(record.partition, record.key, record.value, tuple(record.headers), record.timestamp)
                        for record in records
                    ]
            return received

        return self.with_consumer(read)

    def offsets_for_time(self, topic, times):
        asked = {TopicPartition(topic, partition): time for partition, time in times.items()}

        async def look_up(consumer):
            return await consumer.offsets_for_times(asked)

        found = self.with_consumer(look_up)
        return {each.partition: result.offset if result else -1 for each, result in found.items()}

    def delete_records(self, topic, offsets):
        asked = {TopicPartition(topic, each): RecordsToDelete(offset) for each, offset in offsets.items()}
        found = self.with_admin(lambda admin: admin.delete_records(asked))
        return {each.partition: low for each, low in found.items()}

    def alter_config(self, topic, name, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        answers = self.with_admin(lambda admin: admin.alter_configs([resource]))
        refuse_errors([each[0] for answer in answers for each in answer.resources])

    def read_config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {name: None})
        answer = self.with_admin(lambda admin: admin.describe_configs([resource]))[0]
        for error, _, _, _, entries in answer.resources:
            refuse_errors([error])
            return {entry[0]: entry[1] for entry in entries}[name]


def refuse_errors(codes):
    """Raises where one of the codes is an error."""
    if any(codes):
        raise RuntimeError(f"the broker answered error {codes}")
