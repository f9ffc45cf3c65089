"""Disks that fill, fail, lie and lose power."""

import ctypes
import errno
import mmap
import os
import signal
import struct
import subprocess
import time

from .processes import TIED, compile_disk_faults, compile_power_cut, run

MOUNT_SECONDS = 10


class SmallDisk:
    """A file system in memory with a size of its own."""

    def __init__(self, directory, mebibytes):
        self.directory = directory
        self.mebibytes = mebibytes
        self.filler = os.path.join(directory, "filler")

    def mount(self):
        """Makes it."""
        os.makedirs(self.directory, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"size={self.mebibytes}m", "tmpfs", self.directory)

    def unmount(self):
        """Takes it away with all that is on it."""
        run("umount", "-l", self.directory, check=False)

    def fill(self):
        """Takes all the space that is left, byte by byte at the end."""
        with open(self.filler, "ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError as failure:
                    if failure.errno != errno.ENOSPC:
                        raise

    def empty(self):
        """Gives the space back."""
        if os.path.exists(self.filler):
            os.remove(self.filler)


class FaultyDisk:
    """Faults in the calls of one process, switched while it runs. The layout is that of `struct control` in disk_faults.c."""

    FIELDS = ("sync_error", "sync_fail_count", "sync_delay", "sync_lies", "write_error", "hit_count")

    def __init__(self, tools_directory, control_path, prefix):
        library = compile_disk_faults(tools_directory)
        with open(control_path, "wb") as file:
            file.write(bytes(4 * len(self.FIELDS)))
        self.file = open(control_path, "r+b")
        self.map = mmap.mmap(self.file.fileno(), 4 * len(self.FIELDS))
        self.environment = {
            "LD_PRELOAD": library, "CHAOS_DISK_CONTROL": control_path, "CHAOS_DISK_PREFIX": os.path.realpath(prefix)}

    def set(self, **values):
        """Sets fields by their names."""
        for name, value in values.items():
            struct.pack_into("=i", self.map, 4 * self.FIELDS.index(name), value)

    def clear(self):
        """Ends all faults."""
        self.set(sync_error=0, sync_fail_count=0, sync_delay=0, sync_lies=0, write_error=0)

    @property
    def hit_count(self):
        """How many calls were tampered with."""
        return struct.unpack_from("=i", self.map, 4 * self.FIELDS.index("hit_count"))[0]

    def close(self):
        """Lets the control file go."""
        self.map.close()
        self.file.close()


class PowerCutDisk:
    """A file system that loses what was not synced when its power is cut; the broker's data lies in `data`."""

    def __init__(self, tools_directory, directory):
        self.program = os.path.join(tools_directory, "power_cut")
        if not os.path.exists(self.program):
            compile_power_cut(tools_directory)
        self.backing = os.path.join(directory, "backing")
        self.mountpoint = os.path.join(directory, "mounted")
        self.data = os.path.join(self.mountpoint, "data")
        self.process = None

    def mount(self):
        """Starts the file system and waits until it is there."""
        os.makedirs(self.backing, exist_ok=True)
        os.makedirs(self.mountpoint, exist_ok=True)
        self.process = subprocess.Popen(
            [*TIED, self.program, self.backing, self.mountpoint], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + MOUNT_SECONDS
        while not os.path.ismount(self.mountpoint):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise RuntimeError(f"power_cut did not mount: {self.process.stderr.read().decode()[-500:]}")
            time.sleep(0.01)
        # The folder that an operator gives a broker is there before it.
        os.makedirs(self.data, exist_ok=True)
        sync_directory(self.mountpoint)

    def order(self, command):
        """Gives a command; it is done when this returns."""
        descriptor = os.open(os.path.join(self.mountpoint, ".power-cut"), os.O_WRONLY)
        try:
            os.write(descriptor, command.encode())
        finally:
            os.close(descriptor)

    def cut(self, survive, is_torn, seed):
        """Loses what was not synced; all users of the files must be dead."""
        self.order(f"cut survive={survive} torn={int(is_torn)} seed={seed}")

    def lie(self, is_lying):
        """Acknowledges syncs without doing anything, or no longer."""
        self.order(f"lie {int(is_lying)}")

    def unmount(self):
        """Ends the file system."""
        if self.process is None:
            return
        # A lazy unmount: nobody is left who could keep it.
        ctypes.CDLL(None, use_errno=True).umount2(self.mountpoint.encode(), 2)
        if self.process.poll() is None:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
        self.process.stderr.close()
        self.process = None


def sync_directory(path):
    """Makes the names in a directory safe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def mounts_below(directory):
    """The mounts below a directory."""
    with open("/proc/self/mounts") as mounts:
        points = [line.split()[1] for line in mounts]
    return [point for point in points if point.startswith(directory)]
