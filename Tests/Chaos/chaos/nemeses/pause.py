"""SIGSTOP and SIGCONT."""

import time

from .nemesis import Nemesis

SHORTEST_SECONDS, LONGEST_SECONDS = 0.2, 6.0


class Pause(Nemesis):
    """One broker at a time; it comes back with all its timers late and all its connections alive."""

    name = "pause"
    sentence = "a random broker is frozen with SIGSTOP for 0.2 to 6 s and thawed with SIGCONT"
    longest_silence = 15.0

    def strike(self, until):
        """Freezes and thaws."""
        while True:
            broker, seconds = self.victim(), self.random.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
            broker.pause()
            self.count += 1
            self.note(f"paused {broker.number} for {seconds:.1f} s")
            time.sleep(seconds)
            broker.resume()
            if not self.wait(self.random.uniform(0.5, 3), until):
                return

    def heal(self):
        """Thaws all."""
        for broker in self.cluster.brokers:
            broker.resume()
