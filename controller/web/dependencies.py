"""Finds out whether what the controller depends on can be reached."""

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Lock
from time import monotonic
from typing import Protocol

from cloud.errors import CloudError

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0  # how long a look is shared, because anybody may ask, and each look costs calls of AWS
PATIENCE_SECONDS = 4.0  # how long callers wait for a look, because boto3 may try for minutes


class Dependency(Protocol):
    def check(self) -> None:
        """Raises CloudError when it cannot be reached."""


class Dependencies:
    def __init__(self, named: Mapping[str, Dependency]) -> None:
        self.named = named
        self._pool = ThreadPoolExecutor(max(1, len(named)), "dependencies")
        self._look: dict[str, Future[str]] = {}
        self._began = float("-inf")
        self._lock = Lock()

    def problems(self) -> dict[str, str]:
        """Returns the reason for each dependency that cannot be reached, by its name.

        What has not answered PATIENCE_SECONDS after the look began cannot be reached, and nobody waits for it
        any longer: each caller holds a thread. There is no other look until it has answered.
        """
        with self._lock:
            ended = all(found.done() for found in self._look.values())
            if ended and monotonic() - self._began >= FRESH_SECONDS:
                self._look = {name: self._pool.submit(problem_of, one) for name, one in self.named.items()}
                self._began = monotonic()
            look = self._look
            patience = self._began + PATIENCE_SECONDS - monotonic()
        wait(look.values(), max(0.0, patience))
        problems = {n: found.result() if found.done() else "AWS does not answer" for n, found in look.items()}
        return {name: problem for name, problem in problems.items() if problem}


def problem_of(dependency: Dependency) -> str:
    """Returns why the dependency cannot be reached, or "" if it can."""
    try:
        dependency.check()
    except CloudError as error:
        log.warning("%s", error)
        return error.public
    return ""
