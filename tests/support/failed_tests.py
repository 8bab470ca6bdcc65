"""A pytest plugin for .ci/run: writes the ids of the tests that failed, one a line, to the file FAILED_TESTS.

It writes none when pytest came to no proper end.
"""

import os
from pathlib import Path

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
    if exitstatus == pytest.ExitCode.TESTS_FAILED:
        reports = [r for outcome in ("failed", "error") for r in terminalreporter.stats.get(outcome, [])]
        ids = dict.fromkeys(report.nodeid for report in reports)  # a test may fail, and then its teardown
        Path(os.environ["FAILED_TESTS"]).write_text("".join(f"{test}\n" for test in ids))
