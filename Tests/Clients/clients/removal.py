"""A broker that the cluster has removed notices that, and serves nobody what it last knew."""

import contextlib
import json
import shutil
import subprocess
import time

from .broker import BrokerFailure
from .cluster import start
from .report import expect, expect_equal

SENTENCE = "the cluster has removed broker"
NOTICE_SECONDS = 20
REMOVED_EXIT_CODE = 67


def run(binary, report):
    """Removes a broker that runs, starts it again, removes one that is down, and lets both come back empty."""
    with contextlib.ExitStack() as stack:
        brokers = start(binary, stack)
        with report.check("removal", "a broker that is removed stops by itself and says why"):
            remove(binary, brokers, 3)
            expect_equal(end_of(brokers[2]), REMOVED_EXIT_CODE, "exit code of the removed broker")
            expect(SENTENCE in brokers[2].log(), f"its log does not say why: {brokers[2].log_tail()}")
        with report.check("removal", "started again it refuses, and serves nobody before"):
            expect_refused_start(brokers[2])
        with report.check("removal", "with an empty disk it joins again"):
            join_again(binary, brokers, 3)
        with report.check("removal", "a broker that was removed while it was down refuses to start, whoever led"):
            # The next leader calls on the one that it takes over from until the group has let it go.
            for number in (3, 2, 3):
                leave_while_down(binary, brokers, number)
                join_again(binary, brokers, number)
            leave_while_down(binary, brokers, 2)
        with report.check("removal", "the others serve on, and a restart of one finds its place"):
            expect_equal(brokers[2].stop(), 0, "exit code of a clean stop")
            brokers[2].start()
            expect(brokers[0].is_ready() and brokers[0].is_running(), "broker 1 is not ready")


def wait_for_voters(binary, brokers, wanted):
    """The newcomer votes, so that the metadata has a quorum without another one."""
    deadline = time.monotonic() + NOTICE_SECONDS
    command = [binary, "partition", "raft", "--brokers", brokers[0].kafka, "--output", "json"]
    while True:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
        voters = sorted(each["broker"] for each in map(json.loads, lines) if each["role"] != "learner")
        if voters == wanted:
            return
        expect(time.monotonic() < deadline, f"the metadata's voters are {voters}")
        time.sleep(0.1)


def leave_while_down(binary, brokers, number):
    """A broker dies, is removed, and may not start again."""
    brokers[number - 1].kill()
    remove(binary, brokers, number)
    expect_refused_start(brokers[number - 1])


def join_again(binary, brokers, number):
    """A removed broker comes back with an empty disk, and votes like the others."""
    shutil.rmtree(brokers[number - 1].data_directory)
    brokers[number - 1].start()
    wait_for_voters(binary, brokers, [1, 2, 3])


def remove(binary, brokers, number):
    """By command."""
    command = [binary, "cluster", "remove", str(number), "--brokers", brokers[0].kafka]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    expect_equal(done.returncode, 0, f"exit code of `cluster remove {number}` ({done.stderr.strip()})")


def end_of(broker):
    """The exit code of a broker that is to end by itself."""
    deadline = time.monotonic() + NOTICE_SECONDS
    while broker.is_running():
        expect(time.monotonic() < deadline, f"it runs on: {broker.log_tail()}")
        time.sleep(0.05)
    return broker.process.returncode


def expect_refused_start(broker):
    """The process ends with the sentence, and never says that it is ready."""
    position = len(broker.log().encode())
    try:
        broker.start()
    except BrokerFailure:
        expect_equal(broker.process.poll(), REMOVED_EXIT_CODE, "exit code of a removed broker that is started again")
        expect(SENTENCE in broker.log(position), f"it does not say why: {broker.log_tail(position)}")
        return
    raise AssertionError("the removed broker became ready")
