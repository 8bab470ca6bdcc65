"""What `make soak` takes for growth, and what it does not."""

import random
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.soak_readings import Readings, growth_of

HOUR = [float(second) for second in range(0, 3600, 15)]


def series(per_hour: float, noise: float, seed: int = 1) -> list[tuple[float, float]]:
    draw = random.Random(seed)
    return [(at, 100 + per_hour * at / 3600 + draw.gauss(0, noise)) for at in HOUR]


@pytest.mark.parametrize(
    ("what", "per_hour", "leaks"),
    [("megabytes", 0, False), ("megabytes", 25, False), ("megabytes", 60, True), ("threads", 40, True)],
)
def test_what_grows_by_more_than_its_line_is_a_leak(what, per_hour, leaks):
    found = growth_of("controller", what, series(per_hour, noise=5))
    assert found.is_leak == leaks
    assert abs(found.slope - per_hour) < 4 * found.error
    assert ("LEAK" in str(found)) == leaks


def test_a_slope_that_noise_explains_is_no_leak():
    found = growth_of("worker", "megabytes", series(0, noise=400))
    assert found.error > 20
    assert not found.is_leak


def test_the_error_is_that_of_the_slopes_of_many_series():
    slopes = [growth_of("worker", "threads", series(10, 5, seed)) for seed in range(100)]
    mean = sum(found.slope for found in slopes) / 100
    spread = (sum((found.slope - mean) ** 2 for found in slopes) / 99) ** 0.5
    assert sum(found.error for found in slopes) / 100 == pytest.approx(spread, rel=0.2)


def test_a_process_that_has_just_started_is_not_measured():
    with psutil.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as young:
        readings = Readings(lambda: {"young": [young]}, [])
        readings.read(0)
        young.communicate(b"\n")
    assert set(readings.values) == {("young", "processes"), ("all", "temporary files")}
    assert readings.values["young", "processes"] == [(0, 0)]


def test_files_that_are_left_and_descriptors_that_stay_open_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tests.support.soak_readings.YOUNG_SECONDS", 0)  # the tests may have just begun
    readings = Readings(lambda: {"this": [psutil.Process()]}, [tmp_path])
    held = []
    for second in range(40):
        held.append((tmp_path / str(second)).open("w"))
        readings.read(second)
    for file in held:
        file.close()
    leaks = {growth.what for growth in readings.growths() if growth.is_leak}
    assert leaks >= {"file descriptors", "temporary files"}
