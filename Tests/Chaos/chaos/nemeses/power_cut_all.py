"""A power cut of all brokers."""

import time

from .power import PowerNemesis


class PowerCutAll(PowerNemesis):
    """Torn last rounds everywhere, and no one to ask: what was acknowledged is on a majority of the disks."""

    name = "power-cut-all"
    sentence = "all brokers lose power at once: unsynced data is lost, torn, or survives out of order, on each disk differently"
    longest_silence = None

    def strike(self, until):
        """Cuts and restarts."""
        while True:
            self.cluster.kill()
            for broker in self.cluster.brokers:
                self.cut(broker)
            time.sleep(self.random.uniform(0, 1))
            self.cluster.start(self.random.sample(self.cluster.brokers, self.cluster.size))
            self.note("all are ready again")
            if not self.wait(self.random.uniform(4, 8), until):
                return
