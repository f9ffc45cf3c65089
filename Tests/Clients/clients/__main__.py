"""Runs every group of checks, at most two clients at a time, and prints a table.

The exit code is 0 only if every check passed.
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time

from . import bad_input, bad_settings, cluster, full_disk, groups, kills, removal, restart
from .broker import Broker
from .peers import PEERS
from .report import Report

CLIENTS_AT_ONCE = 2
GROUPS = ("peers", "groups", "cluster", "removal", "kills", "restart", "input", "disk", "settings")


def run_peers(arguments, report):
    """Each client in a process of its own against one broker, since a library may end its process."""
    waiting = [name for name in PEERS if not arguments.peer or name in arguments.peer]
    lock = threading.Lock()
    with Broker(arguments.binary) as broker:

        def work():
            while True:
                with lock:
                    if not waiting:
                        return
                    name = waiting.pop(0)
                run_peer(name, broker, arguments, report, lock)

        threads = [threading.Thread(target=work) for _ in range(CLIENTS_AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if report.failed:
            print(f"broker's log ends: {broker.log_tail()}", flush=True)


def run_peer(name, broker, arguments, report, lock):
    """One client: its checks arrive as lines, and a process that ends otherwise than by itself is a failed check."""
    begin = time.monotonic()
    python = os.path.join(arguments.environments, PEERS[name][1], "bin", "python")
    command = [
        python, "-m", "clients.exercise", name, "--broker", broker.kafka, "--records", str(arguments.records),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    errors = []
    drain = threading.Thread(target=lambda: errors.append(process.stderr.read()))
    drain.start()
    for line in process.stdout:
        with lock:
            report.add(*json.loads(line))
    process.wait()
    drain.join()
    problem = "" if process.returncode == 0 else f"ended with {process.returncode}: {errors[0][-600:]}"
    with lock:
        report.add(name, "the client's process ends by itself", not problem, time.monotonic() - begin, problem)


def main():
    """Reads the command line and runs the groups that it names, or all."""
    parser = argparse.ArgumentParser(prog="clients")
    parser.add_argument("--binary", required=True, help="the flotilla executable")
    parser.add_argument("--records", type=int, default=500, help="records for each client, codec and acks")
    parser.add_argument(
        "--long", action="store_true",
        help="ten kills in a minute instead of three in twelve seconds; five minutes each of groups whose coordinator is killed, and "
             "of groups whose members come, leave, die and are stopped, by the classic and by the consumer protocol")
    parser.add_argument("--only", nargs="*", choices=GROUPS, help="groups to run")
    parser.add_argument("--part", nargs="*", choices=groups.PARTS, help="parts of `groups` to run")
    parser.add_argument("--peer", nargs="*", choices=list(PEERS), help="clients to run")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of the moments at which the broker is killed")
    parser.add_argument("--environments", default=".venv", help="the folder of the virtual environments")
    arguments = parser.parse_args()
    arguments.binary = os.path.abspath(arguments.binary)
    arguments.environments = os.path.abspath(arguments.environments)
    if not os.access(arguments.binary, os.X_OK):
        parser.error(f"{arguments.binary} is not an executable")

    report = Report()
    count, seconds = (10, 60) if arguments.long else (3, 12)
    checks = {
        "peers": lambda: run_peers(arguments, report),
        "groups": lambda: groups.run(arguments.binary, report, arguments.long, arguments.part or groups.PARTS),
        "cluster": lambda: cluster.run(arguments.binary, report),
        "removal": lambda: removal.run(arguments.binary, report),
        "kills": lambda: kills.run(arguments.binary, report, count, seconds, arguments.seed),
        "restart": lambda: restart.run(arguments.binary, report),
        "input": lambda: bad_input.run(arguments.binary, report),
        "disk": lambda: full_disk.run(arguments.binary, report),
        "settings": lambda: bad_settings.run(arguments.binary, report),
    }
    for name, run in checks.items():
        if not arguments.only or name in arguments.only:
            with report.check(name, "the group runs to its end"):
                run()
    report.print_table()
    sys.exit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
