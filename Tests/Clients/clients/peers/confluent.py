"""confluent-kafka: Python over librdkafka."""

import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from ..workload import Message


class Peer:
    """Every operation of the exercise, by confluent-kafka."""

    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    reads_lz4 = True
    has_headers = True
    has_null_values = True
    sets_timestamps = True

    def __init__(self, address):
        self.common = {"bootstrap.servers": address, "socket.timeout.ms": 20000}
        self.admin = AdminClient(self.common)

    def close(self):
        """Nothing to do: the clients go with the process."""

    def create_topic(self, topic, partitions):
        for future in self.admin.create_topics([NewTopic(topic, partitions, 1)], operation_timeout=20).values():
            future.result(20)

    def delete_topic(self, topic):
        for future in self.admin.delete_topics([topic], operation_timeout=20).values():
            future.result(20)

    def produce(self, topic, messages, codec, acks, wait_for_arrival):
        failures = []
        producer = Producer({
            **self.common, "compression.type": codec, "acks": acks, "linger.ms": 20, "message.max.bytes": 1_048_000,
            "queue.buffering.max.kbytes": 65536, "message.timeout.ms": 60000,
        })

        def delivered(error, _):
            if error:
                failures.append(error)

        for message in messages:
            while True:
                try:
                    producer.produce(
                        topic, message.value, message.key, message.partition, timestamp=message.timestamp,
                        headers=list(message.headers) or None, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        left = producer.flush(60)
        if left or failures:
            raise KafkaException(f"{left} not sent, {len(failures)} failed: {failures[:1]}")
        if acks == "0":
            wait_for_arrival(len(messages))

    def consumer(self):
        return Consumer({
            **self.common, "group.id": "exercise", "enable.auto.commit": False, "check.crcs": True,
            "auto.offset.reset": "error",
        })

    def consume(self, topic, partitions, count):
        consumer = self.consumer()
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(partitions)])
        received = []
        deadline = time.monotonic() + 60
        while len(received) < count and time.monotonic() < deadline:
            for record in consumer.consume(min(1000, count - len(received)), 1.0):
                if record.error():
                    raise KafkaException(record.error())
                received.append(Message(
                    record.partition(), record.key(), record.value(), tuple(record.headers() or ()),
                    record.timestamp()[1]))
        consumer.close()
        return received

    def offsets_for_time(self, topic, times):
        consumer = self.consumer()
        asked = [TopicPartition(topic, partition, time) for partition, time in times.items()]
        found = consumer.offsets_for_times(asked, timeout=20)
        consumer.close()
        return {each.partition: each.offset for each in found}

    def delete_records(self, topic, offsets):
        asked = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        futures = self.admin.delete_records(asked, operation_timeout=20)
        return {each.partition: future.result(20).low_watermark for each, future in futures.items()}

    def alter_config(self, topic, name, value):
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        for future in self.admin.incremental_alter_configs([resource]).values():
            future.result(20)

    def read_config(self, topic, name):
        for future in self.admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values():
            return future.result(20)[name].value
