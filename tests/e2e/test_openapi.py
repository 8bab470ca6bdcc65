"""The OpenAPI document held against the running system, by requests that are made of it."""

from pathlib import Path

from local.driver import worker_by_hand
from tests.support.schemathesis_run import find_faults

# A key that was used for other files is refused, and no document can say which ones were.


def test_the_system_does_what_the_document_says(start, tmp_path: Path):
    system = start(BATCH_SOURCES="s3://lab-photos")
    with worker_by_hand(system, tmp_path / "worker.log"):
        find_faults(system, tmp_path, "--checks", "all", "--max-examples", "10")
