"""Members that run as processes, what they said, and whether that is what a group promises."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict

from .report import expect, expect_equal

END_SECONDS = 30
HEARTBEAT_MILLIS = 1000
# How much later than it is so a tool may print what it was given or gave up.
PRINTING_SECONDS = 1
# Records that are printed within this time are one event.
TOGETHER_SECONDS = 0.05


class Member:
    """One member: its process and the events that it has printed."""

    # How its user ends it: by the end of its input.
    end_signal, end_codes = None, (0,)
    # How late its events may be.
    lag_seconds = 0

    def __init__(self, kind, brokers, group, topic, session_millis, instance=None, binary=None):
        self.kind = kind
        self.binary = binary
        self.instance = instance
        self.topic = topic
        self.events = []
        # When it was stopped each time, and when it died.
        self.stalls, self.end = [], None
        self.errors = tempfile.TemporaryFile()
        self.process = self.begin(brokers, group, session_millis)
        self.reader = threading.Thread(target=self.listen)
        self.reader.start()

    def begin(self, brokers, group, session_millis):
        """Its process."""
        command = [
            sys.executable, "-m", "clients.group_member", self.kind, "--brokers", brokers, "--group", group,
            "--topic", self.topic, "--session", str(session_millis), *(["--instance", self.instance] if self.instance else []),
        ]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def listen(self):
        """Notes each line; one that was cut by a kill is none."""
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.note(line)

    def note(self, line):
        """One line as an event."""
        self.events.append(json.loads(line))

    def of(self, kind):
        """Its events of one kind so far."""
        return [event for event in list(self.events) if event["event"] == kind]

    def share(self):
        """(generation, partitions) as it holds them now; None between shares, while it is stopped, and after the end."""
        if self.process.poll() is not None or self.is_stalled:
            return None
        for event in reversed(list(self.events)):
            if event["event"] == "assigned":
                return event["generation"], tuple(event["partitions"])
            if event["event"] in ("revoked", "left"):
                return None
        return None

    def reads(self):
        """{partition: {offset: number}} of all that it has read."""
        found = defaultdict(dict)
        for event in self.of("read"):
            for partition, offset, number in event["rows"]:
                found[partition][offset] = number
        return found

    def spans(self):
        """[(partition, from, to)]: when it held what, as it said, for as long as it ran and was not stopped."""
        found, held = [], {}
        cuts = [begin for begin, _ in self.stalls] + [self.end or time.monotonic()]

        def close(partitions, moment):
            for partition in partitions:
                begin = held.pop(partition, None)
                if begin is not None:
                    found.append((partition, begin, min([moment, *(cut for cut in cuts if cut > begin)])))

        for event in list(self.events):
            if event["event"] == "assigned":
                close(set(held) - set(event["partitions"]), event["time"])
                for partition in event["partitions"]:
                    begin = held.get(partition)
                    if begin is not None and any(begin < cut < event["time"] for cut in cuts):
                        close([partition], event["time"])
                    held.setdefault(partition, event["time"])
            if event["event"] == "revoked":
                close(event["partitions"], event["time"])
        close(list(held), cuts[-1])
        return found

    @property
    def is_stalled(self):
        """Whether it is stopped now."""
        return bool(self.stalls) and self.stalls[-1][1] is None

    def stall(self):
        """Stops it where it is; returns when that was."""
        self.stalls.append((time.monotonic(), None))
        self.process.send_signal(signal.SIGSTOP)
        return self.stalls[-1][0]

    def go_on(self):
        """Lets it go on."""
        self.stalls[-1] = (self.stalls[-1][0], time.monotonic())
        self.process.send_signal(signal.SIGCONT)

    def leave(self):
        """Ends it as its user would."""
        if self.end_signal:
            self.process.send_signal(self.end_signal)
        else:
            self.process.stdin.close()
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.remove()
            expect(False, f"{self.kind} does not end; it said {self.events[-3:]}")
        self.end = time.monotonic()
        self.reader.join()
        expect(code in self.end_codes and self.has_left(), f"{self.kind} ended with {code}: {self.problems()}")

    def has_left(self):
        """Whether it has said that it is done."""
        return bool(self.of("left"))

    def kill(self):
        """Ends it as a crash would; returns when that was."""
        self.end = time.monotonic()
        self.process.kill()
        self.process.wait()
        self.reader.join()
        return self.end

    def problems(self):
        """The end of what it printed besides its events."""
        self.errors.seek(max(0, os.fstat(self.errors.fileno()).st_size - 600))
        return self.errors.read().decode("utf-8", "replace").strip()

    def remove(self):
        """Makes sure that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream:
                stream.close()


