"""Provides the shared state of the fleet to readers, who never change it."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic

from cloud.errors import CloudError
from cloud.shared_reading import SharedReading
from controller.autoscaling.fleet_state import FleetState
from controller.autoscaling.shared_state import SharedState

log = logging.getLogger(__name__)

FRESH_SECONDS = 1.0  # the state is reused this long; the autoscaler runs every 2 s while requests wait
STALE_SECONDS = 10.0  # an older state is not returned
PATIENCE_SECONDS = 3.0  # the longest wait for S3


class LatestState:
    """Reads the state at most once per second for all requests, streams and scrapes of the process."""

    def __init__(self, shared: SharedState, clock: Callable[[], float] = monotonic) -> None:
        self.shared, self.clock = shared, clock
        # A thread of its own, so that an S3 that does not answer holds up nobody else.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="latest-state")
        self._readings: SharedReading[None] = SharedReading(FRESH_SECONDS, clock=clock)
        self._read_at = float("-inf")
        self._state: FleetState | None = None

    def get(self) -> FleetState | None:
        """Returns the state, or None when it could not be read recently."""
        reading = self._thread.submit(self._readings.get, self._read)
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
