"""SIGKILL of a leader."""

import time

from .nemesis import Nemesis

PERIOD_SECONDS = 10.0
DOWN_SECONDS = 3.0


class KillLeader(Nemesis):
    """Each time the leader of another partition."""

    name = "kill-leader"
    sentence = "the leader of a partition gets SIGKILL every 10 s and is started again 3 s later"

    def strike(self, until):
        """Kills, lets the others go on for a while, restarts."""
        down = DOWN_SECONDS if self.cluster.size > 1 else 0.2
        while True:
            begin = time.monotonic()
            leader = self.leader()
            leader.kill()
            self.count += 1
            self.note(f"killed {leader.number}")
            time.sleep(down)
            self.cluster.start([leader])
            self.note(f"{leader.number} is ready again")
            if not self.wait(PERIOD_SECONDS - (time.monotonic() - begin), until):
                return

    def heal(self):
        """Starts what is still down."""
        self.restart_dead()
