"""The peers: how each is started on this machine with data in a directory, and what its settings mean for the data."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from guard import end

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "Tests" / "Chaos"))

from chaos.fabrics import free_ports  # noqa: E402: the path is set above

READY_SECONDS = 120
# RabbitMQ's own script, not the wrapper that wants to be the user rabbitmq.
RABBITMQ = Path("/usr/lib/rabbitmq/bin")
# Streams of RabbitMQ copy themselves through ports of this range, counted from a free one.
COPY_PORTS = 200


class PeerError(Exception):
    """A peer that cannot be measured; the text says why."""


def output_of(*command, **settings):
    """What a command prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True, **settings).stdout


def found_version(text):
    """The first version number in a text."""
    found = re.search(r"\d+\.\d+\.\d+", text)
    return found[0] if found else "?"


def server_path(name):
    """A server's binary; administrators' directories are not in everyone's PATH."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")
    if not path:
        raise PeerError(f"{name} is not installed")
    return path


class Peer:
    """Nodes of one system."""

    # What bench/peers/deps calls it, the driver, and the library that the driver is linked with.
    package = driver = library = kind = ""
    node_count = 3
    # Whether each run has servers of its own; otherwise they stay, and only streams are made anew.
    starts_afresh = True
    # Whether it has partitions, and clients that gather batches.
    speaks_kafka = False

    def __init__(self, directory, guard):
        self.directory, self.guard = directory, guard
        self.nodes = []
        self.ports = []

    def begin(self, command, number, environment=None):
        """Starts a node whose output goes to a file."""
        with open(f"{self.directory}/node-{number}.out", "ab") as output:
            node = subprocess.Popen(
                command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True)
        self.guard.tell("start", node.pid)
        self.nodes.append(node)

    def start(self):
        """Starts all nodes with no data, and waits until they serve."""
        os.makedirs(self.directory)
        self.begin_all()
        self.wait_for_ports()

    def wait_for_ports(self):
        """Waits until every node takes connections."""
        deadline = time.monotonic() + READY_SECONDS
        for port in self.ports:
            while not is_open(port):
                if time.monotonic() > deadline or not self.is_whole:
                    raise PeerError(f"{self.system} does not start: {self.last_words()}")
                time.sleep(0.05)

    @property
    def is_whole(self):
        """Whether all nodes run."""
        return all(node.poll() is None for node in self.nodes)

    def last_words(self):
        """The end of what the nodes printed."""
        texts = [path.read_text(errors="replace") for path in sorted(Path(self.directory).glob("node-*.out"))]
        return "\n".join(text[-500:] for text in texts) or "they printed nothing"

    def stop(self):
        """Kills all nodes and deletes their data."""
        end([node.pid for node in self.nodes])
        for node in self.nodes:
            node.wait()
            self.guard.tell("stop", node.pid)
        self.nodes = []
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def addresses(self):
        """Where clients connect."""
        return ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def retained_bytes(self, replicas):
        """How much streams may keep before the oldest is dropped: a bound that keeps the machine alive, not a setting to compare."""
        return int(shutil.disk_usage(self.directory).free * 0.6 / replicas)


def is_open(port):
    """Whether somebody listens."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def majority(replicas):
    """`2 of 3`."""
    return f"{replicas // 2 + 1} of {replicas}"


class Nats(Peer):
    """NATS JetStream as it is set by default: file streams, synced every two minutes."""

    package, driver, library = "nats", "nats", "nats"
    sync = None
    is_durable = False

    @property
    def binary(self):
        """Debian's server."""
        return server_path("nats-server")

    @property
    def system(self):
        """As the report calls it."""
        return f"NATS JetStream {found_version(output_of(self.binary, '--version'))}, 3 nodes, {'sync ' + self.sync if self.sync else 'default'}"

    def durability(self, replicas):
        """What an acknowledgement means."""
        if self.sync:
            return f"fsync on {majority(replicas)} before the acknowledgement"
        return f"written on {majority(replicas)}, synced up to two minutes after the acknowledgement"

    def begin_all(self):
        """Three nodes that know each other's routes."""
        self.ports, routes = free_ports(3), free_ports(3)
        for number in range(3):
            others = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
            sync = f"\n  sync_interval: {self.sync}" if self.sync else ""
            # A record of a mebibyte is more than the server takes by default.
            Path(f"{self.directory}/node-{number}.conf").write_text(f"""
server_name: node-{number}
listen: "127.0.0.1:{self.ports[number]}"
max_payload: 8MB
jetstream {{
  store_dir: "{self.directory}/node-{number}"{sync}
}}
cluster {{
  name: bench
  listen: "127.0.0.1:{routes[number]}"
  routes: [{others}]
}}
""")
            self.begin([self.binary, "--config", f"{self.directory}/node-{number}.conf"], number)


