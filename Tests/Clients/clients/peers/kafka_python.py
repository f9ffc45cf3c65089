"""kafka-python: pure Python. Which codecs it can use depends on the libraries beside it."""

import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.codec import has_lz4, has_snappy, has_zstd

from ..workload import Message


class Peer:
    """Every operation of the exercise, by kafka-python."""

    codecs = ("none", "gzip") + tuple(
        name for name, is_there in (("snappy", has_snappy()), ("lz4", has_lz4()), ("zstd", has_zstd())) if is_there)
    reads_lz4 = has_lz4()
    has_headers = True
    has_null_values = True
    sets_timestamps = True

    def __init__(self, address):
        self.address = address
        self.admin = KafkaAdminClient(bootstrap_servers=address)

    def close(self):
        self.admin.close()

    def create_topic(self, topic, partitions):
        self.admin.create_topics({topic: {"num_partitions": partitions, "replication_factor": 1}})

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])

    def produce(self, topic, messages, codec, acks, wait_for_arrival):
        producer = KafkaProducer(
            bootstrap_servers=self.address, compression_type=None if codec == "none" else codec,
            acks="all" if acks == "all" else int(acks), enable_idempotence=acks == "all", linger_ms=20)
        futures = [
            producer.send(
                topic, message.value, message.key, list(message.headers), message.partition, message.timestamp)
            for message in messages
        ]
        producer.flush(60)
        for future in futures:
            future.get(60)
        if acks == "0":
            wait_for_arrival(len(messages))  # what it still has in its own buffer is lost at close
        producer.close()

    def consumer(self):
        return KafkaConsumer(bootstrap_servers=self.address, enable_auto_commit=False, auto_offset_reset="none")

    def consume(self, topic, partitions, count):
        consumer = self.consumer()
        assigned = [TopicPartition(topic, partition) for partition in range(partitions)]
        consumer.assign(assigned)
        consumer.seek_to_beginning(*assigned)
        received = []
        deadline = time.monotonic() + 60
        while len(received) < count and time.monotonic() < deadline:
            for records in consumer.poll(500).values():
                received += [
                    Message(record.partition, record.key, record.value, tuple(record.headers), record.timestamp)
                    for record in records
                ]
        consumer.close()
        return received

    def offsets_for_time(self, topic, times):
        consumer = self.consumer()
        found = consumer.offsets_for_times({TopicPartition(topic, each): time for each, time in times.items()})
        consumer.close()
        return {each.partition: result.offset if result else -1 for each, result in found.items()}

    def delete_records(self, topic, offsets):
        asked = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
        results = self.admin.delete_records(asked)
        return {each.partition: result["low_watermark"] for each, result in results.items()}

    def alter_config(self, topic, name, value):
        self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})])

    def read_config(self, topic, name):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, [name])
        answer = self.admin.describe_configs([resource], config_filter="all")
        return answer["topic"][topic][name]["value"]
