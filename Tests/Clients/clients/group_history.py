"""Members that run as processes, what they said, and whether that is what a group promises."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict

from .report import expect, expect_equal

END_SECONDS = 30


class Member:
    """One member: its process and the events that it has printed."""

    def __init__(self, kind, brokers, group, topic, session_millis, instance=None):
        self.kind = kind
        self.instance = instance
        self.events = []
        self.is_killed = False
        self.errors = tempfile.TemporaryFile()
        command = [
            sys.executable, "-m", "clients.group_member", kind, "--brokers", brokers, "--group", group,
            "--topic", topic, "--session", str(session_millis), *(["--instance", instance] if instance else []),
        ]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.reader = threading.Thread(target=self.listen)
        self.reader.start()

    def listen(self):
        """Notes each line; one that was cut by a kill is none."""
        for line in self.process.stdout:
            if line.endswith("\n"):
                self.events.append(json.loads(line))

    def of(self, kind):
        """Its events of one kind so far."""
        return [event for event in list(self.events) if event["event"] == kind]

    def share(self):
        """(generation, partitions) as it holds them now; None between shares and after the end."""
        if self.process.poll() is not None:
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

    def leave(self):
        """Ends it as its user would."""
        self.process.stdin.close()
        try:
            code = self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.remove()
            expect(False, f"{self.kind} does not end; it said {self.events[-3:]}")
        self.reader.join()
        expect(code == 0 and self.of("left"), f"{self.kind} ended with {code}: {self.problems()}")

    def kill(self):
        """Ends it as a crash would; returns when that was."""
        self.is_killed = True
        moment = time.monotonic()
        self.process.kill()
        self.process.wait()
        self.reader.join()
        return moment

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
        for stream in (self.process.stdin, self.process.stdout):
            stream.close()


class Group:
    """The members of one group; as a context manager it leaves none behind."""

    def __init__(self, brokers, name, topic, partitions, session_millis):
        self.brokers = brokers
        self.name = name
        self.topic = topic
        self.partitions = partitions
        self.session_millis = session_millis
        self.members = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for member in self.members:
            member.remove()

    def add(self, kind, instance=None):
        """A new member."""
        member = Member(kind, self.brokers, self.name, self.topic, self.session_millis, instance)
        self.members.append(member)
        return member

    def living(self):
        """The members whose process runs."""
        return [member for member in self.members if member.process.poll() is None]

    def is_shared(self):
        """Whether the living members hold all partitions, each one, in one generation, in even shares."""
        shares = [member.share() for member in self.living()]
        if not shares or None in shares or len({generation for generation, _ in shares}) != 1:
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
            lambda: f"read {dict((n, len(each)) for n, each in self.all_reads().items())} of {wanted}")

    def wait(self, condition, seconds, message):
        """Waits for a condition; a member that ends by itself is a failure."""
        deadline = time.monotonic() + seconds
        while not condition():
            for member in self.members:
                is_lost = member.process.poll() not in (None, 0) and not member.is_killed
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
        """In no generation two members are given the same partition."""
        owners = {}
        for member in self.members:
            for event in member.of("assigned"):
                for partition in event["partitions"]:
                    place = (event["generation"], partition)
                    owner = member.instance or event["member"]
                    expect_equal(owner, owners.setdefault(place, owner), f"owner of partition {partition} in generation {place[0]}")

    def expect_order(self):
        """Within one share each partition is read without a gap, and nothing is read that is not in it."""
        for member in self.members:
            share, next_offset = (), {}
            for event in member.events:
                if event["event"] == "assigned":
                    share, next_offset = event["partitions"], {}
                for partition, offset, _ in event.get("rows", ()):
                    what = f"{member.kind}, generation {member.share()}, partition {partition}"
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
            known = max((o for p, g, t, o in commits if p == partition and (g < generation or t < moment)), default=0)
            what = f"partition {partition}, generation {generation}"
            expect(offset >= known, f"{what}: begun at {offset}, and {known} was committed")
