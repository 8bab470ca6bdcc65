"""The OpenAPI document held against the running system, by requests that are made of it."""

import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.system import System, worker_by_hand

SCHEMATHESIS = [sys.executable, "-m", "schemathesis.cli", "run", "--seed", "1", "--request-timeout", "60"]


# A key that was used for other files is refused, and no document can say which ones were.
CONFIG = """
[[operations]]
include-path = "/"

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


def test_the_system_does_what_the_document_says(start, tmp_path: Path):
    system = start()
    with worker_by_hand(system, tmp_path / "worker.log"):
        find_faults(system, tmp_path, "--checks", "all", "--max-examples", "10")