class NatsNew(Nats):
    """The newest server, from the wheel."""

    package = "nats-new"

    @property
    def binary(self):
        """Where bench/peers/deps puts it."""
        return str(HERE.parent.parent / ".venv" / "peers" / "bin" / "nats-server")


class NatsNewSync(NatsNew):
    """The newest server, which syncs before it acknowledges."""

    sync = "always"
    is_durable = True


class RabbitMQ(Peer):
    """Three nodes of RabbitMQ; their start takes a while, so they stay for all runs."""

    package, driver, library = "rabbitmq", "rabbitmq", "rabbitmq"
    starts_afresh = False

    @property
    def system(self):
        """As the report calls it."""
        version = output_of("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server")
        return f"RabbitMQ {found_version(version)}, 3 nodes, {self.words}"

    def begin_all(self):
        """The port mapper of Erlang, a node, and then the others, which join it."""
        self.ports = free_ports(3)
        self.mapper, self.control, self.copies, *self.distribution = free_ports(6)
        cookie = Path(f"{self.directory}/.erlang.cookie")
        cookie.write_text(os.urandom(16).hex())
        cookie.chmod(0o400)
        names = "\n".join(f"cluster_formation.classic_config.nodes.{number} = {self.node_name(number)}" for number in range(3))
        Path(f"{self.directory}/rabbitmq.conf").write_text(
            f"cluster_formation.peer_discovery_backend = classic_config\n{names}\nlog.file.level = warning\n")
        Path(f"{self.directory}/advanced.config").write_text(
            f"[{{osiris, [{{port_range, {{{self.copies}, {self.copies + COPY_PORTS}}}}}]}}].\n")
        Path(f"{self.directory}/plugins").write_text("[].\n")
        # Nodes would start one as a daemon that outlives them.
        self.begin([server_path("epmd")], "epmd", self.environment())
        while not is_open(self.mapper):
            time.sleep(0.02)
        ports = self.ports
        for number in range(3):
            self.begin([RABBITMQ / "rabbitmq-server"], number, self.environment(number))
            if number == 0:
                # The others would otherwise all want to be the first.
                self.ports = ports[:1]
                self.wait_for_ports()
                self.ports = ports
        self.wait_for_ports()
        running = self.control_command("eval", "length(rabbit_nodes:all_running()).").strip()
        if running != "3":
            raise PeerError(f"{self.system}: {running} of 3 nodes form a cluster: {self.last_words()}")

    @staticmethod
    def node_name(number):
        """A node of Erlang."""
        return f"bench-peer-{number}@localhost"

    def environment(self, number=0):
        """Where a node keeps and finds everything; nothing of a RabbitMQ that runs here otherwise."""
        home = f"{self.directory}/node-{number}"
        return {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin", "LANG": "C.UTF-8", "HOME": self.directory,
            "ERL_EPMD_PORT": str(self.mapper), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node_name(number), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.ports[number]), "RABBITMQ_DIST_PORT": str(self.distribution[number]),
            "RABBITMQ_CTL_DIST_PORT_MIN": str(self.control), "RABBITMQ_CTL_DIST_PORT_MAX": str(self.control),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null", "RABBITMQ_CONFIG_FILE": f"{self.directory}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{self.directory}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{self.directory}/plugins", "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log", "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/config",
            "RABBITMQ_FEATURE_FLAGS_FILE": f"{home}/feature-flags", "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            # By default a node ties its threads to processors, and three nodes on one machine all to the same ones.
            "RABBITMQ_SCHEDULER_BIND_TYPE": "u"}

    def control_command(self, *arguments):
        """What rabbitmqctl answers."""
        return output_of(RABBITMQ / "rabbitmqctl", "-q", "-n", self.node_name(0), *arguments, env=self.environment())


