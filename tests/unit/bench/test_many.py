import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.many import HURRIED

PROGRAM = """
import sys, time
from threading import Event, Thread
times = []
def wait():
    started = time.monotonic()
    Event().wait(float(sys.argv[2]))
    times.append(time.monotonic() - started)
thread = Thread(target=wait, name=sys.argv[1], daemon=True)
thread.start()
thread.join(2)
print(times[0] if times else "waits")
"""


@pytest.mark.parametrize(
    ("thread", "seconds", "hurried"),
    [("autoscaler", "30", True), ("autoscaler", "0.2", False), ("another", "30", False)],
)
def test_only_the_long_waits_of_the_autoscaler_are_shortened(tmp_path: Path, thread, seconds, hurried):
    (tmp_path / "hurry").write_text("300")
    env = {**os.environ, "PYTHONPATH": str(HURRIED), "HURRY_FILE": str(tmp_path / "hurry")}
    command = [sys.executable, "-c", PROGRAM, thread, seconds]
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.strip()
    waited = float("inf") if told == "waits" else float(told)
    assert (waited < float(seconds) / 2) == hurried
