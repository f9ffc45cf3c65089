"""How long a producer waits when a leader dies: from SIGKILL to the first new acknowledgement, many times.

    python -m chaos.failover --binary PATH --kills 100

One partition, one idempotent producer with acks=all that sends a record every 2 ms. A kill is timed from the moment at which the signal was
sent to the first acknowledgement of a record that was sent after it; acknowledgements that were under way do not count. Between kills the
dead broker is started again and the cluster becomes whole. The exit code is 1 if the 99th percentile is beyond the gate.
"""

import argparse
import math
import os
import shutil
import signal
import sys
import tempfile
import threading
import time

from confluent_kafka import Producer

from . import processes
from .cluster import Cluster
from .fabrics import Loopback

TOPIC = "failover"
SEND_SECONDS = 0.002
RECOVERY_SECONDS = 60
# What a client waits by itself would hide what the cluster needs; --client-defaults shows what it makes of it. When the only broker that
# librdkafka is connected to dies, it has nobody to ask for metadata at that moment, takes the question for asked, and asks again from a
# timer of up to a second; so this client asks all the time.
EAGER = {
    "topic.metadata.refresh.interval.ms": 50,
    "retry.backoff.ms": 10, "retry.backoff.max.ms": 50, "reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 50,
    "topic.metadata.refresh.fast.interval.ms": 10, "socket.connection.setup.timeout.ms": 1000,
}


class Pulse:
    """A producer that sends at an even rate and knows when each record was sent that was acknowledged."""

    def __init__(self, addresses, settings):
        self.producer = Producer({
            "bootstrap.servers": ",".join(addresses), "enable.idempotence": True, "acks": "all", "linger.ms": 0, "log_level": 0,
            "message.timeout.ms": 600_000, "socket.timeout.ms": 5000, **settings,
        })
        self.is_stopping = threading.Event()
        self.condition = threading.Condition()
        self.newest = 0.0
        self.arrived = 0.0
        self.killed = math.inf
        self.failures = []
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        """Sends and takes answers."""
        due = time.monotonic()
        while not self.is_stopping.is_set():
            now = time.monotonic()
            if now >= due:
                due = max(due + SEND_SECONDS, now - 1)
                try:
                    self.producer.produce(
                        TOPIC, b"pulse", on_delivery=lambda error, _, sent=now: self.delivered(error, sent))
                except BufferError:
                    pass
            self.producer.poll(max(0.0, min(SEND_SECONDS, due - time.monotonic())))
        self.producer.flush(10)

    def delivered(self, error, sent):
        """Notes the first acknowledgement of a record that was sent after the kill."""
        if error:
            self.failures.append(str(error))
            return
        with self.condition:
            if sent > self.killed and self.arrived == 0:
                self.arrived = time.monotonic()
            self.newest = max(self.newest, sent)
            self.condition.notify_all()

    def is_alive_at(self, moment, seconds):
        """Whether a record sent after a moment is acknowledged in time."""
        with self.condition:
            return self.condition.wait_for(lambda: self.newest > moment, seconds)

    def time_kill(self, process):
        """Kills, and returns the seconds to the first new acknowledgement."""
        with self.condition:
            self.arrived = 0.0
            self.killed = time.monotonic()
        process.send_signal(signal.SIGKILL)
        with self.condition:
            if not self.condition.wait_for(lambda: self.arrived > 0, RECOVERY_SECONDS):
                raise RuntimeError(f"no acknowledgement within {RECOVERY_SECONDS} s after the kill")
            taken, self.killed = self.arrived - self.killed, math.inf
        process.wait()
        return taken

    def stop(self):
        """Ends the producer."""
        self.is_stopping.set()
        self.thread.join()


def measure(cluster, pulse, kills):
    """The seconds of each kill."""
    taken = []
    for index in range(kills):
        if not pulse.is_alive_at(time.monotonic(), RECOVERY_SECONDS):
            raise RuntimeError(f"nothing is acknowledged before kill {index + 1}")
        leader = cluster.leader_of((TOPIC, 0))
        if cluster.size == 1:
            # Nobody takes over: what is timed is the start.
            taken.append(time_restart(cluster, pulse, leader))
        else:
            taken.append(pulse.time_kill(leader.process))
            leader.kill()
            cluster.start([leader])
        cluster.wait_until_whole()
        print(f"kill {index + 1:>3}: broker {leader.number}, {taken[-1] * 1000:.0f} ms", flush=True)
        time.sleep(0.3)
    return taken


def time_restart(cluster, pulse, broker):
    """One broker: killed and started at once."""
    with pulse.condition:
        pulse.arrived, pulse.killed = 0.0, time.monotonic()
    broker.kill()
    cluster.start([broker])
    with pulse.condition:
        if not pulse.condition.wait_for(lambda: pulse.arrived > 0, RECOVERY_SECONDS):
            raise RuntimeError(f"no acknowledgement within {RECOVERY_SECONDS} s after the restart")
        taken, pulse.killed = pulse.arrived - pulse.killed, math.inf
    return taken


def percentile(values, share):
    """The smallest value that a share of all does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def main():
    """Reads the command line, measures, and prints one line of the result."""
    parser = argparse.ArgumentParser(prog="chaos.failover")
    parser.add_argument("--binary", required=True, help="the flotilla executable")
    parser.add_argument("--kills", type=int, default=100, help="how often a leader is killed")
    parser.add_argument("--brokers", type=int, default=3, help="brokers in the cluster")
    parser.add_argument("--gate", type=float, default=1.0, help="seconds that the 99th percentile may take")
    parser.add_argument("--client-defaults", action="store_true", help="let the client wait as it does by default")
    arguments = parser.parse_args()
    processes.stop_on_signals()
    directory = tempfile.mkdtemp(prefix="flotilla-failover-")
    cluster = pulse = None
    try:
        cluster = Cluster(os.path.abspath(arguments.binary), arguments.brokers, Loopback(arguments.brokers), directory)
        cluster.start()
        cluster.create_topics([(TOPIC, 1, {})])
        cluster.wait_until_whole()
        pulse = Pulse(cluster.addresses, {} if arguments.client_defaults else EAGER)
        taken = measure(cluster, pulse, arguments.kills)
    finally:
        if pulse:
            pulse.stop()
        if cluster:
            cluster.kill()
        shutil.rmtree(directory, ignore_errors=True)
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    print(
        f"failover: {len(taken)} kills, p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {max(taken) * 1000:.0f} ms from SIGKILL "
        f"to the first new acknowledgement ({'client defaults' if arguments.client_defaults else 'eager client'}, "
        f"{len(pulse.failures)} records failed)")
    return 0 if p99 <= arguments.gate and not pulse.failures else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
