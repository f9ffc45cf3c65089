"""One module per client library, each with the same few operations, so that all of them run the same exercise."""

import importlib

# The name on the command line, the module, and the virtual environment that it needs.
PEERS = {
    "confluent-kafka": ("confluent", "full"),
    "kafka-python": ("kafka_python", "full"),
    "kafka-python without lz4": ("kafka_python", "plain"),
    "aiokafka": ("aiokafka_peer", "full"),
    "kcat": ("kcat", "full"),
}


def load(name):
    """The peer of that name; its class is called `Peer`."""
    module, _ = PEERS[name]
    return importlib.import_module(f"clients.peers.{module}").Peer
