"""kcat: the tool over Debian's librdkafka 2.0.2. It has no admin calls, so those go over bare sockets."""

import os
import re
import subprocess
import tempfile
from itertools import groupby

from ..wire import Connection
from ..workload import Message

HEADERS = (("tool", b"kcat"), ("empty", b""))


class Peer:
    """Every operation of the exercise, by kcat as far as it can."""

    codecs = ("none", "gzip", "snappy", "lz4", "zstd")
    reads_lz4 = True
    has_headers = False
    has_null_values = True
    sets_timestamps = False

    def __init__(self, address):
        self.address = address
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)

    def close(self):
        """Nothing to do: every operation is a process of its own."""

    def run(self, *arguments, input=b""):
        result = subprocess.run(
            ["kcat", "-b", self.address, "-q", *arguments], input=input, capture_output=True, timeout=90)
        if result.returncode != 0:
            raise RuntimeError(f"kcat {' '.join(arguments)}: {result.stderr.decode('utf-8', 'replace')[-500:]}")
        return result.stdout

    def connection(self):
        return Connection(self.host, self.port)

    def create_topic(self, topic, partitions):
        with self.connection() as connection:
            refuse(connection.create_topic(topic, partitions))

    def delete_topic(self, topic):
        with self.connection() as connection:
            refuse(connection.delete_topic(topic))

    def produce(self, topic, messages, codec, acks, wait_for_arrival):
        """Runs kcat once for each run of messages of one partition and one way of telling kcat about them."""
        common = [
            "-P", "-t", topic, "-z", codec, "-X", f"acks={acks}", "-X", "message.max.bytes=1048000", "-X", "linger.ms=5",
        ]
        sent = 0
        for (partition, way), group in groupby(messages, key=lambda each: (each.partition, way_of(each))):
            values = list(group)
            arguments = [*common, "-p", str(partition)]
            for name, value in values[0].headers:
                arguments += ["-H", f"{name}={value.decode()}"]
            if way == "file":
                self.produce_files(arguments, values)
            else:
                keyed = way == "keyed"
                lines = (b"%s\x01%s" % (each.key, each.value or b"") if keyed else each.value for each in values)
                arguments += ["-Z", "-K", "\x01"] if keyed else []
                self.run(*arguments, input=b"".join(line + b"\n" for line in lines))
            sent += len(values)
            if acks == "0":
                wait_for_arrival(sent)  # the next run's connection could overtake this one's

    def produce_files(self, arguments, messages):
        """Sends each value as a file, in one run."""
        with tempfile.TemporaryDirectory() as directory:
            paths = []
            for index, message in enumerate(messages):
                paths.append(os.path.join(directory, f"{index}"))
                with open(paths[-1], "wb") as file:
                    file.write(message.value)
            self.run(*arguments, *paths)

    def adapt(self, messages):
        """What of the common workload kcat can say: lines, one set of headers for all, partitions in runs."""
        adapted = []
        for message in messages:
            value, key = message.value, message.key
            if value is not None and len(value) < 100_000:
                value = value.replace(b"\n", b" ").replace(b"\x01", b" ")
                value = value or None
            if value is None and key is None:
                value = b"x"
            if value is not None and len(value) >= 100_000:
                key = None
            adapted.append(Message(message.partition, key, value, HEADERS))
        return sorted(adapted, key=lambda each: (each.partition, way_of(each)))

    def consume(self, topic, partitions, count):
        layout = "%p %T %K %S %h\\n%k%s\\n"
        data = self.run("-C", "-t", topic, "-o", "beginning", "-c", str(count), "-f", layout)
        received = []
        position = 0
        while position < len(data):
            end = data.index(b"\n", position)
            line = data[position:end].decode()
            partition, time, key_size, value_size, headers = re.match(r"(\d+) (\d+) (-?\d+) (-?\d+) (.*)", line).groups()
            position = end + 1
            key, position = piece(data, position, int(key_size))
            value, position = piece(data, position, int(value_size))
            position += 1
            pairs = tuple(
                (name, text.encode()) for name, _, text in (pair.partition("=") for pair in headers.split(",") if pair))
            received.append(Message(int(partition), key, value, pairs, int(time)))
        return received

    def offsets_for_time(self, topic, times):
        found = {}
        for partition, time in times.items():
            output = self.run("-Q", "-t", f"{topic}:{partition}:{time}").decode()
            found[partition] = int(re.search(r"offset (-?\d+)", output)[1])
        return found

    def delete_records(self, topic, offsets):
        with self.connection() as connection:
            answer = connection.delete_records(topic, offsets)
        for _, error in answer.values():
            refuse(error)
        return {partition: low for partition, (low, _) in answer.items()}

    def alter_config(self, topic, name, value):
        with self.connection() as connection:
            refuse(connection.alter_topic_config(topic, name, value))

    def read_config(self, topic, name):
        with self.connection() as connection:
            return connection.topic_config(topic, name)


def way_of(message):
    """How kcat can be told about a message: a file as one value, lines with keys, or lines without."""
    if message.value is not None and len(message.value) >= 100_000:
        return "file"
    return "plain" if message.key is None else "keyed"


def piece(data, position, size):
    """The bytes of a key or value of that size, -1 being null, and where the next begins."""
    if size < 0:
        return None, position
    return data[position:position + size], position + size


def refuse(error):
    """Raises where a code is an error."""
    if error:
        raise RuntimeError(f"the broker answered error {error}")
