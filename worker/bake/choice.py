"""Chooses the precision at which a model is served, from what was measured."""

from collections.abc import Sequence
from dataclasses import dataclass

from worker.pixels import Pixels

AGREEMENT = 0.99
"""On which part of the photos the most probable label must be that of fp32."""

MEASURED = 200
"""On how many photos the agreement must at least have been measured."""

CALIBRATION = 300
"""How many photos calibrate at most. More did not make int8 agree more often (docs/decisions.md)."""

NEEDED = 300
"""How many photos PRECISION=auto needs: a third of them calibrates, and MEASURED are left."""


@dataclass(frozen=True)
class Figures:
    """What was measured of a network at some precision."""

    precision: str
    images_per_second: float
    agreement: float
    """On which part of the photos its most probable label is that of fp32."""
    megabytes: float
    """The size of its files."""


def split(photos: Pixels) -> tuple[Pixels, Pixels]:
    """Returns the photos that calibrate and those with which the result is measured.

    When there are fewer than NEEDED photos, all of them calibrate.
    """
    calibrating = min(CALIBRATION, len(photos) // 3) if len(photos) >= NEEDED else len(photos)
    return photos[:calibrating], photos[calibrating:]


def choose(measured: Sequence[Figures]) -> Figures:
    """Returns the fastest that agrees with fp32 often enough. One of them must be fp32, which always does."""
    return max(
        (one for one in measured if one.precision == "fp32" or one.agreement >= AGREEMENT),
        key=lambda one: one.images_per_second,
    )


def table(measured: Sequence[Figures]) -> str:
    """Returns the figures as lines for people."""
    lines = ["  precision  images/s  same label as fp32    size"]
    for one in measured:
        speed, agreement = f"{one.images_per_second:8.0f}", f"{one.agreement:18.1%}"
        lines.append(f"  {one.precision:<9}  {speed}  {agreement}  {one.megabytes:5.1f} MB")
    return "\n".join(lines)
