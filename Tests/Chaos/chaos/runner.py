"""One nemesis against one cluster: start, work, strike, heal, and judge."""

import os
import random
import re
import shutil
import tempfile
import time

from .cluster import Cluster
from .disks import mounts_below
from .fabrics import Loopback, Namespaces, remains
from .history import RULES, History, name_of, told
from .processes import CAP_NET_ADMIN, CAP_SYS_ADMIN, children, may
from .processes import run as run_command
from .replicas import differences, new_lives
from .report import expect, expect_equal
from .workload import Workload

# Name, partitions, settings: one topic as it is by default, one with many short segments and batches as clients send them.
TOPICS = (
    ("chaos-default", 3, {}),
    ("chaos-segments", 2, {"segment.bytes": str(1 << 20), "compression.type": "producer"}),
)
# The process that a directory belongs to stands behind it.
DIRECTORY_PREFIX = "flotilla-chaos-"
WARM_SECONDS = 30
ANSWER_SECONDS = 60
READ_SECONDS = 180
# Where the cluster does not become whole there is little to wait for; what can still be read is judged all the same.
BROKEN_SECONDS = 15


def run(nemesis_class, arguments, seconds, report):
    """Runs one nemesis for so many seconds; all that is left behind is a finding."""
    name = nemesis_class.name
    reason = why_not(nemesis_class, arguments.brokers)
    if reason:
        report.skip(name, nemesis_class.sentence, reason)
        return
    directory = tempfile.mkdtemp(prefix=f"{DIRECTORY_PREFIX}{os.getpid()}-")
    try:
        with report.check(name, "the run comes to its end"):
            run_in(directory, nemesis_class, arguments, seconds, report)
    finally:
        if arguments.keep:
            kept = directory.replace(DIRECTORY_PREFIX, "flotilla-kept-")
            os.rename(directory, kept)
            print(f"     {name}: logs and data stay in {kept}", file=report.stream, flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    with report.check(name, "no process, namespace, mount or file is left"):
        expect_equal(sorted(children()), [], "processes")
        expect_equal(remains(), [], "namespaces and links")
        expect_equal(mounts_below(directory), [], "mounts")
        expect(not os.path.exists(directory), f"{directory} is still there")


def sweep():
    """Removes what a run left that was killed: the directories and mounts of processes that do not live."""
    root = tempfile.gettempdir()
    for name in os.listdir(root):
        match = re.fullmatch(rf"{DIRECTORY_PREFIX}(\d+)-\w+", name)
        if match and not os.path.exists(f"/proc/{match[1]}"):
            directory = os.path.join(root, name)
            for mount in mounts_below(directory):
                run_command("umount", "-l", mount, check=False)
            shutil.rmtree(directory, ignore_errors=True)


def why_not(nemesis_class, brokers):
    """Why a nemesis cannot run here; empty where it can."""
    if brokers < nemesis_class.least_brokers:
        return f"it takes {nemesis_class.least_brokers} brokers"
    if nemesis_class.needs_root and not may(CAP_SYS_ADMIN):
        return "it takes root"
    if nemesis_class.needs_network and not may(CAP_NET_ADMIN):
        return "it takes the right to make networks"
    if nemesis_class.needs_device and not os.path.exists(nemesis_class.needs_device):
        return f"it takes {nemesis_class.needs_device}"
    return ""


def run_in(directory, nemesis_class, arguments, seconds, report):
    """Builds the world, lets the story happen in it, and takes it down whatever happens."""
    size = arguments.brokers + nemesis_class.extra_brokers
    fabric = (Namespaces if nemesis_class.needs_network else Loopback)(size)
    cluster = nemesis = None
    try:
        fabric.up()
        cluster = Cluster(arguments.binary, size, fabric, directory)
        nemesis = nemesis_class(cluster, random.Random(f"{arguments.seed} {nemesis_class.name}"))
        failed_before = report.failed
        nemesis.prepare()
        story(cluster, nemesis, arguments, seconds, report)
        if report.failed > failed_before:
            print("     " + "\n     ".join(nemesis.events[-20:]), file=report.stream)
            for broker in cluster.brokers:
                print(f"     broker {broker.number}: {broker.log_tail()[-600:]}", file=report.stream, flush=True)
    finally:
        if cluster:
            cluster.kill()
        if nemesis:
            nemesis.tidy()
        fabric.down()


def story(cluster, nemesis, arguments, seconds, report):
    """What happens, and the checks in their order."""
    name = nemesis.name
    with report.check(name, f"started, the cluster is whole and creates topics (brokers: {cluster.size})"):
        cluster.start()
        cluster.create_topics(TOPICS)
        cluster.wait_until_whole()
    if report.rows[-1][2] is False:
        return
    history = History(list(cluster.places))
    workload = Workload(cluster.addresses, history, arguments.rate)
    workload.start()
    try:
        workload.wait_until_warm(WARM_SECONDS)
        workload.progress.begin()
        with report.check(name, f"{nemesis.sentence} (seed {arguments.seed})"):
            nemesis.strike(time.monotonic() + seconds)
        after(cluster, nemesis, workload, report)
    finally:
        workload.abandon()


def after(cluster, nemesis, workload, report):
    """Heals, lets everything come to rest, and judges."""
    name, history = nemesis.name, workload.history
    with report.check(name, "healed, the cluster is whole again"):
        expect(nemesis.count > 0, "nothing went wrong at all")
        nemesis.heal()
        cluster.wait_until_whole()
    is_whole = report.rows[-1][2]
    answer_seconds, read_seconds = (ANSWER_SECONDS, READ_SECONDS) if is_whole else (BROKEN_SECONDS, BROKEN_SECONDS)
    judge_silence(cluster, nemesis, workload, report)
    time.sleep(1)
    with report.check(name, "every record is answered, none with an error"):
        left = workload.stop_producing(answer_seconds)
        expect_equal(left, 0, "records without an answer")
        expect(not history.failed, f"{len(history.failed)} failed: {list(history.failed.items())[:2]}")
    with report.check(name, "the readers have seen all that was acknowledged"):
        expect_equal(workload.wait_for_readers(answer_seconds), [], "what they miss")
    workload.stop_reading()
    with report.check(name, "readers were told of no error that asks for a person"):
        problems = [problem for reading in history.readings for problem in reading.problems]
        expect(not problems, told(problems))
    with report.check(name, "everything can be read from start to end"):
        workload.read_all(read_seconds)
    judge_history(name, history, report)
    with report.check(name, "no broker ended by itself"):
        ends = cluster.unforeseen_ends()
        expect(not ends, "; ".join(ends))
    judge_replicas(cluster, name, report)
    print(
        f"     {name}: struck {nemesis.count} times, {len(history.acknowledged)} acknowledged, "
        f"{sum(history.sent.values())} sent", file=report.stream, flush=True)


def judge_silence(cluster, nemesis, workload, report):
    """How long a partition was acknowledged nothing; one broker alone has no one to take over."""
    silence, place = workload.progress.longest_silence()
    text = f"the longest time without an acknowledgement was {silence:.2f} s, in {name_of(place)}"
    bound = nemesis.longest_silence if cluster.size > 1 else None
    if bound is None:
        print(f"     {nemesis.name}: {text}", file=report.stream, flush=True)
        return
    with report.check(nemesis.name, f"{text}; the bound is {bound:.0f} s"):
        expect(silence <= bound, f"{silence:.2f} s")


def judge_history(name, history, report):
    """The four rules."""
    seen = sum(len(reading.records) for reading in history.readings)
    for rule, find in RULES.items():
        with report.check(name, f"{len(history.acknowledged)} acknowledged and {seen} seen records: none {rule}"):
            expect(history.acknowledged, "nothing was acknowledged at all")
            findings = find(history)
            expect(not findings, told(findings))


def judge_replicas(cluster, name, report):
    """A clean stop, and then the files."""
    with report.check(name, "asked to stop, every broker ends with 0"):
        problems = cluster.stop()
        expect(not problems, "; ".join(problems))
    if cluster.size == 1:
        return
    with report.check(name, "the segments of all replicas hold the same bytes"):
        found, files, compared = differences({broker.number: broker.data_directory for broker in cluster.brokers})
        expect(files > 0 and compared > 0, "there is nothing to compare")
        expect(not found, told(found))
    with report.check(name, "no producer had to begin anew"):
        found, count = new_lives({broker.number: broker.data_directory for broker in cluster.brokers})
        expect(count > 0, "no batch was found")
        expect(not found, told(found))
