import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest

from cloud.boot_times import MACHINE_STARTED, BootTimes
from cloud.clock import now
from local.driver import ROOT

SHOW = "import time; from cloud.boot_times import process_started; print(process_started())"


def uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def test_the_kernel_starts_before_the_process(monkeypatch):
    monkeypatch.delenv(MACHINE_STARTED, raising=False)
    at = now()
    times = BootTimes.of_this_process(at)
    assert times.kernel_at < times.process_at < at
    assert (at - times.kernel_at).total_seconds() == pytest.approx(uptime(), abs=1)


def test_a_process_knows_when_it_was_started():
    before = uptime()
    command = [sys.executable, "-c", SHOW]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert before - 0.02 <= float(shown) <= uptime()


def test_a_machine_that_shares_the_kernel_of_another_has_a_start_of_its_own(monkeypatch):
    monkeypatch.setenv(MACHINE_STARTED, str(uptime() - 5))
    at = now()
    times = BootTimes.of_this_process(at)
    assert at - times.kernel_at == pytest.approx(timedelta(seconds=5), abs=timedelta(seconds=1))


def test_the_clock_of_the_host_does_not_matter(monkeypatch):
    at = now()
    right = BootTimes.of_this_process(at)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert abs(BootTimes.of_this_process(at).process_at - right.process_at) < timedelta(seconds=1)


def test_a_process_with_an_odd_name_is_found_all_the_same(tmp_path):
    odd = tmp_path / "a) 7 (b"
    odd.symlink_to(sys.executable)
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([odd, "-c", SHOW], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= uptime()
