"""The report of the client tests with the closing line of this suite."""

from clients.report import Expectation, Report, expect, expect_equal

__all__ = ["ChaosReport", "Expectation", "expect", "expect_equal"]


class ChaosReport(Report):
    """Named checks in groups, a line for each."""

    def print_closing_line(self):
        """Repeats what failed, and prints the sum."""
        for group, name, is_passed, _, problem in self.rows:
            if not is_passed:
                print(f"FAIL {group}: {name}: {problem}", file=self.stream)
        passed = len(self.rows) - self.failed
        print(f"chaos: {passed} passed, {self.failed} failed", file=self.stream, flush=True)