class PrintingMember(Member):
    """A tool as a member: it prints its records, and among them what it is given and gives up; it commits unheard."""

    end_signal = signal.SIGTERM
    lag_seconds = PRINTING_SECONDS
    format = "%p %o %s\\n"
    row = re.compile(r"(\d+) (\d+) (\d+)\n")
    # What it prints when it is given partitions and when it gives them up, and whether that is all that it has or what is new.
    changes, is_incremental = (), False
    held = frozenset()

    def arguments(self, brokers, group, session_millis):
        """The command line."""
        raise NotImplementedError

    def begin(self, brokers, group, session_millis):
        """Its process, with one pipe for all, so that the order is that in which it was printed."""
        # A member may not wait for its input.
        return subprocess.Popen(
            self.arguments(brokers, group, session_millis), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)

    def note(self, line):
        """One line as an event; whatever else it says is kept for the one who looks for what went wrong."""
        moment = time.monotonic()
        if found := self.row.fullmatch(line):
            row = [int(each) for each in found.groups()]
            last = self.events[-1] if self.events else {"event": ""}
            if last["event"] == "read" and moment - last["time"] < TOGETHER_SECONDS:
                last["rows"].append(row)
            else:
                self.events.append({"event": "read", "time": moment, "rows": [row]})
            return
        for name, pattern in self.changes:
            if found := pattern.search(line):
                self.change(name, self.partitions_of(found[1]), moment)
                return
        if not line.startswith("% Reached end"):
            self.errors.write(line.encode())

    def change(self, name, partitions, moment):
        """What it holds changes by these partitions; of generations it says nothing."""
        if name == "revoked":
            self.held -= set(partitions)
            self.events.append({"event": "revoked", "time": moment, "partitions": partitions})
            if not self.held:
                return
        else:
            self.held = set(partitions) | (self.held if self.is_incremental else set())
        self.events.append(
            {"event": "assigned", "time": moment, "generation": None, "member": self.kind, "partitions": sorted(self.held)})

    def partitions_of(self, text):
        """The partitions that a line names."""
        raise NotImplementedError

    def has_left(self):
        """It says nothing of that."""
        return True

    def problems(self):
        """The end of what it printed besides."""
        return super().problems() if not self.errors.closed else ""


class Kcat(PrintingMember):
    """kcat -G, which is librdkafka 2.0.2 here.

    Its user kills it: asked to end, it drops the record that comes just then (`consume_cb` returns), and commits it all the same.
    """

    end_signal, end_codes = signal.SIGKILL, (-signal.SIGKILL,)
    changes = (("assigned", re.compile(r"assigned: (.*)")), ("revoked", re.compile(r"revoked: (.*)")))

    def arguments(self, brokers, group, session_millis):
        """Unbuffered, with sessions and commits as the others have them; it lives on (-E) while the broker is down."""
        settings = (
            "auto.offset.reset=earliest", "partition.assignment.strategy=range", f"session.timeout.ms={session_millis}",
            f"heartbeat.interval.ms={HEARTBEAT_MILLIS}", "auto.commit.interval.ms=200", "reconnect.backoff.max.ms=500",
        )
        return [
            "kcat", "-E", "-b", brokers, "-G", group, "-u", "-f", self.format, *(part for each in settings for part in ("-X", each)),
            self.topic,
        ]

    def partitions_of(self, text):
        """`topic [0], topic [1]`."""
        return [int(each) for each in re.findall(r"\[(\d+)\]", text)]


class Command(PrintingMember):
    """`flotilla consume -g` with the classic protocol."""

    end_codes = (130,)
    changes = (("assigned", re.compile(r"^assigned (.*)")), ("revoked", re.compile(r"^(?:given up|lost) (.*)")))
    protocol = ()

    def arguments(self, brokers, group, session_millis):
        """It begins at the start."""
        return [
            self.binary, "consume", self.topic, "-g", group, "-b", brokers, "-o", "start", "-f", self.format,
            *(self.protocol or ("--assignor", "range", "--session-timeout", f"{session_millis}ms")),
        ]

    def partitions_of(self, text):
        """`topic:0-2,5`."""
        found = []
        for first, last in re.findall(r"[:,](\d+)(?:-(\d+))?", text):
            found += range(int(first), int(last or first) + 1)
        return found


