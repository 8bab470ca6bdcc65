"""What processes hold over time, and whether it grows."""

import math
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from scipy.stats import linregress

LINES = {
    "processes": 5.0,  # two instances may start, each with its decoders
    "file descriptors": 20.0,
    "threads": 20.0,
    "megabytes": 30.0,
    "temporary files": 5.0,
}
"""By how much each may grow while it is measured, in the mean process of a kind, and two errors more."""
YOUNG_SECONDS = 10
"""A process is not measured in its first seconds, in which it holds more and more because it starts."""
BLOCKS = 12
"""Readings that follow each other depend on each other, so the slope is that of so many means."""


@dataclass(frozen=True)
class Growth:
    kind: str
    what: str
    first: float
    """The mean of the first block."""
    last: float
    slope: float
    """Per hour."""
    error: float
    """The standard error of the slope."""
    hours: float
    line: float
    """By how much it may grow in these hours."""

    @property
    def is_leak(self) -> bool:
        return (self.slope - 2 * self.error) * self.hours > self.line

    def __str__(self) -> str:
        mark = "  LEAK" if self.is_leak else ""
        return (
            f"{self.kind:20}{self.what:18}{self.first:10.1f}{self.last:10.1f}"
            f"{self.slope:12.2f} ± {self.error:<10.2f}{mark}"
        )


class Readings:
    """Readings of the processes that `processes` returns by kind, and of the files in `folders`."""

    def __init__(
        self, processes: Callable[[], Mapping[str, Iterable[psutil.Process]]], folders: Iterable[Path]
    ) -> None:
        self.processes, self.folders = processes, list(folders)
        self.values: dict[tuple[str, str], list[tuple[float, float]]] = {}
        """By kind and what: when, in seconds, and how much."""

    def read(self, at: float) -> None:
        for kind, processes in self.processes().items():
            found = [held for one in processes if is_old(one) and (held := held_by(one))]
            self._note(at, kind, "processes", len(found))
            for index, what in enumerate(("file descriptors", "threads", "megabytes")):
                if found:
                    self._note(at, kind, what, sum(held[index] for held in found) / len(found))
        files = [path for folder in self.folders for path in folder.rglob("*") if path.is_file()]
        self._note(at, "all", "temporary files", len(files))

    def _note(self, at: float, kind: str, what: str, value: float) -> None:
        self.values.setdefault((kind, what), []).append((at, value))

    def growths(self, allowance: float = 1.0) -> list[Growth]:
        """Returns how much grew of what was read often enough. It may do so `allowance` times its line."""
        enough = {key: values for key, values in sorted(self.values.items()) if len(values) >= 6}
        return [growth_of(*key, values, allowance) for key, values in enough.items()]


def is_old(process: psutil.Process) -> bool:
    return time.time() - process.create_time() > YOUNG_SECONDS


def held_by(process: psutil.Process) -> tuple[int, int, float] | None:
    """Returns the file descriptors, threads and megabytes of a process, or None if it has ended."""
    with suppress(psutil.Error), process.oneshot():
        return process.num_fds(), process.num_threads(), process.memory_info().rss / 1e6
    return None


def growth_of(kind: str, what: str, values: list[tuple[float, float]], allowance: float = 1.0) -> Growth:
    """`values`: when, in seconds, and how much, at least six of them."""
    count = min(BLOCKS, len(values) // 2)
    blocks = [values[len(values) * n // count : len(values) * (n + 1) // count] for n in range(count)]
    times = [sum(at for at, _ in block) / len(block) / 3600 for block in blocks]
    means = [sum(value for _, value in block) / len(block) for block in blocks]
    fit = linregress(times, means)
    hours = (values[-1][0] - values[0][0]) / 3600
    error = 0.0 if math.isnan(fit.stderr) else float(fit.stderr)  # of what never changes
    return Growth(kind, what, means[0], means[-1], float(fit.slope), error, hours, LINES[what] * allowance)
