"""Where brokers live: on this machine's loopback, or each in a network namespace of its own behind a bridge."""

import contextlib
import json
import os
import random
import re
import socket

from .processes import run

PREFIX = "fchaos"
KAFKA_PORT, PEER_PORT, ADMIN_PORT = 9092, 9192, 9644
FIRST_PORT = 12_000
# What this process has given away already.
TAKEN = set()


class Loopback:
    """No network of its own: addresses on 127.0.0.1, and no faults but those of processes and disks."""

    has_faults = False

    def __init__(self, size):
        self.ports = {number: free_ports(3) for number in range(1, size + 1)}

    def up(self):
        """Nothing to do."""

    def down(self):
        """Nothing to do."""

    def addresses(self, number):
        """A broker's addresses for clients, for brokers, and for administration."""
        return tuple(f"127.0.0.1:{port}" for port in self.ports[number])

    def prefix(self, _number):
        """What stands before a broker's command line."""
        return []


def free_ports(count):
    """Ports of 127.0.0.1 that nobody listens on now, all different; below those that outgoing connections get, since these are many."""
    found = []
    while len(found) < count:
        port = random.randrange(FIRST_PORT, lowest_outgoing_port())
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in TAKEN:
                found.append(port)
                TAKEN.add(port)
    return found


def lowest_outgoing_port():
    """The first of the ports that the kernel gives to connections."""
    with open("/proc/sys/net/ipv4/ip_local_port_range") as limits:
        return max(FIRST_PORT + 1000, int(limits.read().split()[0]))


class Namespaces:
    """Each broker in a network namespace, clients outside; a bridge joins all.

    Each namespace has an nftables set of addresses whose packets it drops, so that a cut is one direction of one pair, silent, and the
    clients need not be part of it.
    """

    has_faults = True

    def __init__(self, size):
        self.numbers = range(1, size + 1)
        self.subnet = free_subnet()
        self.bridge = f"{PREFIX}{os.getpid()}"

    def name(self, number):
        """A broker's namespace."""
        return f"{PREFIX}{os.getpid()}-{number}"

    def host(self, number):
        """A broker's address; 254 is ours."""
        return f"{self.subnet}.{number}"

    def addresses(self, number):
        """A broker's addresses for clients, for brokers, and for administration."""
        return tuple(f"{self.host(number)}:{port}" for port in (KAFKA_PORT, PEER_PORT, ADMIN_PORT))

    def prefix(self, number):
        """What stands before a broker's command line."""
        return ["ip", "netns", "exec", self.name(number)]

    def up(self):
        """Makes bridge, namespaces and rules."""
        run("ip", "link", "add", self.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{self.host(254)}/24", "dev", self.bridge)
        run("ip", "link", "set", self.bridge, "up")
        for number in self.numbers:
            name, outer = self.name(number), f"fc{os.getpid()}.{number}"
            run("ip", "netns", "add", name)
            run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
            run("ip", "link", "set", outer, "master", self.bridge, "up")
            run("ip", "-n", name, "addr", "add", f"{self.host(number)}/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            self.nft(number, RULES)

    def down(self):
        """Removes all of it; also what is only half there."""
        for number in self.numbers:
            run("ip", "netns", "del", self.name(number), check=False)
            run("ip", "link", "del", f"fc{os.getpid()}.{number}", check=False)
        run("ip", "link", "del", self.bridge, check=False)

    def nft(self, number, commands):
        """Gives nftables commands in a broker's namespace."""
        run("ip", "netns", "exec", self.name(number), "nft", "-f", "-", input=commands)

    def drop(self, receiver, senders):
        """The receiver no longer hears the senders; 254 is all clients."""
        elements = ", ".join(self.host(sender) for sender in senders)
        self.nft(receiver, f"add element inet chaos deaf {{ {elements} }}\n")

    def hear(self, receiver):
        """The receiver hears everybody again."""
        self.nft(receiver, "flush set inet chaos deaf\n")

    def isolate(self, number):
        """No packet passes between one broker and the others; clients reach all."""
        others = [other for other in self.numbers if other != number]
        self.drop(number, others)
        for other in others:
            self.drop(other, [number])

    def unplug(self, number):
        """Takes the cable out: silence for everybody, clients included."""
        run("ip", "-n", self.name(number), "link", "set", "eth0", "down")

    def plug(self, number):
        """Puts the cable back."""
        run("ip", "-n", self.name(number), "link", "set", "eth0", "up")

    def heal(self):
        """Everybody hears everybody."""
        for number in self.numbers:
            self.plug(number)
            self.hear(number)


RULES = """
table inet chaos {
    set deaf { type ipv4_addr; }
    chain input {
        type filter hook input priority 0; policy accept;
        ip saddr @deaf drop
    }
}
"""


def free_subnet():
    """A private network of 256 addresses that this machine does not use."""
    used = {
        address["local"].rsplit(".", 1)[0]
        for link in json.loads(run("ip", "-j", "-4", "addr").stdout) for address in link.get("addr_info", ())}
    return next(subnet for subnet in (f"10.83.{third}" for third in range(256)) if subnet not in used)


def sweep():
    """Removes what a run left that was killed: its process is gone, its namespaces and links are not."""
    names = [each["name"] for each in json.loads(run("ip", "-j", "netns", "list", check=False).stdout or "[]")]
    links = [each["ifname"] for each in json.loads(run("ip", "-j", "link", check=False).stdout or "[]")]
    for name in names:
        if is_orphan(re.fullmatch(rf"{PREFIX}(\d+)-\d+", name)):
            run("ip", "netns", "del", name, check=False)
    for name in links:
        if is_orphan(re.fullmatch(rf"(?:{PREFIX}(\d+)|fc(\d+)\.\d+)", name)):
            run("ip", "link", "del", name, check=False)


def is_orphan(match):
    """Whether a name carries the id of a process that does not live."""
    if not match:
        return False
    process = next(group for group in match.groups() if group)
    return not os.path.exists(f"/proc/{process}")


def remains():
    """What of this process's network is still there."""
    mine = f"{PREFIX}{os.getpid()}"
    found = []
    for command in (("ip", "netns", "list"), ("ip", "-o", "link")):
        with contextlib.suppress(OSError):
            found += [line for line in run(*command, check=False).stdout.splitlines() if mine in line or f"fc{os.getpid()}." in line]
    return found
