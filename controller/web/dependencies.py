"""Finds out whether what the controller depends on can be reached."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from cloud.errors import CloudError
from cloud.shared_reading import SharedReading

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # how long a finding is reused, because anybody may ask, and each look costs calls of AWS


class Dependency(Protocol):
    def check(self) -> None:
        """Raises CloudError when it cannot be reached."""


class Dependencies:
    def __init__(self, named: Mapping[str, Dependency]) -> None:
        self.named = named
        self._readings: SharedReading[dict[str, str]] = SharedReading(FRESH_SECONDS)

    def problems(self) -> dict[str, str]:
        """Returns the reason for each dependency that cannot be reached, by its name."""
        return self._readings.get(self._look)

    def _look(self) -> dict[str, str]:
        with ThreadPoolExecutor(3) as pool:
            found = dict(zip(self.named, pool.map(problem_of, self.named.values()), strict=True))
        return {name: problem for name, problem in found.items() if problem}


def problem_of(dependency: Dependency) -> str:
    """Returns why the dependency cannot be reached, or "" if it can."""
    try:
        dependency.check()
    except CloudError as error:
        log.warning("%s", error)
        return error.public
    return ""
