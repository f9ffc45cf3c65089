"""Idempotent producers of librdkafka that write at an even rate, in processes of their own."""

import os
import subprocess
import sys
import threading
import time

from confluent_kafka import Producer

from clients.report import expect, expect_equal

BULK_TOPIC, BULK_PARTITIONS = "bulk", 6
BULK_PRODUCERS, BULK_RECORDS_PER_SECOND, BULK_BYTES = 2, 2000, 1024


class Bulk:
    """Idempotent producers of librdkafka at an even rate, in processes of their own."""

    title = f"bulk of {BULK_PRODUCERS} x {BULK_RECORDS_PER_SECOND} records/s of {BULK_BYTES} bytes"

    def __init__(self, addresses):
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "group_figures.bulk", addresses], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(BULK_PRODUCERS)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def wait(self):
        """Until all of them write."""
        for process in self.processes:
            expect_equal(process.stdout.readline(), "writing\n", "what a producer says")

    def finish(self):
        """Ends them; how many records a second were acknowledged."""
        for process in self.processes:
            process.stdin.close()
        words = [process.stdout.readline().split() for process in self.processes]
        expect(all(len(each) == 3 and each[1] == "0" for each in words), f"records a second, failures, first: {words}")
        return sum(float(each[0]) for each in words)


def write_bulk(addresses):
    """One of these producers: writes until its input ends, then says how much and how many failed."""
    counts, problems, is_over = [0, 0], ["-"], threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    producer = Producer({
        "bootstrap.servers": addresses, "enable.idempotence": True, "acks": "all", "linger.ms": 5, "compression.type": "none"})

    def told(error, _):
        counts[1 if error else 0] += 1
        if error:
            problems[0] = error.name()

    values, number = [os.urandom(BULK_BYTES) for _ in range(16)], 0
    producer.produce(BULK_TOPIC, values[0])
    producer.flush(30)
    print("writing", flush=True)
    begin = time.monotonic()
    while not is_over.is_set():
        while number < (time.monotonic() - begin) * BULK_RECORDS_PER_SECOND:
            producer.produce(BULK_TOPIC, values[number % 16], partition=number % BULK_PARTITIONS, on_delivery=told)
            number += 1
        producer.poll(0.005)
    producer.flush(30)
    print(f"{counts[0] / (time.monotonic() - begin):.0f} {counts[1]} {problems[0]}", flush=True)


if __name__ == "__main__":
    write_bulk(sys.argv[1])
