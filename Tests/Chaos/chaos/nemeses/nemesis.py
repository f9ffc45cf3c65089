"""What every nemesis is."""

import os
import subprocess
import time

from ..report import expect


class Nemesis:
    """Something that goes wrong again and again while clients work."""

    # Its name on the command line, and what it does in a sentence.
    name = ""
    sentence = ""
    # What it asks for: a network of its own, root, a device, at least so many brokers.
    needs_network = False
    needs_root = False
    needs_device = ""
    least_brokers = 1
    # Brokers beside those that replicas need, so that there is somewhere to move to.
    extra_brokers = 0
    # The longest time in which a partition of a cluster may acknowledge nothing; None where the failure takes the majority away.
    longest_silence = 10.0

    def __init__(self, cluster, random):
        self.cluster = cluster
        self.random = random
        self.events = []
        # How often it struck; a run in which nothing went wrong proves nothing.
        self.count = 0

    def prepare(self):
        """Before the brokers start: disks, libraries."""

    def strike(self, until):
        """Does what it does until a time of the monotonic clock; all that it broke it may leave broken."""
        raise NotImplementedError

    def heal(self):
        """Ends every fault and starts every broker that does not run."""

    def tidy(self):
        """After the brokers ended: takes away what `prepare` made."""

    def wait(self, seconds, until):
        """Waits, but not beyond the end; whether there is time left."""
        time.sleep(max(0.0, min(seconds, until - time.monotonic())))
        return time.monotonic() < until

    def note(self, text):
        """Remembers what was done and when, for the report of a failed run."""
        self.events.append(f"{time.strftime('%H:%M:%S')} {text}")

    def victim(self):
        """A broker at random."""
        return self.random.choice(self.cluster.brokers)

    def leader(self):
        """The leader of a partition at random."""
        return self.cluster.leader_of(self.random.choice(self.cluster.places))

    def restart_dead(self):
        """Starts the brokers that do not run."""
        dead = [broker for broker in self.cluster.brokers if not broker.is_running()]
        if dead:
            self.cluster.start(dead)

    def folder(self, name):
        """A directory of this run."""
        path = os.path.join(self.cluster.directory, name)
        os.makedirs(path, exist_ok=True)
        return path

    def flotilla(self, *words, seconds):
        """A command of the binary under test; its failure is a finding."""
        binary = self.cluster.brokers[0].binary
        result = subprocess.run(
            [binary, *words, "-b", ",".join(self.cluster.addresses)], capture_output=True, text=True, timeout=seconds, check=False)
        expect(result.returncode == 0, f"flotilla {' '.join(words)}: {result.returncode}: {result.stderr.strip()[-400:]}")
