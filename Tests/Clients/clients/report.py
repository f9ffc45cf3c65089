"""Collects what passed and what failed, and prints it as a table."""

import contextlib
import sys
import time
import traceback


class Expectation(AssertionError):
    """A check that did not hold; its message says what was expected and what was seen."""


def expect(condition, message):
    """Fails the running check with `message` unless `condition` holds."""
    if not condition:
        raise Expectation(message)


def expect_equal(seen, wanted, what):
    """Fails the running check unless both are equal."""
    if seen != wanted:
        raise Expectation(f"{what}: expected {shorten(wanted)}, saw {shorten(seen)}")


def shorten(value, limit=300):
    """A value as text that fits a line."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"


class Report:
    """Named checks in groups; a failed check does not stop the ones after it."""

    def __init__(self, stream=sys.stdout):
        self.stream = stream
        self.rows = []

    @contextlib.contextmanager
    def check(self, group, name):
        """Runs the body as one check, which passes unless it raises; what the body adds to the list that it is given is printed then."""
        begin = time.monotonic()
        notes = []
        try:
            yield notes
        except Expectation as failure:
            self.add(group, name, False, time.monotonic() - begin, str(failure))
        except Exception as failure:  # a client that throws is a failed check, and the next one still runs
            where = traceback.extract_tb(failure.__traceback__)[-1]
            problem = f"{type(failure).__name__}: {failure} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
            self.add(group, name, False, time.monotonic() - begin, problem)
        else:
            self.add(group, name, True, time.monotonic() - begin, ", ".join(notes))

    def add(self, group, name, is_passed, seconds, problem):
        """Notes a check that was run here or in a process of its own."""
        self.rows.append((group, name, is_passed, seconds, problem))
        mark = "ok  " if is_passed else "FAIL"
        tail = f"  {problem}" if problem else ""
        print(f"{mark} {group:<24} {name} ({seconds:.1f} s){tail}", file=self.stream, flush=True)

    def skip(self, group, name, reason):
        """Says what was not run and why; it counts neither way."""
        print(f"skip {group:<24} {name}: {reason}", file=self.stream, flush=True)

    @property
    def failed(self):
        """The number of checks that failed."""
        return sum(1 for row in self.rows if not row[2])

    def print_table(self):
        """Prints passed and failed by group, and the closing line."""
        groups = {}
        for group, _, is_passed, seconds, _ in self.rows:
            counts = groups.setdefault(group, [0, 0, 0.0])
            counts[0 if is_passed else 1] += 1
            counts[2] += seconds
        print(f"\n{'group':<26}{'passed':>8}{'failed':>8}{'seconds':>9}", file=self.stream)
        for group, (passed, failed, seconds) in groups.items():
            print(f"{group:<26}{passed:>8}{failed:>8}{seconds:>9.1f}", file=self.stream)
        for group, name, is_passed, _, problem in self.rows:
            if not is_passed:
                print(f"FAIL {group}: {name}: {problem}", file=self.stream)
        passed = len(self.rows) - self.failed
        print(f"clients: {passed} passed, {self.failed} failed", file=self.stream, flush=True)
