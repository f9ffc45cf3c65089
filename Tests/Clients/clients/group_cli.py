"""Our own command line: as a member of groups beside librdkafka, and as the tool that looks after them."""

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict

from confluent_kafka import Consumer

from . import batches
from .group_history import Group
from .group_mixed import Writer
from .group_wire import GroupConnection
from .report import expect, expect_equal
from .wire import NONE

TOPIC, GROUP, PARTITIONS = "command", "command", 6
TENDED, TENDED_GROUP, TENDED_PARTITIONS, TENDED_RECORDS = "tended", "tended", 2, 10
COOPERATIVE_PARTITIONS = 4
SESSION_MILLIS = 6000
GRACE_SECONDS = 10
SHARE_SECONDS = 40
END_SECONDS = 40
COMMAND_SECONDS = 30
NOT_FOUND, DIFFERS, INTERRUPTED = 3, 8, 130


class CommandMember:
    """`flotilla consume -g` as a process; what it prints is noted as (partition, offset) and number."""

    def __init__(self, binary, brokers, topic, group, *rest):
        self.rows = []
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [binary, "consume", topic, "-g", group, "-b", brokers, "-o", "start", "-f", "%p %o %s\\n",
             "--session-timeout", f"{SESSION_MILLIS}ms", *rest],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.reader = threading.Thread(target=self.listen)
        self.reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.process.stdout.close()
        self.errors.close()

    def listen(self):
        """Notes each line; one that was cut by a kill is none."""
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.rows.append(tuple(map(int, line.split())))

    def reads(self):
        """{partition: {offset: number}} of all that it has printed."""
        found = defaultdict(dict)
        for partition, offset, number in list(self.rows):
            found[partition][offset] = number
        return found

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.wait()
        self.reader.join()

    def end(self, number=None):
        """Its exit code, after a signal if one is named."""
        if number:
            self.process.send_signal(number)
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            expect(False, f"flotilla consume does not end; it said {self.problems()}")
        self.reader.join()
        return code

    def problems(self):
        """The end of what it said on standard error."""
        self.errors.seek(max(0, os.fstat(self.errors.fileno()).st_size - 600))
        return self.errors.read().decode("utf-8", "replace").strip()


class Tool:
    """Runs `flotilla` commands against one broker."""

    def __init__(self, binary, brokers):
        self.binary = binary
        self.brokers = brokers

    def run(self, *arguments):
        """(exit code, standard output, standard error)."""
        command = [self.binary, *arguments, "-b", self.brokers]
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def good(self, *arguments):
        """What it prints; it must end well."""
        code, output, errors = self.run(*arguments)
        expect(code == 0, f"{' '.join(arguments)} ends with {code}: {errors.strip()}")
        return output

    def objects(self, *arguments):
        """The same as JSON, one object a line."""
        return [json.loads(line) for line in self.good(*arguments, "-o", "json").splitlines()]

    def bad(self, code, words, *arguments):
        """It must end with this code and say these words."""
        seen, _, errors = self.run(*arguments)
        expect(seen == code and words in errors, f"{' '.join(arguments)} ends with {seen}, not {code} and {words!r}: {errors.strip()}")


def run(broker, report):
    """Members that come and die, then the commands."""
    tool = Tool(broker.binary, broker.kafka)
    check = lambda name: report.check("groups, command", name)
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.create_topic(TOPIC, PARTITIONS), NONE, "error of create topic")
        expect_equal(connection.create_topic(TENDED, TENDED_PARTITIONS), NONE, "error of create topic")
    with check("consume -g shares a group with librdkafka, each is killed, every record is seen"):
        expect_shared(broker, tool)
    with check("it shares a cooperative group, led by either"):
        expect_cooperative(broker, tool)
    with check("it reads to the end, commits, and does not read it again"):
        expect_read_once(broker, tool)
    with check("list, describe and lag say what is so"):
        expect_told(broker, tool)
    with check("explain says what happened, and the broker's own lag is that of the tool"):
        expect_explained(broker, tool)
    with check("seek moves a group without members, and no other"):
        expect_moved(broker, tool)
    with check("delete deletes a group without members, and no other"):
        expect_deleted(broker, tool)
    with check("the consumer protocol works where the broker has it, and is named where not"):
        expect_modern(broker, tool)


def fill(connection, count, start):
    """`count` numbers in each partition, from `start` on."""
    for partition in range(TENDED_PARTITIONS):
        batch = batches.build([b"%d" % number for number in range(start, start + count)])
        expect_equal(connection.produce(TENDED, partition, batch), (NONE, start), "answer to produce")


# Members.


