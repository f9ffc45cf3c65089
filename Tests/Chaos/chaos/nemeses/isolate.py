"""A broker cut off."""

from .nemesis import Nemesis


class Isolate(Nemesis):
    """Half of the times clients still reach it, so that a leader without followers must not acknowledge anything."""

    name = "isolate"
    sentence = "a random broker is cut off for 2 to 8 s, from the other brokers only or from everybody"
    needs_network = True
    needs_root = True
    least_brokers = 3
    longest_silence = 15.0

    def strike(self, until):
        """Cuts and heals."""
        fabric = self.cluster.fabric
        while True:
            broker, is_unplugged = self.leader(), self.random.random() < 0.5
            if is_unplugged:
                fabric.unplug(broker.number)
            else:
                fabric.isolate(broker.number)
            self.count += 1
            self.note(f"{broker.number} {'unplugged' if is_unplugged else 'cut off from the brokers'}")
            self.wait(self.random.uniform(2, 8), until)
            fabric.heal()
            self.note("healed")
            if not self.wait(self.random.uniform(2, 4), until):
                return

    def heal(self):
        """Everybody hears everybody."""
        self.cluster.fabric.heal()
