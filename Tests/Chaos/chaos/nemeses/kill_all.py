"""All at once."""

import time

from .nemesis import Nemesis


class KillAll(Nemesis):
    """Nobody is left who remembers anything but the disks."""

    name = "kill-all"
    sentence = "all brokers get SIGKILL at the same moment, and are started again after up to 2 s, in any order"
    longest_silence = None

    def strike(self, until):
        """Kills and starts."""
        while True:
            self.cluster.kill()
            self.count += 1
            self.note("killed all")
            time.sleep(self.random.uniform(0, 2))
            self.cluster.start(self.random.sample(self.cluster.brokers, self.cluster.size))
            self.note("all are ready")
            if not self.wait(self.random.uniform(4, 8), until):
                return

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()
