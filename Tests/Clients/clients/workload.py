"""The records that every client sends and must get back, byte for byte."""

import hashlib
import random
import time
from dataclasses import dataclass

PARTITIONS = 3
LARGE_BYTES = 1_000_000
LARGE_COUNT = 10


@dataclass(frozen=True)
class Message:
    """A record as a client sends or receives it."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple = ()
    timestamp: int = 0


def text(random_source, count):
    """About `count` bytes that look like JSON lines and compress like them; no line break in them."""
    words = ("order", "customer", "amount", "currency", "EUR", "created", "shipped", "warehouse", "Zürich", "note")
    parts = []
    size = 0
    while size < count:
        part = f'{{"{random_source.choice(words)}":{random_source.randrange(10**9)}}},'
        parts.append(part)
        size += len(part)
    return "".join(parts).encode()[:count]


def large_values(seed):
    """Ten values of almost a megabyte, of which half can hardly be compressed at all."""
    source = random.Random(seed)
    block = text(source, LARGE_BYTES // 2)
    values = []
    for index in range(LARGE_COUNT):
        noise = source.randbytes(1000) * 50 if index % 2 else b""
        value = hashlib.sha256(block + bytes([index])).digest() + noise + block + block
        values.append(value[: LARGE_BYTES - index])
    return values


def messages(count, seed, has_headers=True, has_null_values=True):
    """`count` messages and ten large ones, spread over the partitions in a fixed order.

    Keys, null keys, empty and null values, one-byte values and headers (an empty and a null one among them) alternate. Timestamps rise by
    one millisecond from a minute ago, so that a time finds exactly one offset.
    """
    source = random.Random(seed)
    start = int(time.time() * 1000) - 60_000
    large = large_values(seed)
    made = []
    for index in range(count + LARGE_COUNT):
        key = None if index % 5 == 0 else f"key-{source.randrange(97)}".encode()
        kind = index % 7
        if index >= count:
            value = large[index - count]
        elif kind == 1 and key is not None and has_null_values:
            value = None
        elif kind == 2:
            value = b"" if index % 2 else bytes([index % 256])
        elif kind == 3:
            value = source.randbytes(1)
        else:
            value = text(source, source.randrange(2, 700))
        headers = ()
        if has_headers and index % 3 == 0:
            headers = (("trace", source.randbytes(16)), ("empty", b""), ("twice", b"1"), ("twice", b"2"))
        made.append(Message(index % PARTITIONS, key, value, headers, start + index))
    return made


def by_partition(sent):
    """The messages of each partition in the order in which they were sent."""
    lists = {partition: [] for partition in range(PARTITIONS)}
    for message in sent:
        lists[message.partition].append(message)
    return lists
