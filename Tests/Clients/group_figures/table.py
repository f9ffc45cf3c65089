"""The table that is printed, and the machine that it is of."""

import os
import platform
import tempfile
import time

from clients.report import expect

SYNCS = 300


def row(name, value, unit, note=""):
    """Prints one figure, or one of each broker."""
    values = value if isinstance(value, list) else [value]
    middle = max(values, key=abs)
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2 if middle >= 0.1 or middle == 0 else 3
    text = " / ".join(f"{each:.{digits}f}" for each in values)
    print(f"{name:<72} {text:>24} {unit:<10} {note}".rstrip(), flush=True)


def latency_rows(name, seconds):
    """Prints the middle, the 99th percentile and the longest."""
    expect(seconds, f"{name}: nothing was measured")
    ordered = sorted(seconds)
    text = " / ".join(f"{1000 * each:.2f}" for each in (
        ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], ordered[-1]))
    print(f"{name + ': p50 / p99 / max':<72} {text:>24} ms         ({len(ordered)})", flush=True)


def describe_machine():
    """What it all runs on, and how long its disk takes for a small durable write."""
    times = []
    with tempfile.NamedTemporaryFile(prefix="flotilla-figures-") as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.monotonic()
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - begin)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    print(f"machine: {os.cpu_count()} cores, {memory:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.1f}")
    latency_rows("write of 4 KiB and fdatasync", times)
