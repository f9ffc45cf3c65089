"""The exercise that every client does; a process of its own, since a client library may end its process.

It prints a line of JSON for each check: group, name, passed, seconds, problem.
"""

import argparse
import contextlib
import io
import json
import sys
import time

from . import batches, peers
from .report import Report, expect, expect_equal
from .wire import UNKNOWN_TOPIC_OR_PARTITION, Connection
from .workload import PARTITIONS, by_partition, messages

ACKS = ("0", "1", "all")


class JSONReport(Report):
    """Writes each check as a line of JSON for the runner."""

    def add(self, group, name, is_passed, seconds, problem):
        self.rows.append((group, name, is_passed, seconds, problem))
        print(json.dumps([group, name, is_passed, seconds, problem]), file=self.stream, flush=True)


class Exercise:
    """One client, one broker, one topic for each codec and kind of acknowledgement."""

    def __init__(self, name, address, count, report):
        self.name = name
        self.host, port = address.rsplit(":", 1)
        self.port = int(port)
        self.peer = peers.load(name)(address)
        self.count = count
        self.report = report
        self.prefix = name.replace(" ", "-")

    def run(self):
        """Does everything, in the order in which a user would."""
        for codec in self.peer.codecs:
            for number, acks in enumerate(ACKS):
                self.write_and_read(codec, acks, seed=17 * number + batches.CODECS.index(codec))
        self.peer.close()

    def topic(self, codec, acks):
        """The topic of a codec and a kind of acknowledgement."""
        return f"{self.prefix}-{codec}-{acks}"

    def workload(self, seed):
        """The messages, as far as this client can say them."""
        made = messages(self.count, seed, self.peer.has_headers, self.peer.has_null_values)
        adapt = getattr(self.peer, "adapt", None)
        return adapt(made) if adapt else made

    def write_and_read(self, codec, acks, seed):
        """One topic from its creation to its deletion."""
        topic = self.topic(codec, acks)
        label = f"{codec}, acks {acks}"
        sent = self.workload(seed)
        check = lambda name: self.report.check(self.name, f"{label}: {name}")
        with check("create a topic"):
            self.peer.create_topic(topic, PARTITIONS)
            self.expect_partitions(topic)
        with check(f"produce {len(sent)} records"):
            self.peer.produce(topic, sent, codec, acks, lambda count: self.wait_for_arrival(topic, count))
        received = []
        with check("read them back byte for byte"):
            received = self.peer.consume(topic, PARTITIONS, len(sent))
            self.expect_same(topic, sent, received)
        with check("codec bits as stored and as sent to an unknown client"):
            self.expect_codecs(topic, codec)
        with check("offsets by time"):
            self.expect_offsets_by_time(topic, received)
        with check("delete records"):
            self.expect_deletion(topic, sent)
        with check("alter a setting"):
            self.peer.alter_config(topic, "retention.ms", "123456789")
            expect_equal(self.peer.read_config(topic, "retention.ms"), "123456789", "retention.ms")
        with check("delete the topic"):
            self.peer.delete_topic(topic)
            self.expect_gone(topic)

    def connection(self, software=None):
        """A connection over bare sockets, to see what clients hide."""
        return Connection(self.host, self.port, software)

    def expect_partitions(self, topic):
        """The topic has its partitions, each with a leader."""
        with self.connection() as connection:
            error, partitions = connection.metadata([topic])[topic]
        expect_equal(error, 0, "error of the topic")
        expect_equal(sorted(partitions), list(range(PARTITIONS)), "partitions")
        expect(all(leader >= 0 for _, leader in partitions.values()), f"no leader somewhere in {partitions}")

    def wait_for_arrival(self, topic, count):
        """Waits until the topic has `count` records: without acknowledgements a client is done before the broker is."""
        deadline = time.monotonic() + 30
        with self.connection() as connection:
            while True:
                arrived = sum(connection.list_offset(topic, partition, -1)[2] for partition in range(PARTITIONS))
                if arrived >= count:
                    return
                expect(time.monotonic() < deadline, f"{arrived} of {count} records have arrived")
                time.sleep(0.02)

    def expect_same(self, topic, sent, received):
        """Each partition holds what was sent to it: all of it, once, in order, unchanged."""
        wanted = by_partition(sent)
        seen = by_partition(received)
        for partition in range(PARTITIONS):
            expect_equal(len(seen[partition]), len(wanted[partition]), f"records in partition {partition}")
            for offset, (left, right) in enumerate(zip(seen[partition], wanted[partition])):
                where = f"partition {partition} offset {offset}"
                expect_equal(left.key, right.key, f"key at {where}")
                expect_equal(left.value, right.value, f"value at {where}")
                expect_equal(left.headers, right.headers, f"headers at {where}")
                if self.peer.sets_timestamps:
                    expect_equal(left.timestamp, right.timestamp, f"timestamp at {where}")
        with self.connection() as connection:
            for partition in range(PARTITIONS):
                end = connection.list_offset(topic, partition, -1)
                expect_equal(end, (0, -1, len(wanted[partition])), f"end of partition {partition}")

    def expect_codecs(self, topic, codec):
        """What a client compressed stays so; what came plain is lz4 for those who read it and plain for the others."""
        compressed = codec if codec != "none" else "lz4"
        stored = self.bytes_by_codec(topic, software="librdkafka")
        others = set(stored) - {"none", compressed}
        expect(not others, f"codecs {others} in a topic of {codec}: {stored}")
        share = stored.get(compressed, 0) / sum(stored.values())
        expect(share > 0.5, f"only {share:.0%} of the stored bytes are {compressed}: {stored}")
        sent = self.bytes_by_codec(topic, software=None)
        expect(set(sent) <= {"none", codec}, f"an unknown client is sent {sent} of a topic of {codec}")
        if codec != "none":
            expect_equal(sent, stored, "bytes by codec for an unknown client")

    def bytes_by_codec(self, topic, software):
        """How many bytes the batches of each codec have, as this client library is sent them."""
        sizes = {}
        with self.connection(software) as connection:
            for partition in range(PARTITIONS):
                offset, end = 0, connection.list_offset(topic, partition, -1)[2]
                while offset < end:
                    error, _, data = connection.fetch(topic, partition, offset, max_bytes=4 << 20)
                    expect_equal(error, 0, f"fetch of partition {partition} at {offset}")
                    before = offset
                    for header, batch in batches.headers(data):
                        expect_equal(batches.crc32c(batch[21:]), header.checksum, f"checksum at {header.base_offset}")
                        sizes[header.codec] = sizes.get(header.codec, 0) + len(batch)
                        offset = header.base_offset + header.last_offset_delta + 1
                    expect(offset > before, f"no batch at {before} of {end} in partition {partition}")
        return sizes

    def expect_offsets_by_time(self, topic, received):
        """A time finds the first record at or after it, the time of a record itself, and nothing after the last."""
        for partition, records in by_partition(received).items():
            expect(records, f"nothing was read from partition {partition}")
            middle = len(records) // 2
            for time, wanted in (
                (records[0].timestamp - 1000, 0),
                (records[middle].timestamp, first_at(records, records[middle].timestamp)),
                (records[-1].timestamp + 1000, -1),
            ):
                seen = self.peer.offsets_for_time(topic, {partition: time})[partition]
                if wanted < 0 and seen == len(records):
                    continue  # librdkafka turns "none" into the end
                expect_equal(seen, wanted, f"offset for {time} in partition {partition}")

    def expect_deletion(self, topic, sent):
        """The start moves, records before it are gone, and those after it are still the same."""
        wanted = by_partition(sent)
        offsets = {partition: len(wanted[partition]) // 2 for partition in range(PARTITIONS)}
        expect_equal(self.peer.delete_records(topic, offsets), offsets, "low watermarks")
        with self.connection() as connection:
            for partition, offset in offsets.items():
                expect_equal(connection.list_offset(topic, partition, -2), (0, -1, offset), "start offset")
                expect_equal(connection.fetch(topic, partition, 0)[0], 1, "error of a fetch below the start")
        rest = [message for partition in offsets for message in wanted[partition][offsets[partition]:]]
        left = by_partition(self.peer.consume(topic, PARTITIONS, len(rest)))
        for partition, offset in offsets.items():
            values = [message.value for message in wanted[partition][offset:]]
            expect([each.value for each in left[partition]] == values, f"partition {partition} differs after deletion")

    def expect_gone(self, topic):
        """Nobody sees the topic any more."""
        with self.connection() as connection:
            expect_equal(connection.metadata([topic])[topic][0], UNKNOWN_TOPIC_OR_PARTITION, "error of the topic")


def first_at(records, time):
    """The offset of the first record at or after a time."""
    return next(offset for offset, record in enumerate(records) if record.timestamp >= time)


def main():
    """Runs the exercise of one client and prints its checks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=peers.PEERS)
    parser.add_argument("--broker", required=True)
    parser.add_argument("--records", type=int, required=True)
    arguments = parser.parse_args()
    out = sys.stdout
    with contextlib.redirect_stdout(io.StringIO()):  # a library's chatter must not reach the runner
        Exercise(arguments.name, arguments.broker, arguments.records, JSONReport(out)).run()


if __name__ == "__main__":
    main()