class RabbitMQQuorum(RabbitMQ):
    """Quorum queues."""

    kind, words = "quorum", "quorum queue"
    is_durable = True

    def durability(self, replicas):
        """What a confirm means."""
        return f"fdatasync on {majority(replicas)} before the confirm"


class RabbitMQStream(RabbitMQ):
    """Streams, spoken to in AMQP 0.9.1."""

    kind, words = "stream", "stream"
    is_durable = False

    def durability(self, replicas):
        """What a confirm means."""
        return f"written on {majority(replicas)}, never synced"


class Redis(Peer):
    """Streams of one Redis: it has no replication that acknowledgements wait for."""

    package, driver, library = "redis", "redis", "hiredis"
    node_count = 1

    @property
    def system(self):
        """As the report calls it."""
        version = found_version(output_of(server_path("redis-server"), "--version"))
        return f"Redis Streams {version}, 1 node, appendfsync {self.appendfsync}"

    def begin_all(self):
        """One node with an append-only file and no snapshots."""
        self.ports = free_ports(1)
        self.begin(
            [server_path("redis-server"), "--port", str(self.ports[0]), "--bind", "127.0.0.1", "--dir", self.directory, "--daemonize", "no",
             "--appendonly", "yes", "--appendfsync", self.appendfsync, "--save", ""], 0)

    def retained_bytes(self, replicas):
        """All entries are in memory, which a rewrite of the file may need twice."""
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 3


class RedisAlways(Redis):
    """Synced before the answer."""

    appendfsync = "always"
    is_durable = True

    def durability(self, _replicas):
        """What an answer means."""
        return "fdatasync on the only node before the answer"


class RedisEverysec(Redis):
    """Synced once a second."""

    appendfsync = "everysec"
    is_durable = False

    def durability(self, _replicas):
        """What an answer means."""
        return "written on the only node, synced up to a second after the answer"


class Flotilla(Peer):
    """Our own brokers, for another client than ours."""

    package, driver, library = "librdkafka", "kafka", "rdkafka"
    speaks_kafka = True
    is_durable = True

    @property
    def binary(self):
        """What `make static` builds, or what the environment names."""
        path = os.environ.get("FLOTILLA") or str(HERE.parent.parent / ".build-static" / "release" / "flotilla")
        if not os.access(path, os.X_OK):
            raise PeerError(f"{path} is not there: make static builds it")
        return path

    @property
    def system(self):
        """As the report calls it."""
        return f"Flotilla {output_of(self.binary, '--version').split()[-1]}, 3 brokers, librdkafka"

    def durability(self, replicas):
        """What an acknowledgement means."""
        return f"fdatasync on {majority(replicas)} before the acknowledgement"

    def begin_all(self):
        """Three brokers that found a cluster."""
        ports = free_ports(9)
        self.ports, admin, peers = ports[:3], ports[3:6], ports[6:]
        join = ",".join(f"127.0.0.1:{port}" for port in peers)
        for number in range(3):
            self.begin(
                [self.binary, "serve", "--node-id", str(number + 1), "--data-dir", f"{self.directory}/data-{number}",
                 "--kafka", f"127.0.0.1:{self.ports[number]}", "--admin", f"127.0.0.1:{admin[number]}",
                 "--peer", f"127.0.0.1:{peers[number]}", "--join", join], number)


PEERS = {
    "nats": Nats, "nats-new": NatsNew, "nats-new-sync": NatsNewSync, "rabbitmq-quorum": RabbitMQQuorum, "rabbitmq-stream": RabbitMQStream,
    "redis-always": RedisAlways, "redis-everysec": RedisEverysec, "librdkafka": Flotilla}
