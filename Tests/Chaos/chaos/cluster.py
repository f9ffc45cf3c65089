"""Broker processes that form a cluster, and what can be done to them."""

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request

from confluent_kafka.admin import AdminClient, NewTopic

from .processes import TIED
from .report import expect

START_SECONDS = 30
STOP_SECONDS = 40
WHOLE_SECONDS = 60
# Small journal files, so that they are recycled all the while and catching up goes beyond them.
SMALL_JOURNAL = {"FLOTILLA_JOURNAL_FILE_BYTES": str(2 << 20), "FLOTILLA_JOURNAL_LIVE_BYTES": str(16 << 20)}


class BrokerProcess:
    """One broker: its addresses, its directory, and its process while it has one."""

    def __init__(self, binary, number, fabric, directory):
        self.binary = binary
        self.number = number
        self.prefix = fabric.prefix(number)
        self.kafka, self.peer, self.admin = fabric.addresses(number)
        self.directory = os.path.join(directory, str(number))
        os.makedirs(self.directory)
        # A nemesis may put a disk of its own in its place before the start.
        self.data_directory = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "broker.log")
        self.environment = dict(SMALL_JOURNAL)
        self.process = None
        self.is_paused = False
        # Exit codes that the nemesis brings about; any other end is a finding.
        self.ends_foreseen = set()
        self.ends = []

    def start(self, join):
        """Starts the process; from the main thread only, since it ends with the thread that started it."""
        expect(self.process is None, f"broker {self.number} runs already")
        command = [
            *TIED, *self.prefix, self.binary, "serve", "--node-id", str(self.number), "--data-dir", self.data_directory,
            "--kafka", self.kafka, "--admin", self.admin,
        ]
        if len(join) > 1:
            command += ["--peer", self.peer, "--join", ",".join(join)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment}, cwd=self.directory)

    def is_running(self):
        """Whether the process lives; an end that nobody brought about is noted."""
        if self.process is not None and self.process.poll() is not None:
            self.note_end(self.process.returncode)
        return self.process is not None

    def note_end(self, code):
        """The process ended by itself."""
        if code not in self.ends_foreseen:
            self.ends.append(f"broker {self.number} ended by itself with {code}: {self.log_tail()}")
        self.process = None

    def is_ready(self):
        """Whether `GET /readyz` answers 200."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (OSError, urllib.error.URLError):
            return False

    def kill(self):
        """SIGKILL, and gone when this returns."""
        self.begin_kill()
        self.finish_kill()

    def begin_kill(self):
        """SIGKILL; an end before it is noted."""
        if self.is_running():
            self.process.send_signal(signal.SIGKILL)

    def finish_kill(self):
        """Waits until what was killed is gone."""
        if self.process is not None:
            self.process.wait()
            self.process = None
        self.is_paused = False

    def pause(self):
        """SIGSTOP."""
        if self.is_running():
            self.process.send_signal(signal.SIGSTOP)
            self.is_paused = True

    def resume(self):
        """SIGCONT."""
        if self.is_running():
            self.process.send_signal(signal.SIGCONT)
        self.is_paused = False

    def stop(self):
        """SIGTERM; returns the exit code, or what came of waiting for it."""
        self.begin_stop()
        return self.finish_stop()

    def begin_stop(self):
        """SIGTERM; an end before it is noted."""
        self.resume()
        if self.is_running():
            self.process.send_signal(signal.SIGTERM)

    def finish_stop(self):
        """Waits for the end, asked for or not; returns the exit code, or what came of waiting for it."""
        if self.process is None:
            return "it does not run"
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"it did not stop within {STOP_SECONDS} s"
        self.process = None
        return code

    def log_tail(self):
        """The end of the log, short enough for a report."""
        with open(self.log_path, "rb") as log:
            return log.read().decode("utf-8", "replace")[-1200:].strip() or "(it printed nothing)"


class Cluster:
    """Brokers 1 to `size`."""

    def __init__(self, binary, size, fabric, directory):
        self.brokers = [BrokerProcess(binary, number, fabric, directory) for number in range(1, size + 1)]
        self.join = [broker.peer for broker in self.brokers]
        self.fabric = fabric
        self.directory = directory
        self.places = []
        self.admin_client = None

    @property
    def size(self):
        """How many brokers there are."""
        return len(self.brokers)

    @property
    def addresses(self):
        """Where clients find the cluster."""
        return [broker.kafka for broker in self.brokers]

    def broker(self, number):
        """The broker of a number."""
        return self.brokers[number - 1]

    def start(self, brokers=None):
        """Starts brokers, or all, and waits until they are ready."""
        started = brokers or self.brokers
        for broker in started:
            broker.start(self.join)
        deadline = time.monotonic() + START_SECONDS
        for broker in started:
            while not broker.is_ready():
                expect(broker.is_running(), f"broker {broker.number} ended at its start: {broker.log_tail()}")
                expect(time.monotonic() < deadline, f"broker {broker.number} is not ready after {START_SECONDS} s: {broker.log_tail()}")
                time.sleep(0.02)

    def admin(self):
        """A client for questions about the cluster."""
        if self.admin_client is None:
            self.admin_client = AdminClient({
                "bootstrap.servers": ",".join(self.addresses), "log_level": 0, "socket.timeout.ms": 3000,
                "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 300, "socket.connection.setup.timeout.ms": 2000,
            })
        return self.admin_client

    def create_topics(self, topics):
        """Creates topics, given as name, partitions and settings, with a replica on up to three brokers."""
        replicas = min(3, self.size)
        new = [
            NewTopic(name, num_partitions=count, replication_factor=replicas, config=settings)
            for name, count, settings in topics]
        for name, future in self.admin().create_topics(new, operation_timeout=20).items():
            try:
                future.result(30)
            except Exception as failure:
                raise RuntimeError(f"topic {name} cannot be created: {failure}") from failure
        self.places = [(name, partition) for name, count, _ in topics for partition in range(count)]

    def partitions(self):
        """What Metadata says now of our partitions, by place; None where nobody answers."""
        try:
            topics = self.admin().list_topics(timeout=3).topics
        except Exception:  # whatever the library raises: nobody answers
            return None
        return {
            (name, partition): topics[name].partitions.get(partition) if name in topics else None
            for name, partition in self.places}

    def leader_of(self, place, seconds=20):
        """The broker that leads a partition and runs."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            partition = (self.partitions() or {}).get(place)
            if partition is not None and partition.leader > 0:
                leader = self.broker(partition.leader)
                if leader.is_running() and not leader.is_paused:
                    return leader
            time.sleep(0.05)
        raise RuntimeError(f"{place} has no leader that runs within {seconds} s")

    def what_is_missing(self):
        """Why the cluster is not whole: a broker that does not run, a partition without a leader or behind; empty where it is."""
        for broker in self.brokers:
            if not broker.is_running():
                return f"broker {broker.number} does not run"
            if not broker.is_ready():
                return f"broker {broker.number} is not ready"
        partitions = self.partitions()
        if partitions is None:
            return "nobody answers Metadata"
        for place, partition in partitions.items():
            if partition is None or partition.leader < 1:
                return f"{place} has no leader"
            if sorted(partition.isrs) != sorted(partition.replicas):
                return f"{place} is in sync on {sorted(partition.isrs)} of {sorted(partition.replicas)}"
        return ""

    def wait_until_whole(self, seconds=WHOLE_SECONDS):
        """Waits until every broker is ready and every replica in sync; returns the seconds it took."""
        begin = time.monotonic()
        while True:
            missing = self.what_is_missing()
            if not missing:
                return time.monotonic() - begin
            expect(time.monotonic() - begin < seconds, f"after {seconds} s: {missing}")
            time.sleep(0.1)

    def unforeseen_ends(self):
        """Processes that ended though nobody ended them."""
        for broker in self.brokers:
            broker.is_running()
        return [end for broker in self.brokers for end in broker.ends]

    def stop(self):
        """Stops all at once, as a service manager does; returns what was not as it should be."""
        for broker in self.brokers:
            broker.begin_stop()
        codes = {broker.number: broker.finish_stop() for broker in self.brokers}
        return [f"broker {number}: {code}" for number, code in codes.items() if code != 0]

    def kill(self):
        """Ends all at once."""
        for broker in self.brokers:
            broker.begin_kill()
        for broker in self.brokers:
            broker.finish_kill()
