"""A Kafka client of bare sockets: the few requests that tests need to see what clients hide.

Only old, non-flexible versions are spoken (ApiVersions 3 apart), since their layout is the same for every client.
Numbers are big endian; a string is an int16 length and UTF-8, -1 is null; an array is an int32 count and its elements.
"""

import socket
import struct

PRODUCE, FETCH, LIST_OFFSETS, METADATA, FIND_COORDINATOR = 0, 1, 2, 3, 10
API_VERSIONS, CREATE_TOPICS, DELETE_TOPICS, DELETE_RECORDS, INIT_PRODUCER_ID = 18, 19, 20, 21, 22
DESCRIBE_CONFIGS, INCREMENTAL_ALTER_CONFIGS = 32, 44

NONE, OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION = 0, 1, 2, 3
UNSUPPORTED_VERSION = 35


class Writer:
    """Builds a request."""

    def __init__(self):
        self.parts = []

    def add(self, layout, *values):
        """Appends numbers by a `struct` layout, big endian."""
        self.parts.append(struct.pack(f">{layout}", *values))
        return self

    def string(self, text):
        """Appends a string, or null."""
        if text is None:
            return self.add("h", -1)
        data = text.encode()
        self.add("h", len(data))
        self.parts.append(data)
        return self

    def bytes(self, data):
        """Appends an int32 length and bytes, or null."""
        if data is None:
            return self.add("i", -1)
        self.add("i", len(data))
        self.parts.append(data)
        return self

    def array(self, elements, write):
        """Appends a count and what `write(writer, element)` makes of each element."""
        self.add("i", len(elements))
        for element in elements:
            write(self, element)
        return self

    def data(self):
        """What was built."""
        return b"".join(self.parts)


class Reader:
    """Takes a response apart."""

    def __init__(self, data):
        self.bytes_left = memoryview(data)

    def take(self, count):
        """The next bytes."""
        if count < 0 or count > len(self.bytes_left):
            raise EOFError(f"{count} bytes asked for, {len(self.bytes_left)} left")
        taken, self.bytes_left = self.bytes_left[:count], self.bytes_left[count:]
        return bytes(taken)

    def read(self, layout):
        """One number, or a tuple of several."""
        values = struct.unpack(f">{layout}", self.take(struct.calcsize(f">{layout}")))
        return values[0] if len(values) == 1 else values

    def string(self):
        """A string, or None."""
        count = self.read("h")
        return None if count < 0 else self.take(count).decode()

    def bytes(self):
        """Bytes, or None."""
        count = self.read("i")
        return None if count < 0 else self.take(count)

    def array(self, read):
        """A list of what `read(reader)` finds."""
        return [read(self) for _ in range(max(0, self.read("i")))]

    def varint(self):
        """An unsigned varint."""
        value = shift = 0
        while True:
            byte = self.read("B")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7


def frame(key, version, correlation, body, client_id="wire"):
    """A request with header version 1 and its length before it."""
    header = Writer().add("hhi", key, version, correlation).string(client_id).data()
    return struct.pack(">i", len(header) + len(body)) + header + body


