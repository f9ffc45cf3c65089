"""What outlives a stop and a crash: records, topics, settings, identities and what is known of producers."""

import subprocess
import time

from . import batches
from .broker import Broker
from .plain import read_all, serves
from .report import expect, expect_equal
from .wire import FETCH, Connection, Writer

TOPIC = "restarted"
OUT_OF_ORDER_SEQUENCE = 45
TOPIC_ALREADY_EXISTS = 36


def run(binary, report):
    """Writes, stops in both ways, and looks."""
    with Broker(binary) as broker:
        with Connection(broker.host, broker.port) as connection:
            expect_equal(connection.create_topic(TOPIC, 2, {"retention.ms": "987654321"}), 0, "error of create topic")
            error, producer, epoch = connection.init_producer_id()
            expect_equal(error, 0, "error of InitProducerId")
            sequence = [batches.build([b"%d" % n] * 3, producer, epoch, 3 * n) for n in range(7)]
            answers = [connection.produce(TOPIC, 0, batch) for batch in sequence[:6]]
            connection.produce(TOPIC, 1, batches.build([b"without a producer id"]))
            expect_equal(answers, [(0, 3 * n) for n in range(6)], "answers to an idempotent producer")
            before = snapshot(connection)
        with report.check("restart", "a second broker on the same directory is refused, the first goes on"):
            expect_refusal(binary, broker)
        with report.check("restart", "a clean stop ends with 0 and loses nothing"):
            expect_equal(broker.stop(), 0, "exit code after SIGTERM")
            broker.start()
            with Connection(broker.host, broker.port) as connection:
                expect_equal(snapshot(connection), before, "records, settings and topic after a clean restart")
                expect_equal(connection.create_topic(TOPIC, 2), TOPIC_ALREADY_EXISTS, "error of creating it again")
        with report.check("restart", "a producer's state survives a clean stop"):
            expect_idempotence(broker, sequence, producer, epoch)
        with report.check("restart", "a producer's state survives a crash"):
            broker.kill()
            broker.start()
            expect_idempotence(broker, sequence, producer, epoch)
        with report.check("restart", "producer ids are never given twice"):
            expect_fresh_ids(broker, {producer})
        with report.check("restart", "a stop in the middle of a waiting fetch is quick"):
            expect_quick_stop(broker)


def snapshot(connection):
    """All that must be the same afterwards."""
    records = [[batch for _, batch in read_all(connection, TOPIC, partition)] for partition in (0, 1)]
    return records, connection.topic_config(TOPIC, "retention.ms"), sorted(connection.metadata([TOPIC])[TOPIC][1])


def expect_refusal(binary, broker):
    """The lock of the data directory holds."""
    command = [
        binary, "serve", "--data-dir", broker.data_directory, "--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0",
    ]
    second = subprocess.run(command, capture_output=True, timeout=20, cwd=broker.directory)
    expect(second.returncode != 0, "a second broker ran and ended with 0")
    said = (second.stdout + second.stderr).decode("utf-8", "replace")
    expect(broker.data_directory in said, f"the refusal does not name the directory: {said[-300:]}")
    serves(broker)


def expect_idempotence(broker, sequence, producer, epoch):
    """Each of the last five batches is a known duplicate, a gap is refused, and nothing is written by either."""
    with Connection(broker.host, broker.port) as connection:
        end = connection.list_offset(TOPIC, 0, -1)[2]
        for number in range(1, 6):
            answer = connection.produce(TOPIC, 0, sequence[number])
            expect_equal(answer, (0, 3 * number), f"answer to the duplicate with sequence {3 * number}")
        gap = batches.build([b"gap"], producer, epoch, 1000)
        expect_equal(connection.produce(TOPIC, 0, gap)[0], OUT_OF_ORDER_SEQUENCE, "error of a gap")
        expect_equal(connection.list_offset(TOPIC, 0, -1)[2], end, "end offset after duplicates and a gap")


def expect_fresh_ids(broker, known):
    """New ids stay new through a crash and a stop."""
    for restart in (broker.kill, broker.stop):
        with Connection(broker.host, broker.port) as connection:
            for _ in range(3):
                error, producer, epoch = connection.init_producer_id()
                expect_equal((error, epoch), (0, 0), "error and epoch of InitProducerId")
                expect(producer not in known, f"producer id {producer} was given twice")
                known.add(producer)
        restart()
        broker.start()


def expect_quick_stop(broker):
    """A client that waits for records does not hold up a stop."""
    with Connection(broker.host, broker.port) as connection:
        connection.create_topic("empty", 1)
        with Connection(broker.host, broker.port) as waiting:
            body = Writer().add("iiiib", -1, 20000, 1, 1 << 20, 0).add("i", 1).string("empty")
            waiting.send_request(FETCH, 4, body.add("iiqi", 1, 0, 0, 1 << 20).data())
            time.sleep(0.2)
            begin = time.monotonic()
            expect_equal(broker.stop(), 0, "exit code")
            expect(time.monotonic() - begin < 10, "a stop takes at most ten seconds")
    broker.start()
