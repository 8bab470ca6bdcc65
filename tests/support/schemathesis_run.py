"""Schemathesis against a running system."""

import re
import subprocess
import sys
from pathlib import Path

from local.driver import System

SCHEMATHESIS = [sys.executable, "-m", "schemathesis.cli", "run", "--seed", "1", "--request-timeout", "60"]
CONFIG = """
[[operations]]
include-path = ["/", "/{filename}"]

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]

[[operations]]
include-path = "/batches"

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "422", "429", "5xx"]
"""


def find_faults(system: System, folder: Path, *options: str) -> None:
    (folder / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [*SCHEMATHESIS, *options, f"{system.url}openapi.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert re.search(r"Tested: [1-9]", done.stdout), done.stdout