def shares(tool, group):
    """How many partitions each member has, by client, once the group is there and stable."""
    code, output, errors = tool.run("group", "describe", group, "-o", "json")
    expect(code in (0, NOT_FOUND), f"group describe ends with {code}: {errors.strip()}")
    found = json.loads(output) if code == 0 else {"state": "Dead"}
    if found["state"] != "Stable":
        return []
    return sorted((member["client"], len(member["partitions"])) for member in found["members"])


def wait_for_shares(tool, wanted, seconds):
    """Waits until the members share the partitions like this."""
    deadline = time.monotonic() + seconds
    while (seen := shares(tool, GROUP)) != wanted:
        expect(time.monotonic() < deadline, f"after {seconds} s the shares are {seen}, not {wanted}")
        time.sleep(0.1)


def expect_shared(broker, tool):
    """Two members, either of which dies without a word; what was written is read all the same, and committed."""
    half = PARTITIONS // 2
    both = [("flotilla", half), ("rdkafka", half)]
    commands = []
    with Group(broker.kafka, GROUP, TOPIC, PARTITIONS, SESSION_MILLIS) as group, \
            Writer(broker.kafka, TOPIC, PARTITIONS) as writer:
        group.add("confluent-kafka")
        wait = lambda wanted, seconds=SHARE_SECONDS: wait_for_shares(tool, wanted, seconds)

        def start():
            commands.append(CommandMember(broker.binary, broker.kafka, TOPIC, GROUP))
            wait(both)
            time.sleep(1)

        try:
            start()
            commands[0].kill()
            wait([("rdkafka", PARTITIONS)], SESSION_MILLIS / 1000 + GRACE_SECONDS)
            start()
            group.members[0].kill()
            wait([("flotilla", PARTITIONS)], SESSION_MILLIS / 1000 + GRACE_SECONDS)
            group.add("confluent-kafka")
            wait(both)
            wanted = writer.finish()

            def reads():
                found = group.all_reads()
                for member in commands:
                    for partition, rows in member.reads().items():
                        found[partition].update(rows)
                return found

            deadline = time.monotonic() + END_SECONDS
            while any(len(reads()[partition]) < count for partition, count in wanted.items()):
                expect(time.monotonic() < deadline, f"read {[len(each) for each in reads().values()]} of {wanted}: {commands[1].problems()}")
                time.sleep(0.1)
            expect_equal(commands[1].end(signal.SIGINT), INTERRUPTED, "exit code after an interrupt")
            wait([("rdkafka", PARTITIONS)], GRACE_SECONDS)
            group.members[1].leave()
            found = reads()
            for partition, count in wanted.items():
                numbers = [found[partition].get(offset) for offset in range(count)]
                expect_equal(numbers, list(range(count)), f"numbers read in partition {partition}")
            with GroupConnection(broker.host, broker.port) as connection:
                expect_equal(connection.committed_offsets(GROUP, TOPIC, list(wanted)), wanted, "committed offsets at the end")
        finally:
            for member in commands:
                member.__exit__()


class CooperativeMember:
    """librdkafka with the cooperative strategy, read by a thread."""

    def __init__(self, brokers, topic, group):
        self.rows = []
        self.is_stopping = threading.Event()
        self.consumer = Consumer({
            "bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "log_level": 0,
            "partition.assignment.strategy": "cooperative-sticky", "session.timeout.ms": SESSION_MILLIS,
        })
        self.consumer.subscribe([topic])
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        """Reads until told to stop; it commits by itself."""
        while not self.is_stopping.is_set():
            self.rows += [(each.partition(), each.offset()) for each in self.consumer.consume(500, 0.1) if not each.error()]
        self.consumer.close()

    def stop(self):
        """Leaves the group."""
        self.is_stopping.set()
        self.thread.join()


