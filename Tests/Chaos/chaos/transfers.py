"""How long a producer waits when leadership is given away as planned: the longest time without an acknowledgement, many times.

    python -m chaos.transfers --binary PATH --transfers 100

The load is that of chaos.failover: one partition, one idempotent producer with acks=all that sends a record every 2 ms, so that 2 ms are the
least that can be seen. Each transfer is asked for with `flotilla cluster transfer-leader`, and looked at from then until half a second after
the other broker leads. The exit code is 1 if the 99th percentile is beyond the gate.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time

from . import processes
from .cluster import Cluster
from .fabrics import Loopback
from .failover import EAGER, RECOVERY_SECONDS, TOPIC, Pulse, percentile

SETTLE_SECONDS = 0.5


class Watch(Pulse):
    """A pulse that knows the longest time between two acknowledgements."""

    def __init__(self, addresses, settings):
        self.last = None
        self.longest = 0.0
        super().__init__(addresses, settings)

    def delivered(self, error, sent):
        """Notes the time since the acknowledgement before."""
        super().delivered(error, sent)
        if not error:
            with self.condition:
                now = time.monotonic()
                if self.last is not None:
                    self.longest = max(self.longest, now - self.last)
                self.last = now

    def begin(self):
        """Forgets what was until now; what was before the last acknowledgement does not count."""
        with self.condition:
            self.longest = 0.0

    def gap(self):
        """The longest time since `begin()`, the one that has not ended yet among them."""
        with self.condition:
            return max(self.longest, time.monotonic() - self.last)


def measure(binary, cluster, watch, transfers):
    """The gap of each transfer in seconds."""
    gaps = []
    for index in range(transfers):
        if not watch.is_alive_at(time.monotonic(), RECOVERY_SECONDS):
            raise RuntimeError(f"nothing is acknowledged before transfer {index + 1}")
        source = cluster.leader_of((TOPIC, 0)).number
        target = source % cluster.size + 1
        watch.begin()
        processes.run(
            binary, "cluster", "transfer-leader", TOPIC, "-p", "0", "--to", str(target), "-b", ",".join(cluster.addresses))
        deadline = time.monotonic() + RECOVERY_SECONDS
        while cluster.leader_of((TOPIC, 0)).number != target:
            if time.monotonic() > deadline:
                raise RuntimeError(f"broker {target} does not lead {RECOVERY_SECONDS} s after transfer {index + 1}")
            time.sleep(0.02)
        time.sleep(SETTLE_SECONDS)
        gaps.append(watch.gap())
        print(f"transfer {index + 1:>3}: broker {source} to {target}, {gaps[-1] * 1000:.0f} ms", flush=True)
    return gaps


def main():
    """Reads the command line, measures, and prints one line of the result."""
    parser = argparse.ArgumentParser(prog="chaos.transfers")
    parser.add_argument("--binary", required=True, help="the flotilla executable")
    parser.add_argument("--transfers", type=int, default=100, help="how often leadership is given away")
    parser.add_argument("--gate", type=float, default=0.3, help="seconds that the 99th percentile may take")
    parser.add_argument("--client-defaults", action="store_true", help="let the client wait as it does by default")
    arguments = parser.parse_args()
    processes.stop_on_signals()
    binary = os.path.abspath(arguments.binary)
    directory = tempfile.mkdtemp(prefix="flotilla-transfers-")
    cluster = watch = None
    try:
        cluster = Cluster(binary, 3, Loopback(3), directory)
        cluster.start()
        cluster.create_topics([(TOPIC, 1, {})])
        cluster.wait_until_whole()
        watch = Watch(cluster.addresses, {} if arguments.client_defaults else EAGER)
        gaps = measure(binary, cluster, watch, arguments.transfers)
    finally:
        if watch:
            watch.stop()
        if cluster:
            cluster.kill()
        shutil.rmtree(directory, ignore_errors=True)
    p50, p99 = percentile(gaps, 0.5), percentile(gaps, 0.99)
    print(
        f"transfers: {len(gaps)}, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {max(gaps) * 1000:.0f} ms without an acknowledgement "
        f"({'client defaults' if arguments.client_defaults else 'eager client'}, {len(watch.failures)} records failed)")
    return 0 if p99 <= arguments.gate and not watch.failures else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        sys.exit(130)