class Connection:
    """A blocking connection; `software` makes it introduce itself as that client library."""

    def __init__(self, host, port, software=None, timeout=10):
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0
        if software:
            self.api_versions_3(software)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Sends bytes as they are."""
        self.socket.sendall(data)

    def receive(self):
        """The next response frame, without its length."""
        (count,) = struct.unpack(">i", self.receive_exactly(4))
        return self.receive_exactly(count)

    def receive_exactly(self, count):
        """`count` bytes, or EOFError where the broker closes first."""
        parts = []
        while count > 0:
            part = self.socket.recv(min(count, 1 << 20))
            if not part:
                raise EOFError("the broker closed the connection")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def is_closed_by_broker(self, seconds):
        """Whether the broker closes within this time; answers before that are read and dropped."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except socket.timeout:
            return False
        except ConnectionError:
            return True

    def send_request(self, key, version, body):
        """Sends a request and returns its correlation id."""
        self.correlation += 1
        self.send(frame(key, version, self.correlation, body))
        return self.correlation

    def receive_response(self, correlation):
        """Reads the response to `correlation`; it must be the next one."""
        reader = Reader(self.receive())
        seen = reader.read("i")
        if seen != correlation:
            raise AssertionError(f"response to {seen} where {correlation} comes next")
        return reader

    def request(self, key, version, body):
        """Sends a request and reads its response."""
        return self.receive_response(self.send_request(key, version, body))

    # The requests.

    def api_versions(self):
        """ApiVersions 0: the error, and {key: (lowest, highest)}."""
        reader = self.request(API_VERSIONS, 0, b"")
        error = reader.read("h")
        return error, {key: (low, high) for key, low, high in reader.array(lambda each: each.read("hhh"))}

    def api_versions_3(self, software, version="1.0"):
        """ApiVersions 3 with the name of a client library: the error, and {key: (lowest, highest)}."""
        self.correlation += 1
        header = Writer().add("hhi", API_VERSIONS, 3, self.correlation).string("wire").add("B", 0).data()
        body = b"".join(bytes([len(text) + 1]) + text.encode() for text in (software, version)) + b"\0"
        self.send(struct.pack(">i", len(header) + len(body)) + header + body)
        reader = self.receive_response(self.correlation)
        error = reader.read("h")
        ranges = {}
        for _ in range(reader.varint() - 1):
            key, low, high = reader.read("hhh")
            reader.take(reader.varint())
            ranges[key] = (low, high)
        return error, ranges

    def metadata(self, topics, may_create=False):
        """Metadata 4: {topic: (error, {partition: (error, leader)})}."""
        body = Writer().array(topics, Writer.string).add("?", may_create).data()
        reader = self.request(METADATA, 4, body)
        reader.read("i")
        reader.array(lambda each: (each.read("i"), each.string(), each.read("i"), each.string()))
        reader.string()
        reader.read("i")

        def partition(each):
            error, index, leader = each.read("hii")
            each.array(lambda replica: replica.read("i"))
            each.array(lambda replica: replica.read("i"))
            return index, (error, leader)

        def topic(each):
            error = each.read("h")
            name = each.string()
            each.read("?")
            return name, (error, dict(each.array(partition)))

        return dict(reader.array(topic))

    def create_topic(self, name, partitions, configs=None, validate_only=False):
        """CreateTopics 2: the error code."""
        writer = Writer().add("i", 1).string(name).add("ih", partitions, 1).add("i", 0)
        writer.array(list((configs or {}).items()), lambda each, pair: each.string(pair[0]).string(pair[1]))
        reader = self.request(CREATE_TOPICS, 2, writer.add("i?", 10000, validate_only).data())
        reader.read("ii")
        reader.string()
        return reader.read("h")

    def delete_topic(self, name):
        """DeleteTopics 1: the error code."""
        reader = self.request(DELETE_TOPICS, 1, Writer().array([name], Writer.string).add("i", 10000).data())
        reader.read("ii")
        reader.string()
        return reader.read("h")

    def delete_records(self, topic, offsets):
        """DeleteRecords 0: {partition: (low watermark, error)} for {partition: offset}."""
        writer = Writer().add("i", 1).string(topic)
        writer.array(list(offsets.items()), lambda each, pair: each.add("iq", *pair))
        reader = self.request(DELETE_RECORDS, 0, writer.add("i", 10000).data())
        reader.read("ii")
        reader.string()
        return {index: (low, error) for index, low, error in reader.array(lambda each: each.read("iqh"))}

    def alter_topic_config(self, topic, name, value):
        """IncrementalAlterConfigs 0, operation set: the error code."""
        writer = Writer().add("ib", 1, 2).string(topic).add("i", 1).string(name).add("b", 0).string(value)
        reader = self.request(INCREMENTAL_ALTER_CONFIGS, 0, writer.add("?", False).data())
        reader.read("ii")
        return reader.read("h")

    def topic_config(self, topic, name):
        """DescribeConfigs 1: the value of one setting of a topic."""
        writer = Writer().add("ib", 1, 2).string(topic).add("i", 1).string(name).add("?", False)
        reader = self.request(DESCRIBE_CONFIGS, 1, writer.data())
        reader.read("i")
        reader.read("i")
        error = reader.read("h")
        reader.string()
        reader.read("b")
        reader.string()
        if error or reader.read("i") != 1:
            raise AssertionError(f"DescribeConfigs of {topic}: error {error}")
        reader.string()
        return reader.string()

    def list_offset(self, topic, partition, timestamp):
        """ListOffsets 1: (error, timestamp, offset)."""
        body = Writer().add("ii", -1, 1).string(topic).add("iiq", 1, partition, timestamp).data()
        reader = self.request(LIST_OFFSETS, 1, body)
        reader.read("i")
        reader.string()
        reader.read("ii")
        return reader.read("hqq")

    def init_producer_id(self):
        """InitProducerId 0 without a transactional id: (error, producer id, epoch)."""
        reader = self.request(INIT_PRODUCER_ID, 0, Writer().string(None).add("i", 60000).data())
        reader.read("i")
        return reader.read("hqh")

    def send_produce(self, topic, partition, records, acks=-1, version=7, timeout=10000):
        """Sends Produce 3 to 8 with one partition and returns its correlation id."""
        writer = Writer().string(None).add("hi", acks, timeout).add("i", 1).string(topic)
        body = writer.add("ii", 1, partition).bytes(records).data()
        return self.send_request(PRODUCE, version, body)

    def receive_produce(self, correlation):
        """Reads the answer to Produce 7 with one partition: (error, base offset)."""
        reader = self.receive_response(correlation)
        reader.read("i")
        reader.string()
        reader.read("i")
        _, error, base_offset, _, _ = reader.read("ihqqq")
        return error, base_offset

    def produce(self, topic, partition, records, acks=-1):
        """Produce 7 with one partition: (error, base offset)."""
        return self.receive_produce(self.send_produce(topic, partition, records, acks))

    def fetch(self, topic, partition, offset, max_bytes=64 << 20, max_wait=0):
        """Fetch 10, the first that may be sent zstd, of one partition: (error, high watermark, the stored batches)."""
        writer = Writer().add("iiiib", -1, max_wait, 1, max_bytes, 0).add("ii", 0, -1)
        writer.add("i", 1).string(topic).add("iiiqqi", 1, partition, -1, offset, -1, max_bytes)
        writer.add("i", 0)
        reader = self.request(FETCH, 10, writer.data())
        reader.read("i")
        _, _ = reader.read("hi")
        reader.read("i")
        reader.string()
        reader.read("i")
        _, error, high_watermark, _, _ = reader.read("ihqqq")
        reader.array(lambda each: each.read("qq"))
        return error, high_watermark, reader.bytes() or b""
