"""A chart's geometry: what was counted over time, as paths of an SVG. No AWS, no HTML.

The plot is WIDTH x HEIGHT units and is stretched to whatever room it gets, so all text stands beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from controller.autoscaling.fleet_history import Sample

WIDTH, HEIGHT = 1000, 100


@dataclass(frozen=True)
class Series:
    name: str
    style: str
    """The class of its path: `first` and `second` are areas, one upon the other, `line` is a line."""
    path: str
    now: int
    most: int


@dataclass(frozen=True)
class Chart:
    title: str
    unit: str
    series: list[Series]
    top: int
    """Of the vertical axis, an even number."""
    summary: str
    """For those who do not see it."""


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
    """`samples` oldest first; each holds until the next one, the last until `end`."""
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
    """The corners of the steps, left to right; none before the first sample."""
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
    """Of steps, without their risers, which would hide a narrow area."""
    return "".join(polyline([*tread]) for tread in zip(points[::2], points[1::2], strict=True))


def area(roof: Points, floor: Points) -> str:
    return polyline([*roof, *floor[::-1]]) + "Z" if roof else ""


def even_top(most: int) -> int:
    """The smallest of 2, 4, 6, 10, 20, 40, 60, 100, … that is not below `most`, so that its half is whole."""
    size = 1
    while True:
        for first in (2, 4, 6, 10):
            if first * size >= most:
                return first * size
        size *= 10


def since(samples: Sequence[Sample], start: datetime) -> list[Sample]:
    """Those after `start`, and the one that held at it."""
    later = [s for s in samples if s.at > start]
    before = [s for s in samples if s.at <= start]
    return [*(s.model_copy(update={"at": start}) for s in before[-1:]), *later]


def table(samples: Sequence[Sample], start: datetime, end: datetime, rows: int) -> list[Sample]:
    """What held at so many even times, the newest first."""
    step = (end - start) / rows
    found = []
    for n in range(rows):
        at = end - n * step
        held = [s for s in samples if s.at <= at]
        if held:
            found.append(held[-1].model_copy(update={"at": at}))
    return found


def ticks(window: timedelta, count: int) -> list[str]:
    """Words for even times from the start of the window to its end."""
    minutes = [window.total_seconds() / 60 * (1 - n / count) for n in range(count)]
    return [f"{m:g} min ago" if m < 120 else f"{m / 60:g} h ago" for m in minutes] + ["now"]