def expect_cooperative(broker, tool):
    """The one who was there first assigns; what stays with it is read on."""
    half = COOPERATIVE_PARTITIONS // 2
    rest = ("--assignor", "cooperative-sticky")
    for number, is_ours_first in enumerate((True, False)):
        topic = group = f"cooperative-{number}"
        with GroupConnection(broker.host, broker.port) as connection:
            expect_equal(connection.create_topic(topic, COOPERATIVE_PARTITIONS), NONE, "error of create topic")
        other = command = None
        try:
            with Writer(broker.kafka, topic, COOPERATIVE_PARTITIONS) as writer:
                for is_ours in (is_ours_first, not is_ours_first):
                    if is_ours:
                        command = CommandMember(broker.binary, broker.kafka, topic, group, *rest)
                    else:
                        other = CooperativeMember(broker.kafka, topic, group)
                    wait_for_members(tool, group, 1 if is_ours == is_ours_first else 2)
                    time.sleep(0.5)
                deadline = time.monotonic() + SHARE_SECONDS
                while shares(tool, group) != [("flotilla", half), ("rdkafka", half)]:
                    expect(time.monotonic() < deadline, f"the shares are {shares(tool, group)}")
                    time.sleep(0.1)
                expect_equal(tool.objects("group", "describe", group)[0]["assignor"], "cooperative-sticky", "assignor")
                time.sleep(1)
                wanted = writer.finish()
            everything = sorted((partition, offset) for partition, count in wanted.items() for offset in range(count))
            deadline = time.monotonic() + END_SECONDS
            rows = lambda: [row[:2] for row in list(command.rows)] + list(other.rows)
            while len(set(rows())) < len(everything):
                expect(time.monotonic() < deadline, f"read {len(set(rows()))} of {len(everything)}: {command.problems()}")
                time.sleep(0.1)
            expect_equal(command.end(signal.SIGINT), INTERRUPTED, "exit code after an interrupt")
            # Twice is what a commit leaves that was refused while others joined.
            expect_equal(sorted(set(rows())), everything, "records, each of them at least once")
        finally:
            if command:
                command.__exit__()
            if other:
                other.stop()


def wait_for_members(tool, group, count):
    """Waits until so many members have a share."""
    deadline = time.monotonic() + SHARE_SECONDS
    while len([each for each in shares(tool, group) if each[1]]) < count:
        expect(time.monotonic() < deadline, f"members: {shares(tool, group)}")
        time.sleep(0.1)


def expect_read_once(broker, tool):
    """Three runs: all there is, nothing, and so many as are asked for."""
    with GroupConnection(broker.host, broker.port) as connection:
        fill(connection, TENDED_RECORDS, 0)
    read = lambda *rest: tool.good("consume", TENDED, "-g", TENDED_GROUP, "-e", "-f", "%p %o\\n", *rest).splitlines()
    wanted = sorted(f"{partition} {offset}" for partition in range(TENDED_PARTITIONS) for offset in range(TENDED_RECORDS))
    expect_equal(sorted(read()), wanted, "lines of the first run")
    expect_equal(read(), [], "lines of the second run")
    with GroupConnection(broker.host, broker.port) as connection:
        fill(connection, TENDED_RECORDS, TENDED_RECORDS)
        seen = read("-n", "3")
        expect_equal(len(seen), 3, "lines of -n 3")
        committed = connection.committed_offsets(TENDED_GROUP, TENDED, list(range(TENDED_PARTITIONS)))
        expect_equal(sum(committed.values()), TENDED_PARTITIONS * TENDED_RECORDS + 3, "records committed after -n 3")
    tool.bad(2, "chooses partitions itself", "consume", TENDED, "-g", TENDED_GROUP, "-p", "0")
    tool.bad(2, "flotilla group seek", "consume", TENDED, "-g", TENDED_GROUP, "-o", "5")
    tool.bad(NOT_FOUND, "does not exist", "consume", "tended-not-there", "-g", TENDED_GROUP)


# Commands.


