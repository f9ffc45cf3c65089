"""A disk that acknowledges syncs without doing them."""

import time

from .power import PowerNemesis


class LyingDisk(PowerNemesis):
    """No promise holds on such a disk, so the other brokers stay up until it has caught up; together they lose nothing."""

    name = "lying-disk"
    sentence = "the disk of one broker lies about syncs for 3 s, then it loses power; the others stay up until it caught up"
    least_brokers = 3

    def strike(self, until):
        """Lies, cuts, restarts, waits."""
        while True:
            broker = self.victim()
            self.disks[broker.number].lie(True)
            self.note(f"the disk of {broker.number} lies")
            time.sleep(3)
            broker.kill()
            self.disks[broker.number].lie(False)
            self.cut(broker)
            self.cluster.start([broker])
            self.note(f"{broker.number} is ready; whole after {self.cluster.wait_until_whole():.1f} s")
            if not self.wait(self.random.uniform(1, 3), until):
                return
