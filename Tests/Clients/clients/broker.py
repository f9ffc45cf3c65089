"""Starts, kills and restarts the broker under test, on ports of its own and in a directory of its own."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request

READY_LINE = re.compile(r"ready in .*kafka (?P<kafka>\S+)\s+console http://(?P<admin>\S+)")
START_SECONDS = 30
STOP_SECONDS = 30


class BrokerFailure(RuntimeError):
    """The broker did not start or stop as it should; the message carries the end of its log."""


class Broker:
    """One broker process. As a context manager it is killed, and what it wrote removed, at the end."""

    def __init__(self, binary, data_directory=None, environment=None, arguments=()):
        self.binary = binary
        self.directory = tempfile.mkdtemp(prefix="flotilla-clients-")
        self.data_directory = data_directory or os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "broker.log")
        self.environment = dict(environment or {})
        self.arguments = list(arguments)
        self.process = None
        self.kafka = "127.0.0.1:0"
        self.admin = "127.0.0.1:0"

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_):
        self.remove()

    @property
    def host(self):
        """The host that clients connect to."""
        return self.kafka.rsplit(":", 1)[0]

    @property
    def port(self):
        """The port that clients connect to."""
        return int(self.kafka.rsplit(":", 1)[1])

    def command(self):
        """The command line; after the first start it names the ports that the first start was given."""
        return [
            self.binary, "serve", "--data-dir", self.data_directory, "--kafka", self.kafka, "--admin", self.admin,
            *self.arguments,
        ]

    def start(self):
        """Starts the process and waits until it says that it serves."""
        if self.is_running():
            raise BrokerFailure("it runs already")
        position = os.path.getsize(self.log_path) if os.path.exists(self.log_path) else 0
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, **self.environment}, cwd=self.directory,
        )
        log.close()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BrokerFailure(f"broker ended with {self.process.returncode}: {self.log_tail(position)}")
            ready = READY_LINE.search(self.log(position))
            if ready:
                self.kafka = ready["kafka"].replace("localhost", "127.0.0.1")
                self.admin = ready["admin"].replace("localhost", "127.0.0.1")
            if ready and self.is_ready():
                return
            time.sleep(0.01)
        raise BrokerFailure(f"not ready after {START_SECONDS} s: {self.log_tail(position)}")

    def is_ready(self):
        """Whether `GET /readyz` answers 200."""
        try:
            with urllib.request.urlopen(f"http://{self.admin}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        """Ends the process as a crash does: at once."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        if self.process:
            self.process.wait()

    def stop(self):
        """Ends the process as a service manager does, and returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise BrokerFailure(f"did not stop within {STOP_SECONDS} s: {self.log_tail()}") from None

    def is_running(self):
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def log(self, position=0):
        """What the broker printed since `position`."""
        with open(self.log_path, "rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")

    def log_tail(self, position=0):
        """The end of the log, short enough for a report."""
        return self.log(position)[-1500:].strip() or "(it printed nothing)"

    def resident_bytes(self):
        """The process's resident memory."""
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def remove(self):
        """Kills the process and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
