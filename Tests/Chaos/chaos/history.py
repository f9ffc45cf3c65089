"""What clients did and saw, and the rules that it must obey.

A record has a number: that of its producer, and behind it the count of what this producer sent before. The number alone says what the
record's bytes are and which partition it was sent to, so nothing but numbers has to be remembered.
"""

import random
from dataclasses import dataclass, field

# Numbers of one producer; more than anybody sends in an hour.
PRODUCER_SPAN = 10**9
NOISE_BYTES = 1 << 16
NOISE = random.Random(3).randbytes(NOISE_BYTES)
# Findings of one kind that are told in full; the rest is counted.
TOLD = 5


def number_of(producer, count):
    """The number of a producer's record."""
    return producer * PRODUCER_SPAN + count


def producer_of(number):
    """The producer that a record's number names."""
    return number // PRODUCER_SPAN


def value_of(number):
    """A record's bytes: its number, and noise of a length that the number decides, now and then a long one."""
    length = 40_000 if number % 211 == 7 else 20 + number * 7919 % 1400
    start = number * 104_729 % (NOISE_BYTES - length)
    return b"%d " % number + NOISE[start:start + length]


def number_in(value):
    """The number of a received record, or None where its bytes are not those that were sent."""
    head, _, _ = (value or b"")[:24].partition(b" ")
    if not head.isdigit():
        return None
    number = int(head)
    return number if value_of(number) == value else None


@dataclass
class Reading:
    """What one reader got, in the order in which it came: place, offset and number."""

    name: str
    records: list = field(default_factory=list)
    problems: list = field(default_factory=list)


@dataclass
class History:
    """Everything that is known of a run. A place is a topic and a partition."""

    places: list
    # How many records each producer handed to its library.
    sent: dict = field(default_factory=dict)
    # Number of an acknowledged record: the place and offset that the acknowledgement named.
    acknowledged: dict = field(default_factory=dict)
    # Number of a record whose delivery failed: the library's reason. It may be there or not.
    failed: dict = field(default_factory=dict)
    # Readers that went along with the run.
    readings: list = field(default_factory=list)
    # What lies in each place at the end: offsets and numbers in the order of the log.
    final: dict = field(default_factory=dict)

    def place_of(self, number):
        """The place that a record was sent to."""
        return self.places[number % PRODUCER_SPAN % len(self.places)]

    def was_sent(self, number):
        """Whether a producer sent a record of this number."""
        return number is not None and number % PRODUCER_SPAN < self.sent.get(producer_of(number), 0)


def name_of(place):
    """A place as people write it."""
    return f"{place[0]}/{place[1]}"


def lost(history):
    """Acknowledged or seen once, and not there in the end; offsets that are skipped."""
    findings = []
    stored = {place: dict(records) for place, records in history.final.items()}
    for number, (place, offset) in history.acknowledged.items():
        found = stored.get(place, {}).get(offset)
        if found != number:
            findings.append(f"{number}, acknowledged at {name_of(place)} offset {offset}, where now {found} is")
    for reading in history.readings:
        for place, offset, number in reading.records:
            found = stored.get(place, {}).get(offset)
            if found != number:
                findings.append(f"{number}, seen by {reading.name} at {name_of(place)} offset {offset}, where now {found} is")
    for place in history.places:
        offsets = [offset for offset, _ in history.final.get(place, ())]
        for expected, offset in enumerate(sorted(set(offsets))):
            if offset != expected:
                findings.append(f"{name_of(place)} has no offset {expected}")
                break
    return findings


def duplicated(history):
    """One record at two offsets, or an offset that comes twice."""
    findings = []
    for place, records in history.final.items():
        findings += twice_in(((offset, number) for offset, number in records), name_of(place))
    for reading in history.readings:
        by_place = {}
        for place, offset, number in reading.records:
            by_place.setdefault(place, []).append((offset, number))
        for place, records in by_place.items():
            findings += twice_in(records, f"{name_of(place)} as {reading.name} saw it")
    return findings


def twice_in(records, where):
    """Offsets and numbers that come more than once."""
    findings, offsets, numbers = [], set(), {}
    for offset, number in records:
        if offset in offsets:
            findings.append(f"offset {offset} came twice in {where}")
        elif number is not None and number in numbers:
            findings.append(f"{number} lies at offsets {numbers[number]} and {offset} of {where}")
        offsets.add(offset)
        if number is not None:
            numbers.setdefault(number, offset)
    return findings


def reordered(history):
    """Records of one producer in another order than it sent them, or offsets that go back."""
    findings = []
    for place, records in history.final.items():
        findings += disorder_in(records, name_of(place))
    for reading in history.readings:
        by_place = {}
        for place, offset, number in reading.records:
            by_place.setdefault(place, []).append((offset, number))
        for place, records in by_place.items():
            findings += disorder_in(records, f"{name_of(place)} as {reading.name} saw it")
    return findings


def disorder_in(records, where):
    """Offsets, and numbers of one producer, that are smaller than one before."""
    findings, last_offset, last_numbers = [], -1, {}
    for offset, number in records:
        if offset < last_offset:
            findings.append(f"offset {offset} came after {last_offset} in {where}")
        last_offset = max(last_offset, offset)
        if number is None:
            continue
        before = last_numbers.get(producer_of(number), -1)
        if number < before:
            findings.append(f"{number} lies behind {before} in {where}")
        last_numbers[producer_of(number)] = max(before, number)
    return findings


def phantoms(history):
    """Records that nobody sent: other bytes, an unknown number, or another partition than it was sent to."""
    findings = []

    def judge(place, offset, number, where):
        if number is None:
            findings.append(f"bytes that nobody sent at {name_of(place)} offset {offset}{where}")
        elif not history.was_sent(number):
            findings.append(f"{number}, never sent, at {name_of(place)} offset {offset}{where}")
        elif history.place_of(number) != place:
            findings.append(f"{number}, sent to {name_of(history.place_of(number))}, at {name_of(place)} offset {offset}{where}")

    for place, records in history.final.items():
        for offset, number in records:
            judge(place, offset, number, "")
    for reading in history.readings:
        for place, offset, number in reading.records:
            judge(place, offset, number, f" as {reading.name} saw it")
    return findings


RULES = {"lost": lost, "duplicated": duplicated, "reordered": reordered, "phantom": phantoms}


def told(findings):
    """Findings as one line."""
    rest = len(findings) - TOLD
    return "; ".join(findings[:TOLD]) + (f"; and {rest} more" if rest > 0 else "")
