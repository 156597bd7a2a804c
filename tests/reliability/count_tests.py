"""Run tests and count them as an item of scripts/soak.sh.

    python tests/reliability/count_tests.py NAME FILE...

The last line is ``NAME: tried N, survived N, lost N``; a test that fails is lost, one that is
skipped was not tried.
"""

from __future__ import annotations

import sys

import pytest


class Count:
    """A plugin of pytest that counts."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test's setup, call or end."""
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.passed and report.when == "call":
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot even be read."""
        if report.failed:
            self.failed.add(report.nodeid)


def main() -> None:
    """Run pytest in this process."""
    name, *files = sys.argv[1:]
    count = Count()
    status = pytest.main([*files, "-q", "-p", "no:cacheprovider"], plugins=[count])
    if status in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.NO_TESTS_COLLECTED):
        sys.exit(130 if status == pytest.ExitCode.INTERRUPTED else 1)
    survived = len(count.passed - count.failed)
    lost = len(count.failed)
    print(f"\n{name}: tried {survived + lost}, survived {survived}, lost {lost}")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
