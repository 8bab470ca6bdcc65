"""PRECISION=auto takes the fastest network that agrees with fp32."""

import numpy as np
import pytest

from worker.bake.choice import Figures, choose, split, table


def figures(speeds_and_agreements: dict[str, tuple[float, float]]) -> list[Figures]:
    return [Figures(name, speed, agreement, 1) for name, (speed, agreement) in speeds_and_agreements.items()]


@pytest.mark.parametrize(
    ("measured", "chosen"),
    [
        ({"fp32": (100, 1)}, "fp32"),
        ({"fp32": (100, 1), "bf16": (200, 0.99), "int8": (300, 0.989)}, "bf16"),
        ({"fp32": (100, 1), "bf16": (200, 0.995), "int8": (300, 0.99)}, "int8"),
        ({"fp32": (100, 1), "bf16": (200, 0.98), "int8": (300, 0.97)}, "fp32"),
        ({"fp32": (100, 1), "bf16": (90, 1), "int8": (99, 1)}, "fp32"),
        ({"fp32": (100, 1), "int8": (100, 1)}, "fp32"),
    ],
)
def test_the_fastest_that_agrees_is_chosen(measured: dict[str, tuple[float, float]], chosen: str):
    assert choose(figures(measured)).precision == chosen


@pytest.mark.parametrize(
    ("photos", "calibrating", "measuring"),
    [(0, 0, 0), (8, 8, 0), (299, 299, 0), (300, 100, 200), (600, 200, 400), (1000, 300, 700)],
)
def test_photos_that_calibrate_do_not_measure(photos: int, calibrating: int, measuring: int):
    pixels = np.arange(photos, dtype=np.uint8)[:, None, None, None]
    first, second = split(pixels)
    assert (len(first), len(second)) == (calibrating, measuring)
    assert np.array_equal(np.concatenate([first, second]), pixels)


def test_the_table_is_for_people():
    assert table(figures({"fp32": (161.2, 1), "int8": (436.4, 0.973)})).splitlines() == [
        "  precision  images/s  same label as fp32    size",
        "  fp32            161              100.0%    1.0 MB",
        "  int8            436               97.3%    1.0 MB",
    ]
