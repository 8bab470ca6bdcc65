"""Has batches listed by a few threads, which take turns: one page of a batch, then one of the next."""

import logging
from collections.abc import Callable, Iterator
from threading import Lock, Thread

from cloud.batches.batch import Batch

log = logging.getLogger(__name__)

MOST_THREADS = 4
MOST_LISTED = 1000  # batches at once; whoever looks after open batches asks again for what is beyond

Pages = Iterator[None]


class Listers:
    """However many batches are asked for, they take no more threads, and none waits for the end of another.

    `pages_of` returns an iterator that lists one page of the batch at each step.
    """

    def __init__(self, pages_of: Callable[[Batch], Pages]) -> None:
        self.pages_of = pages_of
        self._waiting: dict[str, Pages] = {}
        """Those that are not being listed at this moment, by batch-id, in the order of their turns."""
        self._running: set[str] = set()
        self._threads = 0
        self._lock = Lock()

    def list(self, batch: Batch) -> None:
        """Has a batch listed, unless that has begun already."""
        with self._lock:
            known = self._running | self._waiting.keys()
            if batch.batch_id not in known and len(known) < MOST_LISTED:
                self._waiting[batch.batch_id] = self.pages_of(batch)
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
        while turn := self._next():
            batch_id, pages = turn
            goes_on = self._list_page(batch_id, pages)
            with self._lock:
                self._running.discard(batch_id)
                if goes_on:
                    self._waiting[batch_id] = pages

    def _list_page(self, batch_id: str, pages: Pages) -> bool:
        """Returns whether there may be more."""
        try:
            next(pages)
        except StopIteration:
            return False
        except Exception:
            log.exception("the batch could not be listed", extra={"batch_id": batch_id})
            return False
        return True

    def _next(self) -> tuple[str, Pages] | None:
        with self._lock:
            if not self._waiting:
                self._threads -= 1
                return None
            batch_id = next(iter(self._waiting))
            self._running.add(batch_id)
            return batch_id, self._waiting.pop(batch_id)
