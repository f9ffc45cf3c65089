"""A sync that fails."""

import errno
import os
import time

from ..disks import FaultyDisk
from ..report import expect
from .nemesis import Nemesis

# What a broker ends with when its disk fails: nothing may restart it blindly.
DISK_FAILURE = 74


class FsyncError(Nemesis):
    """After a failed sync nobody knows what the disk holds: the broker ends, and the next start looks past the page cache."""

    name = "fsync-error"
    sentence = "one sync of a random broker fails with EIO: it ends with exit code 74, and is started again 2 s later"

    def prepare(self):
        """Every broker's calls go through the library."""
        tools = self.folder("tools")
        self.disks = {}
        for broker in self.cluster.brokers:
            os.makedirs(broker.data_directory, exist_ok=True)
            disk = FaultyDisk(tools, os.path.join(tools, f"control-{broker.number}"), broker.data_directory)
            broker.environment.update(disk.environment)
            broker.ends_foreseen.add(DISK_FAILURE)
            self.disks[broker.number] = disk

    def strike(self, until):
        """Fails one sync, waits for the end, restarts."""
        while True:
            broker = self.victim()
            self.disks[broker.number].set(sync_error=errno.EIO, sync_fail_count=1)
            self.count += 1
            deadline = time.monotonic() + 15
            while broker.is_running():
                expect(time.monotonic() < deadline, f"broker {broker.number} goes on after a failed sync")
                time.sleep(0.02)
            expect(self.disks[broker.number].hit_count > 0, "no sync was seen to fail")
            self.note(f"{broker.number} ended after a failed sync")
            self.disks[broker.number].clear()
            time.sleep(2)
            self.cluster.start([broker])
            self.note(f"{broker.number} is ready again")
            if not self.wait(self.random.uniform(3, 6), until):
                return

    def heal(self):
        """Ends the fault."""
        for disk in self.disks.values():
            disk.clear()
        self.restart_dead()

    def tidy(self):
        """Lets the control files go."""
        for disk in self.disks.values():
            disk.close()
