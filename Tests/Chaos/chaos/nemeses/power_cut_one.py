"""A power cut of one broker."""

import time

from .power import PowerNemesis


class PowerCutOne(PowerNemesis):
    """It comes back with less than it had written, and with all that it had promised."""

    name = "power-cut-one"
    sentence = "a random broker loses power: what it did not sync is lost, torn, or survives out of order"

    def strike(self, until):
        """Cuts and restarts."""
        while True:
            broker = self.victim()
            broker.kill()
            self.cut(broker)
            time.sleep(self.random.uniform(0.2, 2))
            self.cluster.start([broker])
            self.note(f"{broker.number} is ready again")
            if not self.wait(self.random.uniform(3, 6), until):
                return
