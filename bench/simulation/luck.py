"""What chance decides: from the seed alone, and so the same for every policy."""

import numpy as np

from bench.simulation.parameters import Parameters
from bench.simulation.traces import Floats, Trace

BOOTS = 50_000  # drawn; launches beyond begin again


def draw_work(trace: Trace, parameters: Parameters, seed: int) -> Floats:
    """Seconds that each image takes a worker."""
    rng = np.random.default_rng([seed, 1])
    return lognormal(rng, 1 / parameters.images_per_second, parameters.speed_spread, trace.total)


def draw_boots(parameters: Parameters, seed: int) -> Floats:
    """Returns how long the n-th launch takes, over the mean."""
    return lognormal(np.random.default_rng([seed, 2]), 1.0, parameters.boot_spread, BOOTS)


def lognormal(rng: np.random.Generator, mean: float, spread: float, size: int) -> Floats:
    """Draws from a lognormal distribution with this mean, and a standard deviation of `spread` times it."""
    variance = np.log1p(spread**2)
    return mean * np.exp(rng.normal(-variance / 2, np.sqrt(variance), size))
