"""Bytes that no client should send: the broker refuses them within its bounds and goes on serving."""

import random
import socket
import struct
import time
import zlib

from . import batches
from .broker import Broker
from .plain import serves
from .report import expect, expect_equal
from .wire import (
    API_VERSIONS, CORRUPT_MESSAGE, FETCH, METADATA, NONE, PRODUCE, UNSUPPORTED_VERSION, Connection, Writer, frame,
)

TOPIC = "bad-input"
COMPACTED = "bad-input-compacted"
INVALID_REQUIRED_ACKS, INVALID_RECORD = 21, 87
MEBIBYTE = 1 << 20
BOMB_BYTES = 512 * MEBIBYTE
MEMORY_BOUND = 256 * MEBIBYTE


class BadInput:
    """One broker that gets all of it, and is asked after each kind whether it still serves."""

    def __init__(self, broker, report):
        self.broker = broker
        self.report = report

    def run(self):
        """Every kind in turn."""
        with self.connection() as connection:
            expect_equal(connection.create_topic(TOPIC, 1), NONE, "error of create topic")
            error = connection.create_topic(COMPACTED, 1, {"cleanup.policy": "compact"})
            expect_equal(error, NONE, "error of create topic")
        for name, kind in (
            ("garbage", self.garbage),
            ("length prefixes: negative, nothing, huge", self.lengths),
            ("a TLS hello and an HTTP request on the Kafka port", self.other_protocols),
            ("half frames that stay open, while others are served", self.half_frames),
            ("a request that drips in byte by byte is answered", self.slow_drip),
            ("unknown APIs and versions", self.unknown_apis),
            ("counts and lengths inside a request that exceed it", self.inner_lengths),
            ("a Produce cut at every byte", self.truncated_produce),
            ("batches that are not what they claim", self.bad_batches),
            ("gzip bomb", lambda: self.bomb("gzip", gzip_bomb())),
            ("lz4 bomb", lambda: self.bomb("lz4", lz4_bomb())),
            ("zstd bomb", lambda: self.bomb("zstd", zstd_bomb())),
            ("snappy that claims four gigabytes", lambda: self.bomb("snappy", b"\xff\xff\xff\xff\x0f" + b"\0" * 64)),
            ("a thousand requests at once are answered in order", self.pipeline),
            ("a client that asks and never reads", self.never_reads),
            ("three hundred idle connections", self.idle_connections),
            ("garbage on the HTTP port", self.bad_http),
        ):
            with self.report.check("bad input", name):
                if not self.broker.is_running():
                    self.broker.start()  # after a failed check, so that the next one can say something
                kind()
                serves(self.broker)

    def connection(self, timeout=10):
        """A fresh connection to the Kafka port."""
        return Connection(self.broker.host, self.broker.port, timeout=timeout)

    def expect_close(self, data, what):
        """The broker closes a connection that sent this."""
        with self.connection() as connection:
            try:
                connection.send(data)
            except OSError:
                return
            expect(connection.is_closed_by_broker(5), f"the connection stays open after {what}")

    def expect_memory(self, before, what):
        """The process grew by less than its bound."""
        grown = self.broker.resident_bytes() - before
        expect(grown < MEMORY_BOUND, f"{what} made the broker grow by {grown // MEBIBYTE} MiB")

    def garbage(self):
        """Random bytes of random length; whatever happens to the connection is right, as long as the broker lives."""
        source = random.Random(7)
        for _ in range(100):
            with self.connection() as connection:
                try:
                    connection.send(source.randbytes(source.randrange(1, 8192)))
                except OSError:
                    pass

    def lengths(self):
        """A length is judged before a byte is allocated for it."""
        before = self.broker.resident_bytes()
        for length in (-1, -(1 << 31), 0, 1, 7, (1 << 31) - 1, 1 << 30, 101 << 20):
            self.expect_close(struct.pack(">i", length) + b"\0" * 64, f"a length of {length}")
        self.expect_memory(before, "length prefixes")

    def other_protocols(self):
        """Both look like a frame of hundreds of megabytes."""
        self.expect_close(bytes.fromhex("160301020001000 1fc0303".replace(" ", "")) + b"\x42" * 500, "a TLS hello")
        self.expect_close(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "an HTTP request")

    def half_frames(self):
        """Forty connections owe the rest of a frame and cost nobody anything."""
        request = frame(METADATA, 4, 1, Writer().array([TOPIC], Writer.string).add("?", False).data())
        held = []
        for count in range(40):
            held.append(self.connection())
            held[-1].send(request[: 1 + count % (len(request) - 1)])
        serves(self.broker)
        for connection in held:
            connection.socket.close()

    def slow_drip(self):
        """Time between bytes is the client's business."""
        with self.connection() as connection:
            for byte in frame(API_VERSIONS, 0, 7, b""):
                connection.send(bytes([byte]))
                time.sleep(0.02)
            reader = connection.receive_response(7)
            expect_equal(reader.read("h"), NONE, "error of ApiVersions")

    def unknown_apis(self):
        """A version too new of ApiVersions is answered in the oldest form, everything else unknown is closed."""
        for key, version in ((999, 0), (-1, 0), (4, 0), (METADATA, 99), (METADATA, -1), (PRODUCE, 1)):
            with self.connection() as connection:
                connection.send_request(key, version, b"\0" * 16)
                expect(connection.is_closed_by_broker(5), f"API {key} version {version} leaves the connection open")
        with self.connection() as connection:
            reader = connection.request(API_VERSIONS, 99, b"")
            expect_equal(reader.read("h"), UNSUPPORTED_VERSION, "error of ApiVersions 99")
            table = {key: (low, high) for key, low, high in reader.array(lambda each: each.read("hhh"))}
            expect(API_VERSIONS in table, f"the table is not filled: {table}")
            expect_equal(connection.api_versions()[1], table, "the table of ApiVersions 0 on the same connection")

    def inner_lengths(self):
        """Every length is judged against what is left of the request."""
        before = self.broker.resident_bytes()
        for key, version, body in (
            (METADATA, 4, struct.pack(">i", (1 << 31) - 1)),
            (METADATA, 4, struct.pack(">ih", 1, 32767) + b"abc"),
            (METADATA, 4, struct.pack(">ih", 1, -7)),
            (METADATA, 9, b"\0" + b"\xff\xff\xff\xff\x0f"),
            (METADATA, 9, b"\0" + b"\xff" * 12),
            (FETCH, 4, struct.pack(">iiiibi", -1, 0, 1, 1 << 20, 0, 0x7FFFFFF0)),
            (PRODUCE, 7, struct.pack(">hhi", -1, -1, 1000) + struct.pack(">i", 0x10000000)),
        ):
            self.expect_close(frame(key, version, 1, body), f"API {key} with a length beyond its end")
        self.expect_memory(before, "inner lengths")

    def truncated_produce(self):
        """The frame's length is right, and what it holds ends too early: an error or a close, never silence."""
        writer = Writer().string(None).add("hi", -1, 1000).add("i", 1).string(TOPIC).add("ii", 1, 0)
        body = writer.bytes(batches.build([b"whole"])).data()
        for count in range(len(body)):
            with self.connection() as connection:
                correlation = connection.send_request(PRODUCE, 7, body[:count])
                try:
                    error, _ = connection.receive_produce(correlation)
                except (EOFError, ConnectionError):
                    continue
                expect(error != NONE, f"a Produce cut at byte {count} was accepted")
        with self.connection() as connection:
            expect_equal(connection.list_offset(TOPIC, 0, -1)[2], 0, "end offset after cut requests")

    def bad_batches(self):
        """Each lie has its error, and nothing of it is stored."""
        good = batches.build([b"a", b"b"])
        record = batches.record(0, None, b"a")
        cases = {
            "one flipped bit": (flip(good, 70), CORRUPT_MESSAGE),
            "a cut batch": (good[:-3], CORRUPT_MESSAGE),
            "no batch": (b"", INVALID_RECORD),
            "two batches": (good + good, INVALID_RECORD),
            "magic 1": (good[:16] + b"\1" + good[17:], INVALID_RECORD),
            "fewer records than claimed": (batches.build([], records=record, count=2), INVALID_RECORD),
            "more records than claimed": (batches.build([], records=record * 2, count=1), INVALID_RECORD),
            "no record": (batches.build([], records=b"", count=0), INVALID_RECORD),
            "a record of negative length": (batches.build([], records=batches.varint(-5), count=1), INVALID_RECORD),
            "a million records claimed": (batches.build([], records=record, count=1_000_000), INVALID_RECORD),
            "an unknown codec": (batches.build_with_codec(6, record, 1), None),
            "a negative batch length": (good[:8] + b"\xff\xff\xff\x00" + good[12:], None),
        }
        with self.connection() as connection:
            for name, (data, wanted) in cases.items():
                error, _ = connection.produce(TOPIC, 0, data)
                expect(error != NONE if wanted is None else error == wanted, f"{name}: error {error}, not {wanted}")
            error, _ = connection.produce(TOPIC, 0, good, acks=2)
            expect_equal(error, INVALID_REQUIRED_ACKS, "error of acks 2")
            error, _ = connection.produce(TOPIC, 5, good)
            expect(error != NONE, "a partition that is not there took a batch")
            expect_equal(connection.list_offset(TOPIC, 0, -1)[2], 0, "end offset after bad batches")
        with self.connection() as connection:
            connection.send_produce(TOPIC, 0, flip(good, 70), acks=0)
            expect(connection.is_closed_by_broker(5), "acks 0 with a bad batch leaves the connection open")

    def bomb(self, codec, payload):
        """A compacted topic must look into its batches: it refuses, and grows no more than its bound."""
        before = self.broker.resident_bytes()
        data = batches.build_with_codec(batches.CODECS.index(codec), payload, 1)
        begin = time.monotonic()
        with self.connection(timeout=30) as connection:
            error, _ = connection.produce(COMPACTED, 0, data)
            expect(error != NONE, "the bomb was accepted where it must be opened")
            error, _ = connection.produce(TOPIC, 0, data)
            if error == NONE:  # a topic that is not compacted judges by header; a look-up by time must open it
                connection.list_offset(TOPIC, 0, 1)
                end = connection.list_offset(TOPIC, 0, -1)[2]
                expect_equal(connection.delete_records(TOPIC, {0: end}), {0: (end, NONE)}, "deletion of the bomb")
        expect(time.monotonic() - begin < 20, "the bomb took more than 20 s")
        self.expect_memory(before, f"the {codec} bomb")

    def pipeline(self):
        """Answers come in the order of the requests, however many are under way."""
        with self.connection() as connection:
            connection.send(b"".join(frame(API_VERSIONS, 0, number, b"") for number in range(1000)))
            for number in range(1000):
                connection.receive_response(number)

    def never_reads(self):
        """What is owed to a client that does not read is bounded by back-pressure."""
        with self.connection() as connection:
            block = random.Random(3).randbytes(900_000)
            start = connection.list_offset(TOPIC, 0, -1)[2]
            for _ in range(20):
                expect_equal(connection.produce(TOPIC, 0, batches.build([block]))[0], NONE, "error of produce")
        before = self.broker.resident_bytes()
        writer = Writer().add("iiiib", -1, 0, 1, 64 << 20, 0).add("i", 1).string(TOPIC)
        request = frame(FETCH, 4, 1, writer.add("iiqi", 1, 0, start, 64 << 20).data())
        with self.connection() as connection:
            connection.socket.settimeout(2)
            try:
                connection.send(request * 500)
            except socket.timeout:
                pass
            time.sleep(1)
            self.expect_memory(before, "a client that never reads")
            serves(self.broker)

    def idle_connections(self):
        """Idle clients cost a descriptor each."""
        held = [self.connection() for _ in range(300)]
        serves(self.broker)
        for connection in held:
            connection.socket.close()

    def bad_http(self):
        """The other port has bounds too."""
        host, port = self.broker.admin.rsplit(":", 1)
        source = random.Random(11)
        for data in (source.randbytes(4096), b"GET " + b"a" * 200_000, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000):
            with socket.create_connection((host, int(port)), timeout=5) as connection:
                try:
                    connection.sendall(data)
                except OSError:
                    pass
        expect(self.broker.is_ready(), "/readyz does not answer any more")


def flip(data, position):
    """The bytes with one bit flipped."""
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1:]


def gzip_bomb():
    """Zeros, five hundred times smaller than they were."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(MEBIBYTE)
    parts = [compressor.compress(block) for _ in range(BOMB_BYTES // MEBIBYTE)]
    return (b"".join(parts) + compressor.flush())[:900_000]


def lz4_bomb():
    """Zeros in an LZ4 frame; as many as fit a request that a broker takes."""
    import lz4.frame

    with lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB) as compressor:
        parts = [compressor.begin()]
        for _ in range(220):
            parts.append(compressor.compress(bytes(MEBIBYTE)))
        parts.append(compressor.flush())
    return b"".join(parts)


def zstd_bomb():
    """Zeros in a Zstandard frame that does not say how many."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    block = bytes(MEBIBYTE)
    parts = [compressor.compress(block) for _ in range(BOMB_BYTES // MEBIBYTE)]
    return b"".join(parts) + compressor.flush()


def run(binary, report):
    """All bad input against one broker."""
    with Broker(binary) as broker:
        BadInput(broker, report).run()
