"""Tells the autoscaler what the open batches ask of the fleet."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from cloud.batches.store import BatchStore, OpenRound
from cloud.errors import CloudError
from controller.batches.load import BatchLoad
from controller.batches.progress import Progress
from controller.batches.watch import Watch

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0


class Loads:
    """The loads of the open batches. While some are open, the keeper reads them anyway."""

    def __init__(self, store: BatchStore, watch: Watch, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.watch, self.clock = store, watch, clock
        self._lock = Lock()
        self._loads: dict[str, BatchLoad] = {}
        self._read_again_at = float("-inf")

    def get(self) -> Sequence[BatchLoad]:
        """Returns the loads as they are, or were some seconds ago. Raises CloudError when S3 fails."""
        with self._lock:
            if self.clock() >= self._read_again_at:
                self._read(self.store.opened(), FRESH_SECONDS)
            return tuple(self._loads.values())

    def read(self, opened: Iterable[OpenRound], seconds: float) -> None:
        """Reads the loads of these batches, and relies on them for so many seconds."""
        with self._lock:
            self._read(opened, seconds)

    def forget(self) -> None:
        """Makes the next caller read, because something has changed."""
        self._read_again_at = float("-inf")

    def _read(self, opened: Iterable[OpenRound], seconds: float) -> None:
        """Reads the loads. A batch that cannot be read asks for what it asked for before."""
        before, self._loads = self._loads, {}
        for batch_id in dict.fromkeys(one.batch_id for one in opened):
            try:
                watched = self.watch.of(batch_id)
                progress = watched.progress() if watched else None
            except Exception as error:
                known = isinstance(error, CloudError)
                log.warning("%s", error, extra={"batch_id": batch_id}, exc_info=not known)
                if batch_id in before:
                    self._loads[batch_id] = before[batch_id]
                continue
            if progress and not progress.summary and progress.cancelled is None:
                self._loads[batch_id] = load_of(progress)
        self._read_again_at = self.clock() + seconds


def load_of(progress: Progress) -> BatchLoad:
    batch = progress.batch
    return BatchLoad(
        images=progress.waiting,
        listing=progress.listed is None,
        deadline=batch.deadline.timestamp() if batch.deadline else None,
        budget_left=max(0.0, batch.budget - progress.dollars) if batch.budget is not None else None,
        spot=batch.spot,
    )