def expect_told(broker, tool):
    """The group with what was left by the check before, then with a member that has read all."""
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.commit(TENDED_GROUP, TENDED, {0: 12, 1: 20}), {0: NONE, 1: NONE}, "errors of a commit")
    found = {each["group"]: each for each in tool.objects("group", "list")}[TENDED_GROUP]
    expect_equal((found["state"], found["members"], found["coordinator"]), ("Empty", 0, 1), "the group in the list")
    *parts, whole = tool.objects("group", "lag", TENDED_GROUP)
    rows = [(each["topic"], each["partition"], each["committed"], each["end"], each["lag"], each["owner"]) for each in parts]
    expect_equal(rows, [(TENDED, 0, 12, 20, 8, None), (TENDED, 1, 20, 20, 0, None)], "lag")
    expect_equal(whole["lag"], 8, "lag in all")
    expect(parts[0]["seconds"] > 0 and parts[1]["seconds"] == 0, f"ages {[each['seconds'] for each in parts]}")
    expect_equal(whole["seconds"], parts[0]["seconds"], "age in all")
    with CommandMember(broker.binary, broker.kafka, TENDED, TENDED_GROUP) as member:
        deadline = time.monotonic() + SHARE_SECONDS
        while tool.objects("group", "lag", TENDED_GROUP)[-1]["lag"]:
            expect(time.monotonic() < deadline, f"the lag stays: {member.problems()}")
            time.sleep(0.1)
        group = tool.objects("group", "describe", TENDED_GROUP)[0]
        expect_equal((group["state"], group["type"], group["assignor"]), ("Stable", "classic", "range"), "the group described")
        (only,) = group["members"]
        expect_equal((only["client"], only["host"], len(only["partitions"])), ("flotilla", "127.0.0.1", 2), "its member")
        table = tool.good("group", "describe", TENDED_GROUP)
        expect(f"{TENDED}:0-1" in table and only["member"] in table, f"table {table}")
        owners = {each["owner"] for each in tool.objects("group", "lag", TENDED_GROUP)[:-1]}
        expect_equal(owners, {"flotilla@127.0.0.1"}, "owners")
        watched = subprocess.Popen(
            [tool.binary, "group", "lag", TENDED_GROUP, "--watch", "-o", "json", "-b", tool.brokers],
            stdout=subprocess.PIPE, text=True)
        lines = [json.loads(watched.stdout.readline()) for _ in range(6)]
        watched.kill()
        watched.wait()
        watched.stdout.close()
        expect_equal([each["trend"] for each in lines], [None] * 3 + [0] * 3, "trends of two looks")
        tool.bad(1, "has members", "group", "seek", TENDED_GROUP, "--to", "start")
        tool.bad(1, "has members", "group", "delete", TENDED_GROUP)
        tool.bad(1, "has members", "group", "delete", TENDED_GROUP, "--dry-run")
        expect_equal(member.end(signal.SIGTERM), INTERRUPTED, "exit code after a signal")
    for command in ("describe", "lag", "delete"):
        tool.bad(NOT_FOUND, "group tended-not-there does not exist", "group", command, "tended-not-there")


def expect_explained(broker, tool):
    """By the group that the checks before left: members came and went, and have read all."""
    where = ("--admin", broker.admin)
    history = tool.objects("explain", "group", TENDED_GROUP, *where)
    kinds = [each["event"] for each in history]
    expect_equal(kinds[:3], ["joined", "rebalance_began", "rebalance_ended"], "the first events")
    expect_equal(kinds[-2:], ["left", "emptied"], "the last events")
    ended = [each for each in history if each["event"] == "rebalance_ended"]
    facts = {(each["members"], each["partitions"], each["strategy"]) for each in ended}
    expect_equal(facts, {(1, TENDED_PARTITIONS, "range")}, "what rebalances ended with")
    expect(all(each["milliseconds"] >= 0 for each in ended), f"durations of {ended}")
    times = [each["time"] for each in history]
    expect_equal(times, sorted(times), "order of the events")
    lines = tool.good("explain", "group", TENDED_GROUP, *where).splitlines()
    expect_equal(len(lines), len(history), "lines")
    expect(lines[0].endswith("(client flotilla, /127.0.0.1) joined"), f"first line {lines[0]}")
    expect_equal(tool.good("explain", "group", TENDED_GROUP, "--since", "now", *where), "", "what happened since now")
    killed = [each["text"] for each in tool.objects("explain", "group", GROUP, *where)]
    expect(any("was given up: it was silent" in each for each in killed), f"nobody was given up: {killed}")
    tool.bad(NOT_FOUND, "there is no group tended-not-there", "explain", "group", "tended-not-there", *where)
    tool.bad(2, "is no time", "explain", "group", TENDED_GROUP, "--since", "soon", *where)
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.commit(TENDED_GROUP, TENDED, {0: 12}), {0: NONE}, "error of a commit")
    *parts, whole = tool.objects("group", "lag", TENDED_GROUP)
    with urllib.request.urlopen(f"http://{broker.admin}/v1/groups/{TENDED_GROUP}/lag", timeout=10) as answer:
        told = json.load(answer)
    expect_equal(told["records"], whole["lag"], "records behind, as the broker tells")
    expect(told["records"] == 8 and told["milliseconds"] > 0, f"lag {told}")
    rows = [(each["topic"], each["partition"], each["committed"], each["end"], each["records"]) for each in told["partitions"]]
    expect_equal(rows, [tuple(each[name] for name in ("topic", "partition", "committed", "end", "lag")) for each in parts], "partitions")
    with urllib.request.urlopen(f"http://{broker.admin}/metrics", timeout=10) as answer:
        metrics = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    expect_equal(float(metrics[f'flotilla_group_lag_records{{group="{TENDED_GROUP}"}}']), told["records"], "the metric of records")
    expect(float(metrics[f'flotilla_group_lag_seconds{{group="{TENDED_GROUP}"}}']) >= told["milliseconds"] / 1000, "the metric of seconds")
    for name in ("rebalances_total{reason=\"member_joined\"}", "rebalances_total{reason=\"member_left\"}", "commits_total"):
        expect(float(metrics[f"flotilla_group_{name}"]) > 0, f"{name} is {metrics[f'flotilla_group_{name}']}")
    expect(float(metrics['flotilla_groups{state="Empty",type="classic"}']) >= 1, "no empty groups")
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.commit(TENDED_GROUP, TENDED, {0: 20}), {0: NONE}, "error of a commit")


