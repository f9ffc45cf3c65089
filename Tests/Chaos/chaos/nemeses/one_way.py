"""A cut in one direction."""

from .nemesis import Nemesis


class OneWay(Nemesis):
    """Who is heard and does not hear, or hears and is not heard, must not hold up the others or depose their leader for ever."""

    name = "one-way"
    sentence = "for 2 to 8 s a random broker does not hear another one, or none of the others, while they hear it"
    needs_network = True
    needs_root = True
    least_brokers = 3
    longest_silence = 15.0

    def strike(self, until):
        """Cuts and heals."""
        fabric = self.cluster.fabric
        numbers = [broker.number for broker in self.cluster.brokers]
        while True:
            receiver = self.leader().number if self.random.random() < 0.5 else self.random.choice(numbers)
            others = [number for number in numbers if number != receiver]
            senders = others if self.random.random() < 0.5 else [self.random.choice(others)]
            fabric.drop(receiver, senders)
            self.count += 1
            self.note(f"{receiver} does not hear {senders}")
            self.wait(self.random.uniform(2, 8), until)
            fabric.heal()
            self.note("healed")
            if not self.wait(self.random.uniform(1, 3), until):
                return

    def heal(self):
        """Everybody hears everybody."""
        self.cluster.fabric.heal()
