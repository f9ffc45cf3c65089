"""A link that comes and goes."""

import time

from .nemesis import Nemesis

BURST_SECONDS = 8.0


class Flapping(Nemesis):
    """Short enough for connections to survive some cuts, long enough for elections to begin in others."""

    name = "flapping"
    sentence = "for 8 s at a time a random broker's links to the others go and come every 0.1 to 1 s"
    needs_network = True
    needs_root = True
    least_brokers = 3
    longest_silence = 20.0

    def strike(self, until):
        """Flaps and rests."""
        fabric = self.cluster.fabric
        while True:
            broker = self.victim()
            self.note(f"{broker.number} flaps")
            end = min(until, time.monotonic() + BURST_SECONDS)
            while time.monotonic() < end:
                fabric.isolate(broker.number)
                self.count += 1
                self.wait(self.random.uniform(0.1, 1), end)
                fabric.heal()
                self.wait(self.random.uniform(0.1, 1), end)
            if not self.wait(self.random.uniform(2, 4), until):
                return

    def heal(self):
        """Everybody hears everybody."""
        self.cluster.fabric.heal()
