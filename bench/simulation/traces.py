"""Loads: when requests come, and with how many images. Where their shapes come from: ../simulation.md."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SILENCE = 900.0  # seconds without a request at the end, in which a fleet that nobody needs should go
DAY = 86400.0
BLOCK = 30  # images that are simulated as one, where fleets are large


@dataclass(frozen=True)
class Trace:
    name: str
    times: Floats
    """When each request comes: seconds, sorted."""
    images: NDArray[np.int64]
    """How many blocks of images it has."""
    seconds: float
    block: int = 1
    """How many images are simulated as one, because one by one they would take hours."""

    @property
    def total(self) -> int:
        """The number of blocks."""
        return int(self.images.sum())

    @cached_property
    def arrivals(self) -> Floats:
        """When each block comes."""
        return np.repeat(self.times, self.images)

    @cached_property
    def _sums(self) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(self.images)])

    def images_before(self, time: float) -> int:
        return int(self._sums[np.searchsorted(self.times, time)])

    def peak_minute(self) -> float:
        """Blocks per second in the fullest minute."""
        return float(np.bincount((self.arrivals // 60).astype(int)).max()) / 60

    def mean(self) -> float:
        """Blocks per second from the first request to the last, of a second at least."""
        return self.total / max(1.0, float(self.times[-1] - self.times[0]))


def generate(
    name: str, rate: Floats, rng: np.random.Generator, mean_blocks: float = 5.0, block: int = BLOCK
) -> Trace:
    """Draws Poisson requests of geometric sizes; `rate` is the blocks per second in each second."""
    requests = rng.poisson(rate / mean_blocks)
    seconds = np.repeat(np.arange(len(rate)), requests)
    times = np.sort(seconds + rng.random(len(seconds)))
    return Trace(name, times, rng.geometric(1 / mean_blocks, len(times)), len(rate) + SILENCE, block)


def steady(rng: np.random.Generator) -> Trace:
    return generate("steady", np.full(3600, 100.0), rng)


def burst(rng: np.random.Generator) -> Trace:
    """12 times 1,500 images a second for a minute, 5 minutes and an exponential 5 more apart."""
    starts = np.cumsum(rng.exponential(300, 12) + 300)
    t = np.arange(float(int(starts[-1]) + 61))
    return generate("burst", 50.0 * sum((t >= s) & (t < s + 60) for s in starts), rng)


def daily(rng: np.random.Generator) -> Trace:
    """From 60 images a second at night to 1,260 at noon, wandering by some 15% within each hour."""
    t = np.arange(DAY)
    wander = np.interp(t, np.arange(0, DAY + 600, 600), rng.lognormal(0, 0.15, int(DAY // 600) + 1))
    return generate("daily", (22 - 20 * np.cos(2 * np.pi * t / DAY)) * wander, rng)


def flash(rng: np.random.Generator) -> Trace:
    """30 million images in an hour: ten quiet minutes, two of ramp, eighteen of crowd, and its decline."""
    rate = 5 + 1000 * np.interp(np.arange(3600.0), [600, 720, 1800, 3600], [0, 1, 1, 0.05])
    return generate("flash", rate * 1e6 / rate.sum(), rng)


def trickle(rng: np.random.Generator) -> Trace:
    """One or two images every half minute, for two hours."""
    return generate("trickle", np.full(7200, 0.05), rng, mean_blocks=1.5, block=1)


TRACES: dict[str, Callable[[np.random.Generator], Trace]] = {
    make.__name__: make for make in (steady, burst, daily, flash, trickle)
}


def make_trace(name: str, seed: int) -> Trace:
    return TRACES[name](np.random.default_rng(seed))
