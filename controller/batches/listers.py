"""Has batches listed by a few threads, in the order in which that was asked for."""

import logging
from collections.abc import Callable
from threading import Lock, Thread

from cloud.batches.batch import Batch

log = logging.getLogger(__name__)

MOST_THREADS = 4
MOST_WAITING = 1000  # batches; whoever looks after open batches asks again for what is beyond


class Listers:
    """A batch that waits takes no thread, however many are asked for."""

    def __init__(self, list_one: Callable[[Batch], None]) -> None:
        self.list_one = list_one
        self._waiting: dict[str, Batch] = {}
        self._running: set[str] = set()
        self._threads = 0
        self._lock = Lock()

    def list(self, batch: Batch) -> None:
        """Has a batch listed, unless it is listed already, or waits for that."""
        with self._lock:
            if batch.batch_id not in self._running and len(self._waiting) < MOST_WAITING:
                self._waiting.setdefault(batch.batch_id, batch)
            if not self._waiting or self._threads == MOST_THREADS:
                return
            self._threads += 1
        try:
            Thread(target=self._run, name="list-batch", daemon=True).start()
        except RuntimeError as error:  # there are too many threads
            log.error("%s", error, extra={"batch_id": batch.batch_id})
            with self._lock:
                self._threads -= 1

    def _run(self) -> None:
        while batch := self._next():
            try:
                self.list_one(batch)
            except Exception:
                log.exception("the batch could not be listed", extra={"batch_id": batch.batch_id})
            with self._lock:
                self._running.discard(batch.batch_id)

    def _next(self) -> Batch | None:
        with self._lock:
            if not self._waiting:
                self._threads -= 1
                return None
            batch_id = next(iter(self._waiting))
            self._running.add(batch_id)
            return self._waiting.pop(batch_id)
