"""Record batches of format 2: their headers, and the building of small ones, good and bad."""

import struct
import time

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
HEADER = struct.Struct(">qiibIhiqqqhii")


def crc32c(data):
    """CRC32C, by the library where it is there and by a table where it is not."""
    try:
        import crc32c as library
    except ImportError:
        return slow_crc32c(data)
    return library.crc32c(data)


def slow_crc32c(data):
    """CRC32C by a table of 256 entries."""
    value = 0xFFFFFFFF
    for byte in data:
        value = TABLE[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


def table_entry(index):
    """One entry of the table: the polynomial 0x1EDC6F41, reflected."""
    for _ in range(8):
        index = (index >> 1) ^ (0x82F63B78 if index & 1 else 0)
    return index


TABLE = [table_entry(index) for index in range(256)]


class Header:
    """The 61 bytes before a batch's records."""

    def __init__(self, data):
        (
            self.base_offset, self.length, self.leader_epoch, self.magic, self.checksum, self.attributes,
            self.last_offset_delta, self.base_timestamp, self.max_timestamp, self.producer_id, self.producer_epoch,
            self.base_sequence, self.record_count,
        ) = HEADER.unpack_from(data)

    @property
    def codec(self):
        """The name of the codec in the three lowest bits of the attributes."""
        return CODECS[self.attributes & 7]


def headers(data):
    """The header and the bytes of each whole batch; a batch cut at the end is left out."""
    position = 0
    while position + HEADER.size <= len(data):
        header = Header(data[position:])
        end = position + 12 + header.length
        if end > len(data):
            return
        yield header, data[position:end]
        position = end


def varint(value):
    """A signed varint, zigzag."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def record(delta, key, value):
    """One record without headers."""
    body = b"\0" + varint(0) + varint(delta)
    for part in (key, value):
        body += varint(-1) if part is None else varint(len(part)) + part
    body += varint(0)
    return varint(len(body)) + body


def build(values, producer_id=-1, epoch=-1, sequence=-1, key=None, records=None, count=None):
    """A plain batch of `values`, or one with `records` as its payload already made and `count` records claimed."""
    if records is None:
        records = b"".join(record(index, key, value) for index, value in enumerate(values))
        count = len(values)
    return seal(0, records, count, producer_id, epoch, sequence)


def build_with_codec(codec, payload, count):
    """A batch with a number in its codec bits and a payload that may be anything."""
    return seal(codec, payload, count, -1, -1, -1)


def seal(attributes, payload, count, producer_id, epoch, sequence):
    """Puts a header with the right length and checksum before a payload."""
    now = int(time.time() * 1000)
    tail = struct.pack(">hiqqqhii", attributes, count - 1, now, now, producer_id, epoch, sequence, count) + payload
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail
