"""A small check that a broker serves: one record there and back over bare sockets."""

from . import batches
from .report import expect, expect_equal
from .wire import Connection

TOPIC = "still-serving"


def serves(broker):
    """Fails unless the broker takes a record and gives it back."""
    expect(broker.is_running(), f"the broker has ended: {broker.log_tail()}")
    with Connection(broker.host, broker.port) as connection:
        connection.create_topic(TOPIC, 1)
        value = b"value that comes back"
        error, offset = connection.produce(TOPIC, 0, batches.build([value]))
        expect_equal(error, 0, "error of a plain produce")
        error, _, data = connection.fetch(TOPIC, 0, offset)
        expect_equal(error, 0, "error of a plain fetch")
        expect(value in data, "the record did not come back")


def read_all(connection, topic, partition, start=0):
    """Every batch of a partition from `start` to its end, as (header, bytes)."""
    offset, end = start, connection.list_offset(topic, partition, -1)[2]
    found = []
    while offset < end:
        error, _, data = connection.fetch(topic, partition, offset, max_bytes=8 << 20)
        expect_equal(error, 0, f"error of a fetch at {offset}")
        before = offset
        for header, batch in batches.headers(data):
            expect_equal(batches.crc32c(batch[21:]), header.checksum, f"checksum at {header.base_offset}")
            found.append((header, batch))
            offset = header.base_offset + header.last_offset_delta + 1
        expect(offset > before, f"no batch at {before} of {end}")
    return found
