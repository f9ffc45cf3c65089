"""What the machine is, what its disk does alone, and what processes use of both, from /proc."""

import contextlib
import mmap
import os
import time
from pathlib import Path

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
DISK_FILE_BYTES, DISK_BLOCK_BYTES = 256 << 20, 256 << 10


def value_in(path, name):
    """What stands behind `name:` in a file of such lines; None where nothing does."""
    with contextlib.suppress(OSError):
        for line in Path(path).read_text().splitlines():
            if line.startswith(name):
                return line.split(":", 1)[1].strip()
    return None


def describe_machine(directory):
    """The `machine` of a result; its disk is the one on which `directory` lies, measured for two seconds."""
    memory = value_in("/proc/meminfo", "MemTotal")
    small, large = measure_disk(directory, 4096), measure_disk(directory, DISK_BLOCK_BYTES)
    small.sort()
    return {
        "cpu": value_in("/proc/cpuinfo", "model name"), "cores": os.cpu_count(),
        "memory_mib": int(memory.split()[0]) // 1024 if memory else None, "kernel": os.uname().release,
        "disk_block_bytes": DISK_BLOCK_BYTES, "disk_mb_per_second": round(len(large) * DISK_BLOCK_BYTES / sum(large) / 1e6, 1),
        "fdatasync_p50_us": round(small[len(small) // 2] * 1e6, 1), "fdatasync_p99_us": round(small[len(small) * 99 // 100] * 1e6, 1)}


def measure_disk(directory, block_bytes):
    """The seconds of each block, written over a zero-filled file and durable (fdatasync) before the next, for a second.

    This is what `flotilla bench disk` does.
    """
    path = os.path.join(directory, "disk")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        zeros = bytes(1 << 20)
        for position in range(0, DISK_FILE_BYTES, len(zeros)):
            os.pwrite(descriptor, zeros, position)
        os.fsync(descriptor)
        # Not zeros, which a disk might not store.
        block = mmap.mmap(-1, block_bytes)
        block.write(os.urandom(block_bytes))
        taken, position, begin = [], 0, time.monotonic()
        while not taken or time.monotonic() - begin < 1:
            before = time.monotonic()
            os.pwrite(descriptor, block, position)
            os.fdatasync(descriptor)
            taken.append(time.monotonic() - before)
            position = (position + block_bytes) % DISK_FILE_BYTES
        return taken
    finally:
        os.close(descriptor)
        os.unlink(path)


def processes():
    """All processes: by id, the parent's id, the CPU seconds and the bytes in memory."""
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            # Fields are counted from the third one, behind the name in parentheses.
            fields = Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            found[int(entry)] = (int(fields[1]), (int(fields[11]) + int(fields[12])) / CLOCK_TICKS, int(fields[21]) * PAGE_BYTES)
    return found


def families(roots):
    """What `processes` tells of the given processes and of all their descendants."""
    everything = processes()
    children = {}
    for process, (parent, _, _) in everything.items():
        children.setdefault(parent, []).append(process)
    waiting, found = [root for root in roots if root in everything], {}
    while waiting:
        process = waiting.pop()
        if process not in found:
            found[process] = everything[process]
            waiting += children.get(process, [])
    return found


class Sampler:
    """What servers, a client and the disk of a directory have used so far."""

    def __init__(self, servers, client, directory):
        self.servers, self.client = servers, client
        device = os.stat(directory).st_dev
        self.device = [str(os.major(device)), str(os.minor(device))]
        # What each process had used when it was last seen: one that ended leaves the sum otherwise, its work does not.
        self.used = {}
        self.client_used = 0.0

    def written_bytes(self):
        """Of the whole disk; None where it is none."""
        for line in Path("/proc/diskstats").read_text().splitlines():
            fields = line.split()
            if fields[:2] == self.device:
                # Sectors of 512 bytes, whatever the device's own are.
                return int(fields[9]) * 512
        return None

    def sample(self):
        """CPU seconds of the servers and of the client, the servers' memory in bytes, and bytes written."""
        servers = families(self.servers)
        self.used |= {process: cpu for process, (_, cpu, _) in servers.items()}
        client = families([self.client])
        self.client_used = max(self.client_used, sum(cpu for _, cpu, _ in client.values()))
        return sum(self.used.values()), self.client_used, sum(memory for _, _, memory in servers.values()), self.written_bytes()
