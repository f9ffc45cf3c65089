"""A disk without space."""

from ..disks import SmallDisk
from ..report import expect
from .nemesis import Nemesis

# Enough for what a run writes in five minutes at the usual rate, twice.
MEBIBYTES = 2048


class FullDisk(Nemesis):
    """Somebody else fills the disk: the broker refuses, lives, and goes on when space returns."""

    name = "full-disk"
    sentence = "the disk of one broker is filled to the last byte for 4 to 10 s, and emptied"
    needs_root = True
    # A leader on a full disk may keep its partitions and refuse; clients retry.
    longest_silence = None

    def prepare(self):
        """One broker gets a disk of its own."""
        self.broker = self.victim()
        self.disk = SmallDisk(self.broker.data_directory, MEBIBYTES)
        self.disk.mount()

    def strike(self, until):
        """Fills and empties."""
        while True:
            self.disk.fill()
            self.count += 1
            self.note(f"the disk of {self.broker.number} is full")
            self.wait(self.random.uniform(4, 10), until)
            expect(self.broker.is_running(), f"broker {self.broker.number} ended: {self.broker.log_tail()}")
            self.disk.empty()
            self.note("and has space again")
            if not self.wait(self.random.uniform(3, 6), until):
                return

    def heal(self):
        """Gives the space back."""
        self.disk.empty()
        self.restart_dead()

    def tidy(self):
        """Takes the disk away."""
        self.disk.unmount()
