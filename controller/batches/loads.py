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
from controller.image_requests.fair_pool import FairPool

log = logging.getLogger(__name__)

FRESH_SECONDS = 5.0
READERS = 16  # threads; one after the other, a hundred batches take longer than a run of the autoscaler may


class Loads:
    """The loads of the open batches. While some are open, the keeper reads them anyway."""

    def __init__(self, store: BatchStore, watch: Watch, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.watch, self.clock = store, watch, clock
        self._pool = FairPool(READERS, "loads")
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
        batch_ids = list(dict.fromkeys(one.batch_id for one in opened))
        found = zip(batch_ids, self._pool.map(self._load, batch_ids), strict=True)
        self._loads = {batch_id: load for batch_id, load in found if load}
        self._read_again_at = self.clock() + seconds

    def _load(self, batch_id: str) -> BatchLoad | None:
        """Returns the load of a batch. One that cannot be read asks for what it asked for before."""
        try:
            watched = self.watch.of(batch_id)
            progress = watched.progress() if watched else None
        except Exception as error:
            known = isinstance(error, CloudError)
            log.warning("%s", error, extra={"batch_id": batch_id}, exc_info=not known)
            return self._loads.get(batch_id)
        if progress is None or progress.summary or progress.cancelled is not None:
            return None
        return load_of(progress)


def load_of(progress: Progress) -> BatchLoad:
    batch = progress.batch
    return BatchLoad(
        images=progress.waiting,
        listing=progress.listed is None,
        deadline=batch.deadline.timestamp() if batch.deadline else None,
        budget_left=max(0.0, batch.budget - progress.dollars) if batch.budget is not None else None,
        spot=batch.spot,
    )
