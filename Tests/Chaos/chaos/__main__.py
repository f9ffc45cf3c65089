"""Runs the nemeses one after the other, each against a fresh cluster, and prints a line for each check.

The exit code is 0 only if every check passed.
"""

import argparse
import faulthandler
import os
import signal
import sys

from . import fabrics, processes, runner, self_test
from .nemeses import NEMESES, SHORT
from .report import ChaosReport

SHORT_SECONDS = 180
# What starting, reading and judging take beside the nemesis itself, on a small machine.
OVERHEAD_SECONDS = 9
LEAST_SECONDS = 4
# What hangs must not hang whoever waits for the short form.
SHORT_LIMIT_SECONDS = 900


def seconds_for_each(arguments, names):
    """How long each nemesis strikes."""
    if not arguments.short:
        return arguments.minutes * 60
    return max(LEAST_SECONDS, SHORT_SECONDS / len(names) - OVERHEAD_SECONDS)


def main():
    """Reads the command line and runs what it names, or all."""
    parser = argparse.ArgumentParser(prog="chaos")
    parser.add_argument("--binary", help="the flotilla executable")
    parser.add_argument("--minutes", type=float, default=5, help="how long each nemesis strikes")
    parser.add_argument("--short", action="store_true", help="those that are named, or seven of them, in about three minutes together")
    parser.add_argument("--only", metavar="NAMES", help=f"nemeses to run, with commas between them: {', '.join(NEMESES)}")
    parser.add_argument("--brokers", type=int, default=3, help="brokers in the cluster")
    parser.add_argument("--rate", type=int, default=1200, help="records a second, all producers together")
    parser.add_argument("--seed", type=int, default=20261121, help="seed of what goes wrong when")
    parser.add_argument("--keep", action="store_true", help="keep the brokers' logs and data")
    parser.add_argument("--self-test", action="store_true", help="only prove that the checker and the tools do what they say")
    arguments = parser.parse_args()

    # A run that hangs tells where: `kill -USR1`.
    faulthandler.register(signal.SIGUSR1)
    processes.stop_on_signals()
    processes.adopt_orphans()
    fabrics.sweep()
    runner.sweep()
    report = ChaosReport()
    if arguments.self_test:
        self_test.run(report)
    else:
        names = arguments.only.split(",") if arguments.only else list(SHORT if arguments.short else NEMESES)
        unknown = [name for name in names if name not in NEMESES]
        if unknown:
            parser.error(f"no nemesis is called {', '.join(unknown)}; there are {', '.join(NEMESES)}")
        if not arguments.binary or not os.access(arguments.binary, os.X_OK):
            parser.error("--binary must name an executable")
        arguments.binary = os.path.abspath(arguments.binary)
        if arguments.short:
            signal.alarm(SHORT_LIMIT_SECONDS)
        for name in names:
            runner.run(NEMESES[name], arguments, seconds_for_each(arguments, names), report)
    report.print_closing_line()
    return 1 if report.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("chaos: interrupted", file=sys.stderr)
        sys.exit(130)
