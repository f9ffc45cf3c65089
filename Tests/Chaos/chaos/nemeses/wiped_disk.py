"""A broker that loses its disk."""

import shutil

from .nemesis import Nemesis

DOWN_SECONDS = 3.0


class WipedDisk(Nemesis):
    """It comes back under its number with nothing: a new member, never its old self."""

    name = "wiped-disk"
    sentence = "a broker gets SIGKILL and loses its disk, and an empty one takes its place; the next when the cluster is whole"
    least_brokers = 3

    def strike(self, until):
        """One broker after the other."""
        while True:
            broker = self.victim()
            broker.kill()
            shutil.rmtree(broker.data_directory)
            self.count += 1
            self.note(f"killed and wiped {broker.number}")
            self.wait(DOWN_SECONDS, until)
            self.cluster.start([broker])
            self.note(f"{broker.number} is back; whole after {self.cluster.wait_until_whole():.1f} s")
            if not self.wait(2, until):
                return

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()
