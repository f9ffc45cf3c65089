"""Proves that the checker finds what it is there to find, and that the tools do what they say."""

import errno
import os
import select
import shutil
import struct
import subprocess
import sys
import tempfile

from .disks import FaultyDisk, PowerCutDisk, SmallDisk, mounts_below, sync_directory
from .fabrics import Namespaces, remains
from .history import PRODUCER_SPAN, RULES, History, Reading, number_in, number_of, value_of
from .processes import CAP_NET_ADMIN, CAP_SYS_ADMIN, TIED, children, may
from .replicas import differences, new_lives
from .report import expect, expect_equal

PLACES = [("t", 0), ("t", 1)]


def run(report):
    """All of it."""
    check_values(report)
    check_histories(report)
    check_replicas(report)
    directory = tempfile.mkdtemp(prefix="flotilla-chaos-self-")
    try:
        check_faulty_disk(report, directory)
        if may(CAP_SYS_ADMIN) and may(CAP_NET_ADMIN) and os.path.exists("/dev/fuse"):
            check_small_disk(report, directory)
            check_power_cut(report, directory)
            check_network(report)
        else:
            report.skip("tools", "power_cut, small disks, namespaces", "they take root and /dev/fuse")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    with report.check("tools", "no process, namespace or mount is left"):
        expect_equal((sorted(children()), remains(), mounts_below(directory)), ([], [], []), "what is left")


# The checker


def sound():
    """A history in which all is well: two producers, two places, two readers, one record that failed and is absent."""
    history = History(list(PLACES))
    history.sent = {0: 20, 1: 20}
    final = {place: [] for place in PLACES}
    for count in range(20):
        for producer in (0, 1):
            number = number_of(producer, count)
            place = history.place_of(number)
            if number == number_of(1, 19):
                history.failed[number] = "timed out"
                continue
            offset = len(final[place])
            final[place].append((offset, number))
            history.acknowledged[number] = place, offset
    history.final = final
    for name in ("one", "two"):
        records = [(place, offset, number) for place in PLACES for offset, number in final[place]]
        history.readings.append(Reading(name, records))
    return history


def doctored():
    """Histories with one thing wrong, and the rule that must say so."""
    place = PLACES[0]

    def case(text, rule, change):
        history = sound()
        change(history, history.final[place], history.readings[0].records)
        return text, rule, history

    def number(log, index):
        return log[index][1]

    def swap(log, one, other):
        log[one], log[other] = (log[one][0], number(log, other)), (log[other][0], number(log, one))

    def lose_last(history, log, _seen):
        log.pop()
        forget_seen(history)

    def forget_seen(history):
        for reading in history.readings:
            reading.records.clear()

    def replace(history, log, _seen):
        # Acknowledged, and overwritten by the record after it: a log that forked.
        del history.acknowledged[number(log, 5)]
        log[4] = 4, number(log, 5)
        log[5] = 5, number_of(0, 19)
        forget_seen(history)

    def shift(history, log, _seen):
        log[6:] = [(offset + 1, each) for offset, each in log[6:]]
        forget_seen(history)
        history.acknowledged = {
            each: (where, offset + 1 if where == place and offset >= 6 else offset)
            for each, (where, offset) in history.acknowledged.items()}

    return [
        case("an acknowledged record is gone from the end", "lost", lose_last),
        case("an acknowledged record is replaced by another", "lost", replace),
        case("a reader saw what is no longer there", "lost", lambda h, log, seen: (
            h.acknowledged.pop(number(log, -1)), log.pop())),
        case("an offset is skipped", "lost", shift),
        case("a record is stored twice", "duplicated", lambda h, log, seen: log.append((len(log), number(log, 3)))),
        case("a reader gets an offset twice", "duplicated", lambda h, log, seen: seen.insert(4, seen[3])),
        case("a reader gets a record at a second offset", "duplicated", lambda h, log, seen: seen.append(
            (place, len(log), number(log, 2)))),
        case("two records of a producer are swapped", "reordered", lambda h, log, seen: swap(log, 2, 4)),
        case("a reader goes back", "reordered", lambda h, log, seen: seen.insert(7, seen[2])),
        case("a record that nobody sent", "phantom", lambda h, log, seen: log.append((len(log), number_of(0, 500)))),
        case("a record of an unknown producer", "phantom", lambda h, log, seen: log.append((len(log), number_of(9, 0)))),
        case("bytes that are not those sent", "phantom", lambda h, log, seen: log.append((len(log), None))),
        case("a record in another partition than its own", "phantom", lambda h, log, seen: log.append(
            (len(log), number(h.final[PLACES[1]], 3)))),
        case("a reader gets bytes that nobody sent", "phantom", lambda h, log, seen: seen.append((place, len(log), None))),
    ]