def expect_moved(broker, tool):
    """Every kind of place, shown before, and then taken."""
    partitions = list(range(TENDED_PARTITIONS))
    with GroupConnection(broker.host, broker.port) as connection:
        committed = lambda: connection.committed_offsets(TENDED_GROUP, TENDED, partitions)
        expect_equal(committed(), {0: 20, 1: 20}, "committed offsets before")
        code, output, _ = tool.run("group", "seek", TENDED_GROUP, "--to", "start", "--dry-run")
        expect_equal((code, output.splitlines()), (DIFFERS, ["tended[0]: 20 -> 0", "tended[1]: 20 -> 0"]), "dry run")
        expect_equal(committed(), {0: 20, 1: 20}, "committed offsets after a dry run")
        middle = time.time_ns() // 1_000_000
        fill(connection, 5, 20)
        for arguments, wanted in (
            (["--to", "start"], {0: 0, 1: 0}), (["--to", "+3"], {0: 3, 1: 3}), (["--by", "2"], {0: 5, 1: 5}),
            (["--to", "end"], {0: 25, 1: 25}), (["--to", "-4"], {0: 21, 1: 21}), (["--to", "7"], {0: 7, 1: 7}),
            (["--to", "1000"], {0: 25, 1: 25}), (["--to", "9", "--topic", "tended:1"], {0: 25, 1: 9}),
            (["--by", "-100", "--topic", "tended:0"], {0: 0, 1: 9}), (["--to", f"@{middle}"], {0: 20, 1: 20}),
        ):
            tool.good("group", "seek", TENDED_GROUP, *arguments)
            expect_equal(committed(), wanted, f"committed offsets after {' '.join(arguments)}")
        (moved,) = tool.objects("group", "seek", TENDED_GROUP, "--to", "6", "--topic", "tended:1")
        expect_equal((moved["before"], moved["after"]), (20, 6), "what was said of a move")
        tool.bad(2, "no place", "group", "seek", TENDED_GROUP, "--to", "nowhere")
        tool.bad(NOT_FOUND, "does not exist", "group", "seek", "tended-new", "--to", "start", "--topic", TENDED)
        tool.good("group", "seek", "tended-new", "--to", "start", "--topic", TENDED, "--create")
        expect_equal(connection.committed_offsets("tended-new", TENDED, partitions), {0: 0, 1: 0}, "offsets of a new group")


def expect_deleted(broker, tool):
    """It is gone, with what it had committed."""
    tool.good("group", "delete", TENDED_GROUP, "--dry-run")
    tool.good("group", "delete", TENDED_GROUP, "tended-new")
    names = tool.good("group", "list", "-o", "name").splitlines()
    expect(TENDED_GROUP not in names and GROUP in names, f"groups that are left: {names}")
    with GroupConnection(broker.host, broker.port) as connection:
        expect_equal(connection.committed_offsets(TENDED_GROUP, TENDED, [0]), {0: -1}, "committed offset")
    tool.bad(NOT_FOUND, "does not exist", "group", "delete", TENDED_GROUP)


def expect_modern(broker, tool):
    """KIP-848, by what the broker announces."""
    code, output, errors = tool.run("consume", TENDED, "-g", "tended-modern", "-e", "--group-protocol", "consumer")
    if code != 0:
        return expect(code == 1 and "ConsumerGroupHeartbeat" in errors, f"ended with {code}: {errors.strip()}")
    expect_equal(len(output.splitlines()), TENDED_PARTITIONS * 25, "lines")
    modern = ("--group-protocol", "consumer")
    output = tool.good("consume", f"^{TENDED[:-1]}.$", "-g", "tended-by-pattern", "-e", *modern)
    expect_equal(len(output.splitlines()), TENDED_PARTITIONS * 25, "lines of the topics that match")
    tool.bad(1, "not a pattern", "consume", "^(", "-g", "tended-by-pattern-2", "-e", *modern)
    tool.bad(2, "stands alone", "consume", "^tended", TENDED, "-g", "tended-by-pattern-2", *modern)
    return tool.bad(2, "stands alone", "consume", "^tended", "-g", "tended-by-pattern-2")
