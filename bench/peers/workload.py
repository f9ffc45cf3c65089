"""Workload files, as bench/README.md describes them, and what a peer makes of one."""

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

KEYS = {
    "description": str, "topics": int, "partitions": int, "replicas": int, "record-size": "size", "payload": ("random", "json"),
    "keys": ("none", "random"), "rate": "rate", "producers": int, "groups": int, "consumers": int, "acks": ("all", "1", "0", "-1"),
    "codec": ("none", "gzip", "snappy", "lz4", "zstd"), "idempotent": bool, "batch-size": "size", "linger": "time", "in-flight": int,
    "backlog": "size", "warmup": "time", "duration": "time", "topic-settings": dict, "faults": list}
SIZES = {"": 1, "b": 1, "k": 2**10, "kib": 2**10, "m": 2**20, "mib": 2**20, "g": 2**30, "gib": 2**30, "t": 2**40, "tib": 2**40,
         "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
TIMES = {"": 1, "us": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
# A stream of a peer costs what many partitions of ours do, and each has a thread that reads it.
MOST_STREAMS, MOST_TOPICS = 16, 100
# Records that a producer has on their way at most: what the peers do best with, and no more than 64 MiB.
WINDOW, WINDOW_BYTES = 4000, 64 << 20


class WorkloadError(Exception):
    """A file that cannot be used; the text names it and the key."""


def quantity(text, units):
    """A number with a unit; None where it is not one."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)([a-zA-Z]*)", str(text))
    unit = found and found[2].lower()
    return float(found[1]) * units[unit] if found and unit in units else None


def parse_rate(text):
    """Records a second, "max", or a share of what flat out reaches as ("share", 0.33); None where it is none of them."""
    text = str(text)
    if text == "max":
        return "max"
    if text.endswith("%"):
        percent = quantity(text[:-1], {"": 1})
        return ("share", percent / 100) if percent and percent <= 100 else None
    count, _, unit = text.partition("/")
    rate = quantity(count, {"": 1, "k": 1e3, "m": 1e6})
    seconds = {"": 1, "s": 1, "m": 60, "h": 3600}.get(unit)
    return rate / seconds if rate and seconds else None


@dataclass
class Workload:
    """What is asked for; sizes in bytes, times in seconds."""

    name: str
    description: str = ""
    topics: int = 1
    partitions: int = 1
    replicas: int = 3
    record_size: int = 1024
    payload: str = "random"
    keys: str = "none"
    rate: object = "max"
    producers: int = 1
    groups: int = 1
    consumers: int = 1
    acks: str = "all"
    codec: str = "none"
    idempotent: bool = True
    batch_size: int = 256 << 10
    linger: float = 0.005
    in_flight: int = 5
    backlog: int = 0
    warmup: float = 5.0
    duration: float = 30.0
    topic_settings: dict = field(default_factory=dict)
    faults: list = field(default_factory=list)


def parse_value(kind, value):
    """A key's value in bytes, seconds and so on; None where it is a bad one."""
    if kind == "size":
        size = quantity(value, SIZES)
        return None if size is None else int(size)
    if kind == "time":
        return quantity(value, TIMES)
    if kind == "rate":
        return parse_rate(value)
    if isinstance(kind, tuple):
        return str(value) if str(value) in kind else None
    if kind is int:
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000 else None
    return value if isinstance(value, kind) else None


def read_workload(path):
    """Reads a file; an unknown key or a bad value is an error that names it."""
    try:
        table = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise WorkloadError(f"{path}: {error}") from None
    workload, problems = Workload(Path(path).stem), []
    for key, value in table.items():
        parsed = parse_value(KEYS[key], value) if key in KEYS else None
        if key not in KEYS:
            problems.append(f"{path}: {key}: no such key")
        elif parsed is None or (parsed == 0 and KEYS[key] is int and key != "groups"):
            problems.append(f"{path}: {key}: {value!r} is no value for it")
        else:
            setattr(workload, key.replace("-", "_"), parsed)
    if workload.record_size < 1:
        problems.append(f"{path}: record-size is a byte at least")
    if workload.backlog and not workload.groups:
        problems.append(f"{path}: a backlog wants groups that read it")
    if workload.duration < 1:
        problems.append(f"{path}: duration is a second at least")
    if problems:
        raise WorkloadError("\n".join(problems))
    return workload


@dataclass
class Plan:
    """How a peer runs a workload: what differs from the file is told in `notes`, and `load` is what really runs."""

    workload: Workload
    topics: int
    partitions: int
    replicas: int
    window: int
    notes: list
    gathers: bool

    @property
    def description(self):
        """The file's sentence, and what differs."""
        sentence = self.workload.description
        if not self.notes:
            return sentence
        return (f"{sentence.rstrip('.')}. " if sentence else "") + f"Here: {'; '.join(self.notes)}."

    def load(self, rate):
        """The `load` of a result."""
        workload = self.workload
        batches = {"batch_bytes": workload.record_size, "linger_ms": 0, "in_flight": self.window}
        if self.gathers:
            batches = {"batch_bytes": workload.batch_size, "linger_ms": workload.linger * 1000, "in_flight": workload.in_flight}
        return batches | {
            "topics": self.topics, "partitions": self.partitions, "record_bytes": workload.record_size, "payload": workload.payload,
            "keys": "none", "rate": None if rate is None else round(rate, 1), "producers": workload.producers, "groups": workload.groups,
            "consumers": 1 if self.gathers else self.partitions, "acks": "all", "codec": "none", "seconds": workload.duration, "warmup_seconds": workload.warmup}


def plan(workload, node_count, speaks_kafka=False):
    """What a peer of so many nodes makes of a workload; one that speaks Kafka's protocol has its partitions and batches."""
    notes = []
    topics = workload.topics if speaks_kafka else min(workload.topics, MOST_TOPICS)
    partitions = workload.partitions if speaks_kafka else max(1, min(workload.partitions, MOST_STREAMS // topics))
    replicas = min(workload.replicas, node_count)
    window = max(1, WINDOW_BYTES // workload.record_size)
    if not speaks_kafka:
        window = min(WINDOW, window)
    if workload.in_flight == 1 or workload.batch_size <= workload.record_size:
        # One record at a time, or batches of one record.
        window = min(window, workload.in_flight)
    if topics < workload.topics:
        notes.append(f"{topics} topics instead of {workload.topics}")
    if partitions < workload.partitions:
        notes.append(f"streams or queues for each topic: {partitions} instead of {workload.partitions} partitions")
    elif partitions > 1 and not speaks_kafka:
        notes.append("each partition is a stream or a queue of its own")
    if speaks_kafka and not workload.idempotent:
        notes.append("idempotent producers")
    if speaks_kafka and workload.in_flight > 5:
        notes.append(f"5 requests on their way instead of {workload.in_flight}")
    if speaks_kafka and workload.groups and workload.consumers > 1:
        notes.append("one reader in each group")
    elif workload.consumers > partitions:
        notes.append(f"readers in each group: {partitions} instead of {workload.consumers}")
    if workload.keys != "none":
        notes.append("records without keys")
    if workload.acks not in ("all", "-1"):
        notes.append(f"the peer's acknowledgement instead of acks={workload.acks}")
    if workload.codec != "none":
        notes.append("no compression")
    # Peers leave alone what producers send, which is what that value says.
    settings = sorted(name for name, value in workload.topic_settings.items() if (name, value) != ("compression.type", "producer"))
    if settings:
        notes.append("without the topic settings " + ", ".join(settings))
    return Plan(workload, topics, partitions, replicas, window, notes, speaks_kafka)
