"""Ends servers and deletes their data when whoever started them is gone, however it went."""

import contextlib
import os
import shutil
import signal
import sys
import time

from measure import families, processes

PATIENCE_SECONDS = 10


def end(roots):
    """Kills processes with all their descendants, and waits until they are gone."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    victims = set(roots)
    while True:
        # Descendants are looked for before their parents die, or nobody would know whose they were.
        victims |= set(families(victims))
        left = victims & set(processes())
        for victim in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        left = {victim for victim in left if is_alive(victim)}
        if not left:
            return
        if time.monotonic() > deadline:
            print(f"bench/peers: processes {sorted(left)} do not end", file=sys.stderr)
            return
        time.sleep(0.02)


def is_alive(process):
    """Whether it runs; one that only waits to be collected does not."""
    with contextlib.suppress(OSError), open(f"/proc/{process}/stat", encoding="utf-8") as file:
        return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    return False


class Guard:
    """A process that waits for the end of this one, be it Ctrl-C, an error or a kill, and then cleans up.

    It is told of processes and directories through a pipe, and the end of the pipe is what it waits for.
    """

    def __init__(self):
        reading, self.pipe = os.pipe()
        self.process = os.fork()
        if self.process == 0:
            # A session of its own: Ctrl-C at the terminal is not meant for it.
            os.close(self.pipe)
            os.setsid()
            status = 1
            with contextlib.suppress(BaseException):
                watch(reading)
                status = 0
            os._exit(status)
        os.close(reading)

    def tell(self, what, value):
        """`what` is start, stop (a process) or directory."""
        os.write(self.pipe, f"{what} {value}\n".encode())

    def close(self):
        """Lets it clean up, and waits for that."""
        os.close(self.pipe)
        os.waitpid(self.process, 0)


def watch(descriptor):
    """Reads what is to be cleaned up, and does it when nobody is left who writes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    running, directories = set(), set()
    with os.fdopen(descriptor, encoding="utf-8") as lines:
        for line in lines:
            what, value = line.rstrip("\n").split(" ", 1)
            if what == "start":
                running.add(int(value))
            elif what == "stop":
                running.discard(int(value))
            else:
                directories.add(value)
    end(running)
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)
