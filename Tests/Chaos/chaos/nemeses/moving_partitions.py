"""Partitions that move."""

from ..report import expect
from .nemesis import Nemesis

MOVE_SECONDS = 60
PAUSE_SECONDS = 1.0


class MovingPartitions(Nemesis):
    """Other brokers each time, now the leader among them and now not; some movements are given up half way."""

    name = "moving-partitions"
    sentence = "partitions move to other brokers, one after the other; every third movement is given up on its way"
    extra_brokers = 1
    longest_silence = 5.0

    def strike(self, until):
        """Moves, waits until it is done, moves the next."""
        while True:
            topic, partition = place = self.random.choice(self.cluster.places)
            now = self.cluster.partitions()
            expect(now and now[place], f"nobody knows {place}")
            target = self.another_set(now[place].replicas)
            is_given_up = self.count % 3 == 2
            self.move(topic, partition, "--to", ",".join(map(str, target)), *(("--no-wait",) if is_given_up else ()))
            if is_given_up:
                self.wait(self.random.uniform(0, 0.3), until)
                self.move(topic, partition, "--cancel")
            self.count += 1
            self.note(f"{topic}/{partition} to {target}{', given up' if is_given_up else ''}")
            if not self.wait(PAUSE_SECONDS, until):
                return

    def another_set(self, replicas):
        """As many brokers as before, at least one of them another, in any order."""
        numbers = [broker.number for broker in self.cluster.brokers]
        # While a movement ends there are more replicas than were asked for, perhaps one on every broker.
        count = min(len(replicas), len(numbers) - 1)
        while True:
            chosen = self.random.sample(numbers, count)
            if sorted(chosen) != sorted(replicas):
                return chosen

    def move(self, topic, partition, *words):
        """`flotilla partition move`, as a person does it."""
        self.flotilla("partition", "move", topic, "-p", str(partition), *words, seconds=MOVE_SECONDS)

    def heal(self):
        """Nothing is broken."""