def check_histories(report):
    """The sound history passes, and each doctored one is found by its rule."""
    with report.check("checker", "a sound history has no findings"):
        for rule, find in RULES.items():
            expect_equal(find(sound()), [], rule)
    with report.check("checker", "a failed record that is there all the same is no finding"):
        history = sound()
        place = history.place_of(number_of(1, 19))
        history.final[place].append((len(history.final[place]), number_of(1, 19)))
        for rule, find in RULES.items():
            expect_equal(find(history), [], rule)
    for text, rule, history in doctored():
        with report.check("checker", f"{text}: {rule}"):
            expect(RULES[rule](history), f"the rule found nothing; others: { {r: f(history)[:1] for r, f in RULES.items()} }")


def check_values(report):
    """Numbers come back from values, and from nothing else."""
    with report.check("checker", "a record's bytes tell its number, and one changed bit does not"):
        for number in [number_of(producer, count) for producer in (0, 1, 2) for count in (0, 1, 7, 211 + 7, PRODUCER_SPAN - 1)]:
            value = value_of(number)
            expect_equal(number_in(value), number, "number")
            for position in (0, len(value) // 2, len(value) - 1):
                changed = bytearray(value)
                changed[position] ^= 1
                expect(number_in(bytes(changed)) is None, f"a bit changed at {position} of {number} goes unseen")
            expect(number_in(value[:-1]) is None, "a byte less goes unseen")
        expect(number_in(None) is None and number_in(b"") is None, "nothing has a number")


def check_replicas(report):
    """Files that differ in what both have are found; a shorter one is not a difference."""
    directory = tempfile.mkdtemp(prefix="flotilla-chaos-self-")
    try:
        bytes_of = {1: b"abc" * 1000, 2: b"abc" * 900, 3: b"abc" * 1000}
        homes = {}
        for number, content in bytes_of.items():
            homes[number] = os.path.join(directory, str(number))
            folder = os.path.join(homes[number], "partitions", f"topic-0.{number}")
            os.makedirs(folder)
            with open(os.path.join(folder, "00-1.log"), "wb") as file:
                file.write(content)
        with report.check("checker", "a replica that is shorter is no fork"):
            found, files, compared = differences(homes)
            expect_equal((found, files, compared), ([], 2, 5700), "differences, files, bytes")
        with report.check("checker", "a replica with other bytes is a fork"):
            with open(os.path.join(homes[3], "partitions", "topic-0.3", "00-1.log"), "r+b") as file:
                file.seek(1234)
                file.write(b"!")
            expect_equal(differences(homes)[0], ["topic-0/00-1.log differs at byte 1234 on brokers 1 and 3"], "differences")
        with report.check("checker", "a producer that began anew is found"):
            with open(os.path.join(homes[1], "partitions", "topic-0.1", "00-1.log"), "wb") as file:
                for epoch in 0, 1:
                    file.write(struct.pack(">qi31xqhi4x", 0, 49, 7, epoch, 0))
            expect_equal(
                new_lives({1: homes[1]}), (["topic-0/00-1.log on broker 1: producer 7 has epoch 1 at byte 61"], 2), "new lives")
    finally:
        shutil.rmtree(directory)


# The tools

# Writes and syncs a file, and says what the calls said.
SYNCING = """
import os, sys
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
for call in (lambda: os.pwrite(file, b"x", 0), lambda: os.pwritev(file, [b"x"], 0), lambda: os.fsync(file), lambda: os.fdatasync(file)):
    try:
        call()
        print(0)
    except OSError as failure:
        print(failure.errno)
"""


def check_faulty_disk(report, directory):
    """Faults come when they are asked for, as often as asked for, and only to the files they are for."""
    inside, outside = os.path.join(directory, "inside"), os.path.join(directory, "outside")
    os.makedirs(inside)
    os.makedirs(outside)
    disk = FaultyDisk(directory, os.path.join(directory, "control"), inside)

    def calls(folder):
        result = subprocess.run(
            [sys.executable, "-c", SYNCING, os.path.join(folder, "file")], env={**os.environ, **disk.environment},
            capture_output=True, text=True, check=True, timeout=20)
        return [int(line) for line in result.stdout.split()]

    with report.check("tools", "disk_faults: nothing happens until it is asked for"):
        expect_equal(calls(inside), [0, 0, 0, 0], "write, write, fsync, fdatasync")
    with report.check("tools", "disk_faults: one sync fails, the next does not, and writes go on"):
        disk.set(sync_error=errno.EIO, sync_fail_count=1)
        expect_equal(calls(outside), [0, 0, 0, 0], "calls for other files")
        expect_equal(calls(inside), [0, 0, errno.EIO, 0], "calls")
        expect_equal(disk.hit_count, 1, "calls that were tampered with")
    with report.check("tools", "disk_faults: writes fail"):
        disk.clear()
        disk.set(write_error=errno.ENOSPC)
        expect_equal(calls(inside), [errno.ENOSPC, errno.ENOSPC, 0, 0], "calls")
    disk.close()


def check_small_disk(report, directory):
    """It fills to the last byte, and is empty again."""
    disk = SmallDisk(os.path.join(directory, "small"), 4)
    disk.mount()
    try:
        with report.check("tools", "a small disk fills and empties"):
            disk.fill()
            try:
                with open(os.path.join(disk.directory, "more"), "wb") as file:
                    file.write(b"x")
                expect(False, "a byte fits on a full disk")
            except OSError as failure:
                expect_equal(failure.errno, errno.ENOSPC, "error")
            disk.empty()
            with open(os.path.join(disk.directory, "more"), "wb") as file:
                file.write(bytes(1 << 20))
    finally:
        disk.unmount()


def check_power_cut(report, directory):
    """What was synced is there after a cut, and what was not is not, or is torn."""
    disk = PowerCutDisk(directory, os.path.join(directory, "power"))
    disk.mount()
    try:
        for text, check in POWER_CHECKS.items():
            with report.check("tools", f"power_cut: {text}"):
                check(disk)
    finally:
        disk.unmount()


def write(path, position, content, is_synced):
    """Writes into a file, which may be new."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, content, position)
    if is_synced:
        os.fsync(descriptor)
    os.close(descriptor)


def read(path):
    """A file's bytes, or None."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def unsynced_is_lost(disk):
    """Appended, overwritten and shortened bytes go back to what was synced."""
    path = os.path.join(disk.data, "a")
    write(path, 0, b"A" * 10_000, True)
    write(path, 10_000, b"B" * 50_000, False)
    write(path, 5_000, b"C" * 10, False)
    expect_equal(len(read(path)), 60_000, "length before the cut")
    disk.cut(0, False, 1)
    expect_equal(read(path), b"A" * 10_000, "content")
    os.truncate(path, 100)
    expect_equal(len(read(path)), 100, "length before the cut")
    disk.cut(0, False, 2)
    expect_equal(read(path), b"A" * 10_000, "content after a lost truncation")


def synced_stays(disk):
    """fsync, fdatasync and O_DSYNC hold whatever survives of the rest."""
    path = os.path.join(disk.data, "b")
    write(path, 0, b"A" * 9_000, True)
    write(path, 4_000, b"B" * 9_000, True)
    descriptor = os.open(path, os.O_RDWR | os.O_DSYNC)
    os.pwrite(descriptor, b"C" * 100, 200)
    os.close(descriptor)
    wanted = b"A" * 200 + b"C" * 100 + b"A" * 3_700 + b"B" * 9_000
    for seed in range(5):
        write(path, 13_000, b"D" * 20_000, False)
        disk.cut(50, True, seed)
        expect_equal(read(path)[:13_000], wanted, "the synced part")
        os.truncate(path, 13_000)
        write(path, 0, b"A", True)


def some_survives_torn(disk):
    """Pages survive out of order, and some only in part."""
    path = os.path.join(disk.data, "c")
    kinds = set()
    for seed in range(20):
        write(path, 0, b"A" * 4096 * 20, True)
        write(path, 0, b"B" * 4096 * 20, False)
        disk.cut(50, True, seed)
        content = read(path)
        for page in range(20):
            part = content[page * 4096:(page + 1) * 4096]
            new = part.count(b"B")
            expect(part == b"B" * new + b"A" * (4096 - new) and new % 512 == 0, "a page is torn at a sector, from its start on")
            kinds.add("new" if new == 4096 else "old" if new == 0 else "torn")
    expect_equal(kinds, {"new", "old", "torn"}, "pages after 20 cuts")


def names_need_syncs(disk):
    """New, moved and removed files: undone, unless the directory was synced."""
    def path(name):
        return os.path.join(disk.data, name)
    write(path("new"), 0, b"x", False)
    disk.cut(0, False, 1)
    expect_equal(read(path("new")), None, "a new file that was never synced")
    write(path("meta"), 0, b"one", True)
    write(path("meta.tmp"), 0, b"two", True)
    os.rename(path("meta.tmp"), path("meta"))
    expect_equal(read(path("meta")), b"two", "content before the cut")
    disk.cut(0, False, 2)
    expect_equal((read(path("meta")), read(path("meta.tmp"))), (b"one", b"two"), "files after a lost move")
    os.rename(path("meta.tmp"), path("meta"))
    sync_directory(disk.data)
    disk.cut(0, False, 3)
    expect_equal((read(path("meta")), read(path("meta.tmp"))), (b"two", None), "files after a safe move")
    os.remove(path("meta"))
    disk.cut(0, False, 4)
    expect_equal(read(path("meta")), b"two", "a file whose removal was not synced")
    os.remove(path("meta"))
    sync_directory(disk.data)
    disk.cut(0, False, 5)
    expect_equal(read(path("meta")), None, "a file whose removal was synced")
    os.mkdir(path("folder"))
    write(path("folder/file"), 0, b"x", True)
    disk.cut(0, False, 6)
    expect_equal(os.path.exists(path("folder")), False, "a folder that was not synced is there")


def lies_are_lies(disk):
    """A sync that lied saved nothing."""
    path = os.path.join(disk.data, "d")
    write(path, 0, b"A" * 5_000, True)
    disk.lie(True)
    write(path, 0, b"B" * 5_000, True)
    disk.lie(False)
    disk.cut(0, False, 1)
    expect_equal(read(path), b"A" * 5_000, "content")


POWER_CHECKS = {
    "what was not synced is lost": unsynced_is_lost,
    "what was synced stays": synced_stays,
    "pages survive out of order and torn": some_survives_torn,
    "names are safe when their directory was synced": names_need_syncs,
    "a sync that lies saves nothing": lies_are_lies,
}


def check_network(report):
    """Cuts are cuts, in the direction that was asked for, and heal."""
    fabric = Namespaces(3)
    servers = []
    try:
        fabric.up()
        for number in fabric.numbers:
            servers.append(subprocess.Popen(
                [*TIED, *fabric.prefix(number), sys.executable, "-c", SERVING, fabric.host(number)], stdout=subprocess.PIPE, bufsize=0))
        for server in servers:
            server.stdout.read(6)
        with report.check("tools", "network: everybody hears everybody, clients too"):
            expect_equal(deaf(fabric, servers), [], "pairs that do not hear each other")
        with report.check("tools", "network: a cut in one direction of one pair"):
            fabric.drop(1, [2])
            expect_equal(deaf(fabric, servers), [(1, 2)], "receivers and senders")
        with report.check("tools", "network: a broker cut off from brokers hears clients"):
            fabric.heal()
            fabric.isolate(2)
            expect_equal(deaf(fabric, servers), [(1, 2), (2, 1), (2, 3), (3, 2)], "receivers and senders")
        with report.check("tools", "network: a broker that is unplugged hears nobody"):
            fabric.heal()
            fabric.unplug(3)
            expect_equal(deaf(fabric, servers), [(1, 3), (2, 3), (3, 1), (3, 2), (3, 254)], "receivers and senders")
        with report.check("tools", "network: healed"):
            fabric.heal()
            expect_equal(deaf(fabric, servers), [], "pairs that do not hear each other")
    finally:
        for server in servers:
            server.kill()
            server.wait()
            server.stdout.close()
        fabric.down()


# Prints every datagram that comes.
SERVING = """
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind((sys.argv[1], 7777))
print("ready", flush=True)
while True:
    print(listener.recv(100).decode(), flush=True)
"""

SENDING = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 7777))"
DATAGRAM_SECONDS = 0.4


def deaf(fabric, servers):
    """Pairs of receiver and sender, 254 for the clients, between which a datagram does not pass."""
    pairs = [(receiver, sender) for receiver in fabric.numbers for sender in (*fabric.numbers, 254) if receiver != sender]
    return [(receiver, sender) for receiver, sender in pairs if not passes(fabric, servers[receiver - 1], receiver, sender)]


def passes(fabric, server, receiver, sender):
    """Whether a datagram arrives."""
    prefix = [] if sender == 254 else fabric.prefix(sender)
    subprocess.run(
        [*prefix, sys.executable, "-c", SENDING, fabric.host(receiver), str(sender)], capture_output=True, timeout=20)
    readable, _, _ = select.select([server.stdout], [], [], DATAGRAM_SECONDS)
    if not readable:
        return False
    heard = os.read(server.stdout.fileno(), 100).decode().strip()
    expect_equal(heard, str(sender), "what the server heard")
    return True
