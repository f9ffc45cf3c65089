"""Idempotent producers with acks=all that note every answer, and consumers that read along."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from .history import Reading, number_in, number_of, value_of
from .report import expect

# One producer leaves compression to the broker, the others bring their own.
COMPRESSIONS = ("none", "lz4", "zstd")
READERS = 2
QUIET = {"log_level": 0}
# Longer than any run: a record that is not delivered at the end is a finding, not a timeout.
MESSAGE_TIMEOUT_MILLIS = 3_600_000
# What a reader may be told in passing while brokers come and go.
PASSING = {
    KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._TIMED_OUT,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._PARTITION_EOF,
    KafkaError.BROKER_NOT_AVAILABLE, KafkaError.REQUEST_TIMED_OUT, KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.KAFKA_STORAGE_ERROR, KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NETWORK_EXCEPTION, KafkaError.REPLICA_NOT_AVAILABLE,
}


class Progress:
    """When each place was last acknowledged something, and its longest silence so far."""

    def __init__(self, places):
        self.lock = threading.Lock()
        self.last = dict.fromkeys(places)
        self.longest = dict.fromkeys(places, 0.0)

    def begin(self):
        """Forgets the warm-up."""
        with self.lock:
            now = time.monotonic()
            self.last = dict.fromkeys(self.last, now)
            self.longest = dict.fromkeys(self.longest, 0.0)

    def note(self, place):
        """An acknowledgement came."""
        now = time.monotonic()
        with self.lock:
            if self.last[place] is not None:
                self.longest[place] = max(self.longest[place], now - self.last[place])
            self.last[place] = now

    def is_warm(self):
        """Whether every place was acknowledged something."""
        with self.lock:
            return all(last is not None for last in self.last.values())

    def longest_silence(self):
        """The longest time in which some place was acknowledged nothing, the present one included, and that place."""
        now = time.monotonic()
        with self.lock:
            silences = {place: max(self.longest[place], now - (self.last[place] or now)) for place in self.last}
        place = max(silences, key=silences.get)
        return silences[place], place


class Workload:
    """Clients in threads of this process. The history belongs to the caller; read it when the clients have stopped."""

    def __init__(self, addresses, history, rate, settings=None):
        self.addresses = ",".join(addresses)
        self.history = history
        self.rate = rate
        self.settings = settings or {}
        self.progress = Progress(history.places)
        self.is_stopping = threading.Event()
        self.is_reading = threading.Event()
        self.is_reading.set()
        self.left = {}
        self.threads = []
        self.positions = {}
        self.flush_seconds = 0

    def start(self):
        """Starts producers and readers."""
        for index in range(len(COMPRESSIONS)):
            self.threads.append(threading.Thread(target=self.produce, args=(index,), daemon=True))
        for index in range(READERS):
            reading = Reading(f"reader {index + 1}")
            self.history.readings.append(reading)
            self.positions[reading.name] = dict.fromkeys(self.history.places, 0)
            self.threads.append(threading.Thread(target=self.read_along, args=(reading,), daemon=True))
        for thread in self.threads:
            thread.start()

    # Producers

    def produce(self, producer):
        """Sends at an even rate until told to stop, and then waits for the answers."""
        library = Producer({
            "bootstrap.servers": self.addresses, "enable.idempotence": True, "acks": "all", "linger.ms": 5,
            "compression.type": COMPRESSIONS[producer], "message.timeout.ms": MESSAGE_TIMEOUT_MILLIS,
            "reconnect.backoff.max.ms": 500, "retry.backoff.max.ms": 200, "socket.timeout.ms": 5000,
            "topic.metadata.refresh.fast.interval.ms": 50, "socket.connection.setup.timeout.ms": 3000,
            **QUIET, **self.settings,
        })
        history, rate = self.history, self.rate / len(COMPRESSIONS)
        history.sent[producer] = 0
        begin = time.monotonic()
        allowance = 0.0
        while not self.is_stopping.is_set():
            now = time.monotonic()
            # What an outage held up is not sent in one heap afterwards: the rate is that of an honest client.
            allowance = min(allowance + (now - begin) * rate, rate)
            begin = now
            while allowance >= 1:
                number = number_of(producer, history.sent[producer])
                topic, partition = history.place_of(number)
                try:
                    library.produce(
                        topic, value_of(number), None, partition,
                        on_delivery=lambda error, record, number=number: self.delivered(number, error, record))
                except BufferError:
                    break
                history.sent[producer] += 1
                allowance -= 1
            library.poll(0.01)
        self.left[producer] = library.flush(self.flush_seconds)

    def delivered(self, number, error, record):
        """Notes an answer."""
        if error:
            self.history.failed[number] = str(error)
            return
        place = record.topic(), record.partition()
        self.history.acknowledged[number] = place, record.offset()
        self.progress.note(place)

    def wait_until_warm(self, seconds):
        """Waits until every partition acknowledged something."""
        deadline = time.monotonic() + seconds
        while not self.progress.is_warm():
            expect(time.monotonic() < deadline, f"no acknowledgement of every partition within {seconds} s")
            time.sleep(0.05)

    def stop_producing(self, seconds):
        """Ends the producers; returns how many records stayed without an answer."""
        self.flush_seconds = seconds
        self.is_stopping.set()
        for thread in self.threads[:len(COMPRESSIONS)]:
            thread.join()
        return sum(self.left.values())

    # Readers

    def consumer(self, name, offset):
        """A consumer that reads all places from an offset, and is told rather than moved when its offset is gone."""
        consumer = Consumer({
            "bootstrap.servers": self.addresses, "group.id": name, "enable.auto.commit": False, "check.crcs": True,
            "auto.offset.reset": "error", "enable.partition.eof": True, "reconnect.backoff.max.ms": 500,
            "fetch.wait.max.ms": 200, "socket.timeout.ms": 5000, "topic.metadata.refresh.fast.interval.ms": 50,
            "socket.connection.setup.timeout.ms": 3000, **QUIET,
        })
        consumer.assign([TopicPartition(topic, partition, offset) for topic, partition in self.history.places])
        return consumer

    def read_along(self, reading):
        """Reads what is committed, as long as the run lasts."""
        consumer = self.consumer(reading.name.replace(" ", "-"), 0)
        positions = self.positions[reading.name]
        while self.is_reading.is_set():
            for record in consumer.consume(2000, 0.2):
                error = record.error()
                place = record.topic(), record.partition()
                if not error:
                    reading.records.append((place, record.offset(), number_in(record.value())))
                    positions[place] = record.offset() + 1
                elif error.code() not in PASSING:
                    reading.problems.append(f"{place}: {error}")
        consumer.close()

    def wait_for_readers(self, seconds):
        """Waits until every reader has read all that was acknowledged; returns what is missing."""
        ends = dict.fromkeys(self.history.places, 0)
        for place, offset in self.history.acknowledged.values():
            ends[place] = max(ends[place], offset + 1)
        deadline = time.monotonic() + seconds
        while True:
            missing = [
                f"{name} is at {positions[place]} of {end} in {place}"
                for name, positions in self.positions.items() for place, end in ends.items() if positions[place] < end]
            if not missing or time.monotonic() > deadline:
                return missing
            time.sleep(0.1)

    def stop_reading(self):
        """Ends the readers."""
        self.is_reading.clear()
        for thread in self.threads[len(COMPRESSIONS):]:
            thread.join()

    def abandon(self):
        """Ends everything without waiting for answers."""
        self.stop_producing(0)
        self.stop_reading()

    def read_all(self, seconds):
        """Reads every place from its start to its end into the history."""
        consumer = self.consumer("in-the-end", 0)
        final = {place: [] for place in self.history.places}
        at_end = set()
        deadline = time.monotonic() + seconds
        try:
            while len(at_end) < len(final):
                expect(time.monotonic() < deadline, f"no end of {set(final) - at_end} within {seconds} s")
                for record in consumer.consume(5000, 0.2):
                    place = record.topic(), record.partition()
                    if not record.error():
                        final[place].append((record.offset(), number_in(record.value())))
                    elif record.error().code() == KafkaError._PARTITION_EOF:
                        at_end.add(place)
                    else:
                        expect(record.error().code() in PASSING, f"{place}: {record.error()}")
        finally:
            consumer.close()
        self.history.final = final
