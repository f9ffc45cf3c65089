"""A rolling restart."""

from ..report import expect_equal
from .nemesis import Nemesis


class RollingRestart(Nemesis):
    """As an upgrade does it: one after the other, the next one when all replicas are in sync again."""

    name = "rolling-restart"
    sentence = "one broker after the other is stopped with SIGTERM and started, the next when the cluster is whole"
    longest_silence = 5.0

    def strike(self, until):
        """Round after round."""
        number = 0
        while True:
            broker = self.cluster.brokers[number % self.cluster.size]
            expect_equal(broker.stop(), 0, f"end of broker {broker.number} after SIGTERM")
            self.note(f"stopped {broker.number}")
            self.cluster.start([broker])
            self.count += 1
            self.note(f"{broker.number} is ready; whole after {self.cluster.wait_until_whole():.1f} s")
            number += 1
            if not self.wait(2, until):
                return

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()
