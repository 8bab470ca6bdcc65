"""Computes the geometry of the charts of the fleet's history, as SVG paths.

The plot measures WIDTH x HEIGHT units and is stretched to the space that is available. All text is therefore
placed outside of it. This module uses neither AWS nor HTML.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from controller.autoscaling.fleet_history import Sample

WIDTH, HEIGHT = 1000, 100  # SVG user units


@dataclass(frozen=True)
class Series:
    name: str
    style: str
    """The CSS class of the path: `first` and `second` are stacked areas, `line` is a line."""
    path: str
    """The `d` attribute of the SVG path."""
    now: int
    """The count in the newest sample, or 0 if there are no samples."""
    most: int
    """The largest count of all samples, or 0 if there are no samples."""


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    series: list[Series]
    top: int
    """The upper end of the vertical axis, an even number."""
    summary: str
    """A text alternative for people who cannot see the chart."""


def queue_chart(samples: Sequence[Sample], start: datetime, end: datetime) -> Chart:
    return chart(
        "In the queue",
        "images",
        {
            "in flight": ("first", lambda s: s.in_flight),
            "waiting": ("second", lambda s: s.visible),
        },
        samples,
        start,
        end,
    )


def instances_chart(samples: Sequence[Sample], start: datetime, end: datetime) -> Chart:
    return chart(
        "Instances",
        "instances",
        {
            "ready": ("first", lambda s: s.ready),
            "starting": ("second", lambda s: s.starting),
            "wanted": ("line", lambda s: s.wanted),
        },
        samples,
        start,
        end,
    )


Count = Callable[[Sample], int]


def chart(
    title: str,
    unit: str,
    counted: dict[str, tuple[str, Count]],
    samples: Sequence[Sample],
    start: datetime,
    end: datetime,
) -> Chart:
    """Returns a chart of the counts between `start` and `end`.

    `counted` maps the name of each series to its style and the function that reads its count from a sample.
    `samples` are ordered from oldest to newest. Each is valid until the next one, and the last until `end`.
    """
    areas = [count for style, count in counted.values() if style != "line"]
    stacks = [sum(count(s) for count in areas) for s in samples]
    lines = [count(s) for style, count in counted.values() if style == "line" for s in samples]
    top = even_top(max([*stacks, *lines, 1]))
    series: list[Series] = []
    floor = [0] * len(samples)
    for name, (style, count) in counted.items():
        counts = [count(s) for s in samples]
        if style == "line":
            path = treads(steps(samples, counts, start, end, top))
        else:
            roof = [below + n for below, n in zip(floor, counts, strict=True)]
            path = area(steps(samples, roof, start, end, top), steps(samples, floor, start, end, top))
            floor = roof
        series.append(Series(name, style, path, counts[-1] if counts else 0, max(counts, default=0)))
    words = "; ".join(f"{s.name} {s.now} now, at most {s.most}" for s in series)
    return Chart(title, unit, series, top, f"{title}: {words}.")


Points = list[tuple[float, float]]


def steps(
    samples: Sequence[Sample], counts: Sequence[int], start: datetime, end: datetime, top: int
) -> Points:
    """Returns the corners of the step function from left to right, beginning at the first sample."""
    if not samples:
        return []

    def x(at: datetime) -> float:
        share = (at - start) / (end - start)
        return round(min(max(share, 0.0), 1.0) * WIDTH, 1)

    heights = [round(HEIGHT * (1 - n / top), 2) for n in counts]
    times = [x(s.at) for s in samples]
    points: Points = [(times[0], heights[0])]
    for (_, before), (at, after) in pairwise(zip(times, heights, strict=True)):
        points += [(at, before), (at, after)]
    return [*points, (float(WIDTH), heights[-1])]


def polyline(points: Points) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in points) if points else ""


def treads(points: Points) -> str:
    """Returns a path of the horizontal parts of the steps. Vertical lines would hide a narrow area."""
    return "".join(polyline([*tread]) for tread in zip(points[::2], points[1::2], strict=True))


def area(roof: Points, floor: Points) -> str:
    return polyline([*roof, *floor[::-1]]) + "Z" if roof else ""


def even_top(most: int) -> int:
    """Returns the smallest of 2, 4, 6, 10, 20, 40, 60, 100, … that is at least `most`.

    All of these are even, so the label in the middle of the axis is a whole number.
    """
    size = 1
    while True:
        for first in (2, 4, 6, 10):
            if first * size >= most:
                return first * size
        size *= 10


def since(samples: Sequence[Sample], start: datetime) -> list[Sample]:
    """Returns the samples after `start`, preceded by the one that was valid at `start`, if any."""
    later = [s for s in samples if s.at > start]
    before = [s for s in samples if s.at <= start]
    return [*(s.model_copy(update={"at": start}) for s in before[-1:]), *later]


def table(samples: Sequence[Sample], start: datetime, end: datetime, rows: int) -> list[Sample]:
    """Returns the samples that were valid at `rows` evenly spaced times, newest first.

    Times before the first sample are left out.
    """
    step = (end - start) / rows
    found = []
    for n in range(rows):
        at = end - n * step
        held = [s for s in samples if s.at <= at]
        if held:
            found.append(held[-1].model_copy(update={"at": at}))
    return found


def ticks(window: timedelta, count: int) -> list[str]:
    """Returns `count` labels for evenly spaced times from the start of the window, and "now" for its end."""
    minutes = [window.total_seconds() / 60 * (1 - n / count) for n in range(count)]
    return [f"{m:g} min ago" if m < 120 else f"{m / 60:g} h ago" for m in minutes] + ["now"]
