"""Provides the shared state of the fleet to readers, who never change it."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from threading import Lock
from time import monotonic

from cloud.errors import CloudError
from controller.autoscaling.fleet_state import FleetState, SharedState

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # the state is reused this long; the autoscaler runs every 2 s while requests wait
STALE_SECONDS = 10.0  # an older state is not returned
PATIENCE_SECONDS = 3.0  # the longest wait for S3


class LatestState:
    """Reads the state at most once per second for all requests, streams and scrapes of the process."""

    def __init__(self, shared: SharedState, pool: Executor, clock: Callable[[], float] = monotonic) -> None:
        self.shared, self.pool, self.clock = shared, pool, clock
        self._lock = Lock()
        self._reading: Future[None] | None = None
        self._read_at = float("-inf")
        self._state: FleetState | None = None

    def get(self) -> FleetState | None:
        """Returns the state, or None when it could not be read recently."""
        with self._lock:
            reading = self._reading
            if (reading is None or reading.done()) and self.clock() - self._read_at >= FRESH_SECONDS:
                reading = self._reading = self.pool.submit(self._read)
        if reading:
            with suppress(TimeoutError):
                reading.result(PATIENCE_SECONDS)
        return self._state if self.clock() - self._read_at < STALE_SECONDS else None

    def _read(self) -> None:
        try:
            state = self.shared.peek()
        except CloudError as error:
            log.warning("%s", error)
            state = None
        self._state, self._read_at = state, self.clock()
