"""deploy/*.service as systemd reads them; tests/e2e/test_units.py runs them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cloud.settings import ControllerSettings
from local.driver import ROOT
from tests.support.programs import need

UNITS = sorted((ROOT / "deploy").glob("*.service"))


@pytest.fixture
def unit(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """With this machine's Python in place of an installed one."""
    source: Path = request.param
    text = source.read_text().replace("/opt/image-classifier/.venv/bin/python", sys.executable)
    (tmp_path / source.name).write_text(text.replace("/opt/image-classifier", str(ROOT)))
    for other in UNITS:  # on which it may depend
        if other != source:
            (tmp_path / other.name).write_text("[Service]\nExecStart=/bin/true\n")
    return tmp_path / source.name


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [need("systemd-analyze"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def seconds(unit: str, name: str) -> int:
    found = re.search(rf"^{name}=(\d+)$", (ROOT / "deploy" / unit).read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_there_are_the_units_of_both_tiers():
    assert [u.name for u in UNITS] == [
        "image-classifier-controller.service",
        "image-classifier-dead-man.service",
        "image-classifier-settings.service",
        "image-classifier-worker.service",
    ]


@pytest.mark.parametrize("unit", UNITS, indirect=True, ids=lambda unit: unit.stem)
def test_systemd_has_nothing_to_say_against_it(unit: Path):
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("unit", UNITS, indirect=True, ids=lambda unit: unit.stem)
def test_it_may_do_little_on_its_machine(unit: Path):
    """On systemd's scale of 0 to 10, a service without hardening has 9.6."""
    done = analyze("security", "--offline=true", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout


def test_a_stop_leaves_time_for_what_is_in_progress():
    wait = ControllerSettings.model_fields["request_timeout"].default
    assert seconds("image-classifier-controller.service", "TimeoutStopSec") > wait + 30  # GRACEFUL_TIMEOUT
    assert seconds("image-classifier-worker.service", "TimeoutStopSec") >= 30


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_child_that_the_kernel_kills_does_not_stop_the_unit(unit: Path):
    """systemd's default for OOMPolicy is to stop all of it."""
    assert "OOMPolicy=continue" in unit.read_text().splitlines()


def test_a_worker_may_start_its_threads_and_decoders_on_the_largest_machine():
    """Each core has a decoder and threads that decode, classify and compute, and perhaps two of libraries."""
    cores, others = 192, 200
    assert seconds("image-classifier-worker.service", "TasksMax") >= 6 * cores + others


def test_the_volume_for_uploads_is_mounted_before_the_controller_starts(tmp_path: Path, monkeypatch):
    """Else uploads that come at a reboot would be on the disk below it."""
    script = (ROOT / "deploy" / "controller-userdata.sh").read_text()
    [line] = re.findall(r'echo "(.*)" >> /etc/fstab', script)
    (tmp_path / "fstab").write_text(line.replace("$spool", "/var/spool/image-classifier") + "\n")
    monkeypatch.setenv("SYSTEMD_FSTAB", str(tmp_path / "fstab"))
    generator = (
        Path(need("systemd-analyze")).parents[1] / "lib/systemd/system-generators/systemd-fstab-generator"
    )
    subprocess.run([generator, tmp_path, tmp_path, tmp_path], check=True, timeout=10)
    [mount] = tmp_path.glob("*.mount")
    assert "Before=image-classifier-controller.service" in mount.read_text().splitlines()