class ModernCommand(Command):
    """`flotilla consume -g` with the consumer protocol."""

    protocol = ("--group-protocol", "consumer")
    is_incremental = True


TOOLS = {"kcat": Kcat, "flotilla": Command, "flotilla consumer": ModernCommand}


class Group:
    """The members of one group; as a context manager it leaves none behind."""

    is_incremental = False

    def __init__(self, brokers, name, topic, partitions, session_millis, binary=None):
        self.brokers = brokers
        self.name = name
        self.topic = topic
        self.partitions = partitions
        self.session_millis = session_millis
        self.binary = binary
        self.members = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.remove()

    def add(self, kind, instance=None):
        """A new member."""
        make = TOOLS.get(kind, Member)
        member = make(kind, self.brokers, self.name, self.topic, self.session_millis, instance, self.binary)
        self.members.append(member)
        return member

    def living(self):
        """The members whose process runs, and is not stopped."""
        return [member for member in self.members if member.process.poll() is None and not member.is_stalled]

    def is_shared(self):
        """Whether the living members hold all partitions, each one, in one generation, in even shares."""
        shares = [member.share() for member in self.living()]
        if not shares or None in shares or len({generation for generation, _ in shares if generation is not None}) > 1:
            return False
        sizes = [len(partitions) for _, partitions in shares]
        held = sorted(partition for _, partitions in shares for partition in partitions)
        return held == list(range(self.partitions)) and max(sizes) - min(sizes) <= 1

    def wait_until_shared(self, count, seconds):
        """Waits until exactly `count` members share the partitions."""
        self.wait(
            lambda: len(self.living()) == count and self.is_shared(), seconds,
            lambda: f"{count} members do not share the partitions: {[(m.kind, m.share()) for m in self.living()]}")

    def wait_until_read(self, wanted, seconds):
        """Waits until each partition is read up to the number of records that is wanted."""
        self.wait(
            lambda: all(len(self.all_reads()[partition]) >= count for partition, count in wanted.items()), seconds,
            lambda: f"not read: {self.describe_missing(wanted)}")

    def describe_missing(self, wanted):
        """The first records of each partition that nobody has read, and who read the records around them."""
        reads, found = self.all_reads(), []
        for partition, count in wanted.items():
            missing = [offset for offset in range(count) if offset not in reads[partition]]
            if missing:
                first, last = missing[0], next(offset for offset in missing if offset + 1 not in missing)
                found.append(
                    f"partition {partition}: {len(missing)} of {count}, first {first} to {last}, between "
                    f"{self.describe_readers(partition, first - 1)} and {self.describe_readers(partition, last + 1)}")
        return "; ".join(found)

    def describe_readers(self, partition, offset):
        """Who read a record, when, and what became of them."""
        found = []
        for number, member in enumerate(self.members):
            for event in member.of("read"):
                if any(row[:2] == [partition, offset] for row in event["rows"]):
                    end = f", ended at {member.end:.3f}" if member.end else ""
                    stalls = f", stopped {member.stalls}" if member.stalls else ""
                    found.append(f"{member.kind} {number} at {event['time']:.3f}{end}{stalls}")
        return " and ".join(found) or "nobody"

    def wait(self, condition, seconds, message):
        """Waits for a condition; a member that ends by itself is a failure."""
        deadline = time.monotonic() + seconds
        while not condition():
            for member in self.members:
                is_lost = member.process.poll() is not None and member.end is None
                expect(not is_lost, f"{member.kind} has ended: {member.problems() if is_lost else ''}")
            expect(time.monotonic() < deadline, f"after {seconds} s {message()}")
            time.sleep(0.02)

    def all_reads(self):
        """{partition: {offset: number}} of all members."""
        found = defaultdict(dict)
        for member in self.members:
            for partition, rows in member.reads().items():
                found[partition].update(rows)
        return found

    # What a group promises.

    def expect_each_read(self, wanted):
        """Every record was read at least once, and is the one that was written there."""
        reads = self.all_reads()
        for partition, count in wanted.items():
            numbers = [reads[partition].get(offset) for offset in range(count)]
            expect_equal(numbers, list(range(count)), f"numbers read in partition {partition}")

    def expect_one_owner(self):
        """In no generation two members are given the same partition; those that tell no generation hold none that another has."""
        self.expect_no_overlap(lambda first, second: first.lag_seconds + second.lag_seconds > 0)
        owners = {}
        for member in self.members:
            for event in member.of("assigned"):
                for partition in event["partitions"] if event["generation"] is not None else ():
                    place = (event["generation"], partition)
                    owner = member.instance or event["member"]
                    expect_equal(owner, owners.setdefault(place, owner), f"owner of partition {partition} in generation {place[0]}")

    def expect_no_overlap(self, concerns=lambda first, second: True):
        """No two members hold a partition at a time, as far as they say it in time."""
        spans = sorted(
            ((*span, member) for member in self.members for span in member.spans()), key=lambda span: span[:3])
        for first, second in zip(spans, spans[1:]):
            if first[0] == second[0] and first[3] is not second[3] and concerns(first[3], second[3]):
                overlap = first[2] - second[1]
                expect(
                    overlap <= max(first[3].lag_seconds, second[3].lag_seconds),
                    f"partition {first[0]} had two owners for {overlap:.3f} s: {first[3].kind} and {second[3].kind}")

    def expect_owned(self, begin, end, limit):
        """No partition is without an owner for longer than `limit` seconds between two moments: the longest time."""
        longest = 0
        for partition in range(self.partitions):
            covered = begin
            spans = sorted(span[1:] for member in self.members for span in member.spans() if span[0] == partition)
            for first, last in [*spans, (end, end)]:
                gap = min(first, end) - covered
                longest = max(longest, gap)
                expect(gap <= limit, f"partition {partition} had no owner for {gap:.1f} s, {covered - begin:.1f} s after the start")
                covered = max(covered, last)
        return longest

    def expect_order(self):
        """Within one share each partition is read without a gap, and nothing is read that is not in it."""
        for member in self.members:
            share, generation, next_offset, given_up = (), None, {}, set()
            for event in member.events:
                if event["event"] == "revoked":
                    given_up |= set(event["partitions"])
                if event["event"] == "assigned":
                    # Where members keep what is not taken from them, they read that on.
                    kept = set(share) - given_up if self.is_incremental else ()
                    next_offset = {partition: offset for partition, offset in next_offset.items() if partition in kept}
                    share, generation, given_up = event["partitions"], event["generation"], set()
                for partition, offset, _ in event.get("rows", ()):
                    what = f"{member.kind}, generation {generation}, partition {partition}"
                    expect(partition in share, f"{what} is read and not held")
                    expect_equal(offset, next_offset.get(partition, offset), f"{what}: offset read next")
                    next_offset[partition] = offset + 1

    def expect_progress(self):
        """Whoever gets a share begins at or after what was acknowledged as committed before it, in time or by generation."""
        commits, begins = [], []
        for member in self.members:
            generation, moment, begun = -1, 0, set()
            for event in member.events:
                if event["event"] == "assigned":
                    generation, moment, begun = event["generation"], event["time"], set()
                for partition, offset in event.get("offsets", ()):
                    commits.append((partition, generation, event["time"], offset))
                for partition, offset, _ in event.get("rows", ()):
                    if partition not in begun:
                        begun.add(partition)
                        begins.append((partition, generation, moment, offset))
        for partition, generation, moment, offset in begins:
            known = max((
                o for p, g, t, o in commits
                if p == partition and (t < moment or None not in (g, generation) and g < generation)), default=0)
            what = f"partition {partition}, generation {generation}"
            expect(offset >= known, f"{what}: begun at {offset}, and {known} was committed")

    def committed_range(self, moment):
        """{partition: (low, high)}: what members knew to be committed at a moment, and what any of them may have committed by now."""
        low, high = dict.fromkeys(range(self.partitions), 0), dict.fromkeys(range(self.partitions), 0)
        for member in self.members:
            for event in list(member.events):
                for partition, offset in event.get("offsets", ()):
                    if event["time"] < moment:
                        low[partition] = max(low[partition], offset)
                for partition, offset, _ in event.get("rows", ()):
                    high[partition] = max(high[partition], offset + 1)
        return {partition: (low[partition], high[partition]) for partition in low}
