"""Compares the replicas of stopped brokers byte by byte: a log never forks."""

import os
import re
import struct

DIRECTORY = re.compile(r"(?P<partition>.+-\d+)\.(?P<epoch>\d+)")
BLOCK = 1 << 20
# Of a batch of records: where it starts, how long its rest is, and, further on, its producer's id and epoch and its first sequence.
HEAD, PRODUCER, PRODUCER_AT = struct.Struct(">qi"), struct.Struct(">qhi"), 43


def segments(data_directory):
    """The `.log` files of each partition by name; of several replicas in a row the newest."""
    root = os.path.join(data_directory, "partitions")
    newest = {}
    for name in os.listdir(root) if os.path.isdir(root) else ():
        match = DIRECTORY.fullmatch(name)
        if match:
            epoch = int(match["epoch"])
            if epoch >= newest.get(match["partition"], (-1, ""))[0]:
                newest[match["partition"]] = epoch, os.path.join(root, name)
    return {
        partition: {file: os.path.join(path, file) for file in os.listdir(path) if file.endswith(".log")}
        for partition, (_, path) in newest.items()}


def differences(data_directories):
    """Where files of the same name differ in what both have, and how many files and bytes were compared."""
    found, files, compared = [], 0, 0
    held = {number: segments(directory) for number, directory in data_directories.items()}
    for partition in sorted({partition for each in held.values() for partition in each}):
        names = sorted({name for each in held.values() for name in each.get(partition, {})})
        for name in names:
            paths = {number: each[partition][name] for number, each in held.items() if name in each.get(partition, {})}
            if len(paths) < 2:
                continue
            first, *others = paths
            for other in others:
                files += 1
                count, position = compare(paths[first], paths[other])
                compared += count
                if position is not None:
                    found.append(f"{partition}/{name} differs at byte {position} on brokers {first} and {other}")
    return found, files, compared


def compare(first, second):
    """How many bytes two files have in common, and where they first differ."""
    position = 0
    with open(first, "rb") as one, open(second, "rb") as two:
        while True:
            left, right = one.read(BLOCK), two.read(BLOCK)
            common = min(len(left), len(right))
            if left[:common] != right[:common]:
                return position, position + next(i for i in range(common) if left[i] != right[i])
            position += common
            if common < BLOCK:
                return position, None


def new_lives(data_directories):
    """Batches of producers that began anew in a later epoch: a client that skipped nothing was told that it had, and gave up exactly-once."""
    found, count = [], 0
    seen = set()
    for number, directory in data_directories.items():
        for partition, files in segments(directory).items():
            if partition in seen:
                continue
            seen.add(partition)
            for name, path in sorted(files.items()):
                for position, producer, epoch in producers(path):
                    count += 1
                    if epoch > 0:
                        found.append(f"{partition}/{name} on broker {number}: producer {producer} has epoch {epoch} at byte {position}")
    return found, count


def producers(path):
    """Of each whole batch in a file: its place, its producer's id and epoch."""
    with open(path, "rb") as file:
        content = file.read()
    position = 0
    while position + PRODUCER_AT + PRODUCER.size <= len(content):
        _, rest = HEAD.unpack_from(content, position)
        if rest <= 0 or position + HEAD.size + rest > len(content):
            return
        producer, epoch, _ = PRODUCER.unpack_from(content, position + PRODUCER_AT)
        yield position, producer, epoch
        position += HEAD.size + rest
