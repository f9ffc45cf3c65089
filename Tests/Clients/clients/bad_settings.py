"""A wrong setting stops the start, names itself, its place and its nearest neighbour."""

import os
import subprocess
import tempfile

from .broker import Broker
from .report import expect, expect_equal
from .wire import Connection

INVALID_CONFIG = 40
USAGE = 2


def run(binary, report):
    """Tries wrong files, variables, flags and topic settings."""
    with tempfile.TemporaryDirectory(prefix="flotilla-settings-") as directory:
        path = os.path.join(directory, "flotilla.toml")
        with report.check("settings", "a misspelt key names itself and its nearest neighbour"):
            code, said = start(binary, directory, '[kafka]\nlistenrs = "127.0.0.1:0"\n')
            expect(code != 0, "it started")
            expect_words(said, ["kafka.listenrs", "kafka.listeners"])
        with report.check("settings", "all wrong keys and values are named at once"):
            text = '[journal]\nfile.bytes = 12\nfile.byts = 1048576\n[log]\nretention.bytes = "many"\n'
            code, said = start(binary, directory, text)
            expect(code != 0, "it started")
            expect_words(said, ["journal.file.bytes", "journal.file.byts", "log.retention.bytes"])
        with report.check("settings", "a file that is no TOML names the file and the line"):
            code, said = start(binary, directory, "[kafka]\nlisteners = [[[\n")
            expect(code != 0, "it started")
            expect_words(said, ["flotilla.toml", "2"])
        with report.check("settings", "a file that is not there is named"):
            os.remove(path)
            code, said = serve(binary, directory, ["--config", path])
            expect(code != 0, "it started")
            expect_words(said, ["flotilla.toml"])
        with report.check("settings", "a wrong variable names itself"):
            code, said = serve(binary, directory, [], {"FLOTILLA_JOURNAL_FILE_BYTES": "a lot"})
            expect(code != 0, "it started")
            expect(
                "journal.file.bytes" in said or "FLOTILLA_JOURNAL_FILE_BYTES" in said, f"it does not say which: {said}")
        with report.check("settings", "a flag that is not there ends with the code for usage"):
            code, said = serve(binary, directory, ["--data-dirr", "x"])
            expect_equal(code, USAGE, f"exit code ({said[-200:]})")
            expect_words(said, ["--data-dirr"])
        with report.check("settings", "`config lint` finds the same without starting"):
            write(path, '[kafka]\nlistenrs = "127.0.0.1:0"\n')
            result = subprocess.run([binary, "config", "lint", path], capture_output=True, timeout=20)
            expect(result.returncode != 0, "it found nothing")
            expect_words(text_of(result), ["kafka.listenrs", "kafka.listeners"])
    with Broker(binary) as broker, Connection(broker.host, broker.port) as connection:
        with report.check("settings", "a topic with an unknown or impossible setting is refused"):
            for name, value in (("retention.mss", "1"), ("retention.ms", "soon"), ("segment.bytes", "-4")):
                error = connection.create_topic("never", 1, {name: value})
                expect_equal(error, INVALID_CONFIG, f"error of {name}={value}")
            expect("never" not in connection.metadata([]), "the topic was created all the same")


def write(path, text):
    """Writes a file."""
    with open(path, "w") as file:
        file.write(text)


def text_of(result):
    """What a process said on both streams."""
    return (result.stdout + result.stderr).decode("utf-8", "replace")


def start(binary, directory, text):
    """Starts with this file; a wrong one must end it soon."""
    path = os.path.join(directory, "flotilla.toml")
    write(path, text)
    return serve(binary, directory, ["--config", path])


def serve(binary, directory, arguments, environment=None):
    """The exit code of `serve`, 0 where it had to be ended because it started, and what it said."""
    command = [
        binary, "serve", "--data-dir", os.path.join(directory, "data"), "--kafka", "127.0.0.1:0",
        "--admin", "127.0.0.1:0", *arguments,
    ]
    try:
        result = subprocess.run(
            command, capture_output=True, timeout=8, cwd=directory, env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        return 0, "(it started)"
    return result.returncode, text_of(result)


def expect_words(said, words):
    """Everything that should be named is."""
    for word in words:
        expect(word in said, f"`{word}` is not named: {said[-500:]}")
