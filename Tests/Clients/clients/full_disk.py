"""A full disk is an answer: producers get an error, readers go on, and all is well when space returns."""

import os
import random
import subprocess
import tempfile
import time

from . import batches
from .broker import Broker
from .plain import read_all
from .report import expect, expect_equal
from .wire import NONE, Connection

TOPIC = "full"
SIZE_MEBIBYTES = 96
BATCH_BYTES = 256 << 10
# Less than this may lie on the disk when it counts as full: journal and reserve take their part of it.
LEAST_STORED_BYTES = SIZE_MEBIBYTES * (1 << 20) // 2
# Errors that a client retries: NOT_ENOUGH_REPLICAS, REQUEST_TIMED_OUT, KAFKA_STORAGE_ERROR, THROTTLING_QUOTA_EXCEEDED.
RETRIABLE = {7, 19, 56, 89}
ENVIRONMENT = {"FLOTILLA_JOURNAL_FILE_BYTES": str(1 << 20), "FLOTILLA_JOURNAL_LIVE_BYTES": str(8 << 20)}


class SmallDisk:
    """A file system in memory with a size of its own; needs root."""

    def __init__(self, directory):
        self.directory = directory
        self.filler = os.path.join(directory, "filler")

    def __enter__(self):
        options = f"size={SIZE_MEBIBYTES}m"
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", self.directory], check=True, capture_output=True, timeout=20)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", self.directory], check=True, capture_output=True, timeout=20)

    def fill(self):
        """Takes all the space that is left, byte by byte at the end."""
        with open(self.filler, "wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def empty(self):
        """Gives the space back."""
        os.remove(self.filler)


def run(binary, report):
    """Runs where a small file system can be mounted, and says so where not."""
    if os.geteuid() != 0:
        report.skip("full disk", "all", "mounting a small tmpfs needs root")
        return
    with tempfile.TemporaryDirectory(prefix="flotilla-full-") as directory:
        try:
            with SmallDisk(directory) as disk:
                run_on(disk, binary, report)
        except subprocess.CalledProcessError as failure:
            report.skip("full disk", "all", f"no tmpfs here: {failure.stderr.decode('utf-8', 'replace').strip()}")


def run_on(disk, binary, report):
    """The story of a disk that fills twice: by somebody else, then by the topic itself."""
    data_directory = os.path.join(disk.directory, "data")
    with Broker(binary, data_directory, ENVIRONMENT) as broker:
        history = History()
        with Connection(broker.host, broker.port) as connection:
            settings = {"segment.bytes": str(4 << 20), "compression.type": "producer"}
            expect_equal(connection.create_topic(TOPIC, 1, settings), NONE, "error of create topic")
            for _ in range(20):
                history.produce(connection)
        disk.fill()
        with report.check("full disk", "somebody fills the disk: producers get an error that they retry"):
            expect_refused(broker, history)
        with report.check("full disk", "readers go on meanwhile"):
            expect_readable(broker, history)
        with report.check("full disk", "a crash meanwhile: the broker comes back and readers go on"):
            broker.kill()
            broker.start()
            expect_readable(broker, history)
        disk.empty()
        with report.check("full disk", "space returns: producers go on, nothing acknowledged is lost"):
            expect_recovery(broker, history)
        with report.check("full disk", "the topic fills the disk itself: an error, not an end"):
            expect_refused(broker, history)
            stored = BATCH_BYTES * len(history.values)
            expect(stored >= LEAST_STORED_BYTES, f"refused with only {stored >> 20} MiB of {SIZE_MEBIBYTES} MiB stored")
            expect_readable(broker, history)
        with report.check("full disk", "DeleteRecords makes room: producers go on"):
            with Connection(broker.host, broker.port) as connection:
                end = connection.list_offset(TOPIC, 0, -1)[2]
                expect_equal(connection.delete_records(TOPIC, {0: end - 1}), {0: (end - 1, NONE)}, "low watermark")
            history.start = end - 1
            expect_recovery(broker, history)
        with report.check("full disk", "the broker names the disk in its log"):
            expect(data_directory in broker.log(), "the data directory is not in the log")


class History:
    """Batches of noise that were acknowledged, by offset."""

    def __init__(self):
        self.source = random.Random(5)
        self.values = {}
        self.start = 0

    def produce(self, connection):
        """Sends one batch; remembers it and returns NONE where it was acknowledged."""
        value = self.source.randbytes(BATCH_BYTES)
        error, offset = connection.produce(TOPIC, 0, batches.build([value]))
        if error == NONE:
            self.values[offset] = value
        return error


def expect_refused(broker, history):
    """Within what the disk holds, an error comes that a client retries, and the process lives."""
    with Connection(broker.host, broker.port, timeout=30) as connection:
        for _ in range(2 * SIZE_MEBIBYTES * (1 << 20) // BATCH_BYTES):
            error = history.produce(connection)
            if error != NONE:
                expect(error in RETRIABLE, f"error {error} is not one that clients retry")
                break
        else:
            expect(False, "more was acknowledged than the disk holds")
    expect(broker.is_running(), f"the broker ended: {broker.log_tail()}")


def expect_readable(broker, history):
    """Everything acknowledged is read back, byte for byte."""
    with Connection(broker.host, broker.port) as connection:
        stored = {header.base_offset: batch for header, batch in read_all(connection, TOPIC, 0, history.start)}
    for offset, value in history.values.items():
        if offset >= history.start:
            expect(offset in stored, f"acknowledged offset {offset} is not there")
            expect(value in stored[offset], f"the record at {offset} differs")


def expect_recovery(broker, history):
    """Within half a minute a batch is acknowledged again."""
    deadline = time.monotonic() + 30
    with Connection(broker.host, broker.port, timeout=30) as connection:
        error = history.produce(connection)
        while error != NONE and time.monotonic() < deadline:
            time.sleep(0.2)
            error = history.produce(connection)
    expect_equal(error, NONE, "error of produce 30 s after space returned")
    expect_readable(broker, history)
