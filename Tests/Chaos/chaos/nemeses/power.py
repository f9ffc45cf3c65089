"""What the nemeses that cut the power share: every broker's data on a file system that forgets what was not synced."""

from ..disks import PowerCutDisk
from .nemesis import Nemesis

# How many of the unsynced pages survive, in percent: none, some, most.
SURVIVALS = (0, 30, 80)


class PowerNemesis(Nemesis):
    """Brings the disks; what is cut and when is told by those below."""

    needs_root = True
    needs_device = "/dev/fuse"

    def prepare(self):
        """Each broker gets a disk of its own."""
        self.disks = {}
        for broker in self.cluster.brokers:
            disk = PowerCutDisk(self.folder("tools"), self.folder(f"disk-{broker.number}"))
            disk.mount()
            broker.data_directory = disk.data
            self.disks[broker.number] = disk

    def cut(self, broker):
        """Loses what a dead broker did not sync, some of it torn."""
        survive = self.random.choice(SURVIVALS)
        self.disks[broker.number].cut(survive, is_torn=True, seed=self.random.randrange(1 << 32))
        self.count += 1
        self.note(f"cut the power of {broker.number}, {survive} % of the unsynced pages survive")

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()

    def tidy(self):
        """Takes the disks away."""
        for disk in self.disks.values():
            disk.unmount()
