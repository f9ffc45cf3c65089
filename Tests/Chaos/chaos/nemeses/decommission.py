"""Brokers that leave for good, and others that take their places."""

import shutil

from ..report import expect_equal
from .nemesis import Nemesis

DRAIN_SECONDS = 120
REMOVED_EXIT_CODE = 67


class Decommission(Nemesis):
    """A broker is drained and removed, stops, and its disk is wiped; an empty one joins under its number."""

    name = "decommission"
    sentence = "a broker is drained and removed, and an empty one joins in its place"
    extra_brokers = 1
    longest_silence = 5.0

    def strike(self, until):
        """One broker after the other."""
        number = 0
        while True:
            broker = self.cluster.brokers[number % self.cluster.size]
            other = self.cluster.brokers[(number + 1) % self.cluster.size]
            self.flotilla("cluster", "drain", str(broker.number), "--admin", other.admin, seconds=DRAIN_SECONDS)
            self.note(f"drained {broker.number}")
            self.flotilla("cluster", "remove", str(broker.number), seconds=DRAIN_SECONDS)
            # It finds out by itself that it does not belong to the cluster any more.
            expect_equal(broker.finish_stop(), REMOVED_EXIT_CODE, f"end of broker {broker.number} after its removal")
            shutil.rmtree(broker.data_directory)
            self.note(f"removed and wiped {broker.number}")
            self.cluster.start([broker])
            self.count += 1
            self.note(f"{broker.number} joined; whole after {self.cluster.wait_until_whole():.1f} s")
            number += 1
            if not self.wait(2, until):
                return

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()
