"""Keeps the open batches going: lists them, repairs them, stops them at their budget, and finishes them.

Each process of the controller has a keeper. None has a batch to itself: whatever one of them does may be done
by another one at the same time, or again, without harm.
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event
from typing import NamedTuple

from cloud.batches.batch import Batch
from cloud.batches.store import BatchStore, OpenRound, put_once, summary_key
from cloud.buckets import JsonObjects
from cloud.clock import now
from cloud.errors import CloudError
from cloud.notices import Notice
from cloud.request_queue import RequestQueue
from controller.batches.answer import notice_of
from controller.batches.lister import Lister
from controller.batches.listers import Listers
from controller.batches.loads import Loads
from controller.batches.progress import Progress
from controller.batches.repair import QUIET_SECONDS, Repair
from controller.batches.summary import Summary, summarise
from controller.batches.watch import Watch, WatchedBatch
from controller.batches.wording import NEVER_ANSWERED, never_listed, out_of_budget

log = logging.getLogger(__name__)

IDLE_SECONDS = 450.0  # between two looks while no batch is open
BUSY_SECONDS = 5.0  # and while there are some, for each page of results
LONGEST_BUSY_SECONDS = 30.0
SPACING_SECONDS = 0.5  # between two looks, however often the keeper is woken
TAKEN_OVER_AFTER = timedelta(seconds=60)  # the process that lists may have died
MOST_IN_VAIN = 60  # tries to list a batch that fail one after the other, a minute apart, and get no further
FORGOTTEN_AFTER = timedelta(minutes=10)  # a process must have died between two writes


class Tries(NamedTuple):
    """The tries to list a batch that have failed one after the other, and written no manifest."""

    manifests: int = 0
    """Those that the batch had before."""
    in_vain: int = 0


class Keeper:
    def __init__(
        self,
        store: BatchStore,
        queue: RequestQueue,
        watch: Watch,
        lister: Lister,
        wake_autoscaler: Callable[[], None] = lambda: None,
        tell: Callable[[Notice], None] = lambda notice: None,
        clock: Callable[[], float] = time.monotonic,
        tries_seconds: float = QUIET_SECONDS,
    ) -> None:
        """`tries_seconds` is how long all tries of an image may take that ends the worker each time."""
        self.store, self.queue, self.watch, self.lister = store, queue, watch, lister
        self.wake_autoscaler = wake_autoscaler
        self.tell = tell
        """Called when a round has ended, before its marker is deleted."""
        self._summaries = JsonObjects(store.state, Summary)
        self.repair = Repair(store, queue, clock, tries_seconds)
        self.loads = Loads(store, watch, clock)
        self.wake = Event()
        """Set to look at once."""
        self._tries: dict[str, Tries] = {}
        """Those to list each batch that have failed."""
        self._listers = Listers(self._pages)

    def run(self, stop: Event) -> None:
        """Looks from time to time, and when woken, until `stop` is set. Set `wake` too to end it at once."""
        while not stop.is_set():
            seconds = BUSY_SECONDS
            try:
                seconds = self.look()
            except CloudError as error:
                log.warning("the open batches could not be looked at: %s", error)
            except Exception:
                log.exception("the open batches could not be looked at")
            stop.wait(SPACING_SECONDS)
            self.wake.wait(seconds)
            self.wake.clear()

    def look(self) -> float:
        """Does what the open batches need. Returns the seconds after which to look again.

        Raises CloudError when they cannot be listed.
        """
        opened, objects = list(self.store.opened()), 0
        self.repair.forget_others({one.batch_id for one in opened})
        self.loads.read(opened, LONGEST_BUSY_SECONDS)  # at once, and what follows looks at the same
        for one in opened:
            try:
                objects += self._keep(one)
            except CloudError as error:
                log.warning("%s", error, extra={"batch_id": one.batch_id})
            except Exception:
                log.exception("the batch could not be looked after", extra={"batch_id": one.batch_id})
        if not opened:
            return IDLE_SECONDS
        pause = min(LONGEST_BUSY_SECONDS, BUSY_SECONDS * max(1.0, objects / 1000))
        self.loads.read(opened, pause + SPACING_SECONDS)
        return pause

    def list(self, batch: Batch) -> None:
        """Has a batch listed by other threads."""
        self._listers.list(batch)
        self.hurry()

    def hurry(self) -> None:
        """Looks at once, because something has changed."""
        self.loads.forget()
        self.wake.set()

    def _pages(self, batch: Batch) -> Iterator[None]:
        try:
            for manifests in self.lister.pages(batch):
                self._note_manifests(batch.batch_id, manifests)
                yield
        except CloudError as error:
            log.warning("%s; the listing goes on in a minute", error, extra={"batch_id": batch.batch_id})
            self._note_failure(batch.batch_id, error)
        else:
            self._tries.pop(batch.batch_id, None)
        if watched := self.watch.of(batch.batch_id):
            watched.forget()
        self.hurry()
        self.wake_autoscaler()  # it knows only now how many images there are

    def _note_manifests(self, batch_id: str, manifests: int) -> None:
        """Notes how far a listing is. Pages that fill no manifest are listed again at the next try."""
        if manifests > self._tries.get(batch_id, Tries()).manifests:
            self._tries[batch_id] = Tries(manifests)

    def _note_failure(self, batch_id: str, error: CloudError) -> None:
        """Lets a listing that has failed rest for a minute, or ends the batch if it has failed too often."""
        manifests, in_vain = self._tries.get(batch_id, Tries())
        self._tries[batch_id] = Tries(manifests, in_vain + 1)
        if in_vain + 1 >= MOST_IN_VAIN:
            self.store.cancel(batch_id, never_listed(error.public))
        if self.store.cancelled(batch_id) is None:
            self.store.touch(batch_id)
        else:
            del self._tries[batch_id]

    def _keep(self, one: OpenRound) -> int:
        """Does what one batch needs. Returns the number of its result objects."""
        watched = self.watch.of(one.batch_id)
        progress = watched.progress() if watched else None
        if watched is None or progress is None or one.round > progress.round:
            if now() - one.since > FORGOTTEN_AFTER:  # it was never written what to do
                self.store.close(one.batch_id, one.round)
            return 0
        self.repair.note(progress)
        if progress.summary or one.round < progress.round:
            self._close(one.batch_id, one.round)
        elif progress.at_end:
            self._finish(watched, progress)
        elif progress.batch.budget is not None and progress.dollars >= progress.batch.budget:
            self._cancel(watched, out_of_budget(progress))
        elif progress.listed is None:
            if now() - max(progress.manifest_at, one.since) > TAKEN_OVER_AFTER:
                self.list(progress.batch)
        elif not self.repair.look(watched, progress):
            log.error("no worker makes rows of the batch", extra={"batch_id": one.batch_id})
            self._cancel(watched, NEVER_ANSWERED)
        return progress.tally.objects

    def _cancel(self, watched: WatchedBatch, why: str) -> None:
        self.store.cancel(watched.batch.batch_id, why)
        watched.forget()
        self.hurry()

    def _finish(self, watched: WatchedBatch, progress: Progress) -> None:
        batch_id = progress.batch.batch_id
        summary = summarise(
            self.store,
            batch_id,
            manifests=progress.manifests,
            images=progress.images,
            cancelled=progress.cancelled is not None,
            milliseconds=progress.tally.milliseconds,
            dollars=progress.dollars,
        )
        if put_once(self._summaries, summary_key(batch_id, progress.round), summary):
            self._close(batch_id, progress.round)  # otherwise another process does, or a later look
        watched.forget()
        self.wake_autoscaler()
        log.info("the batch is finished", extra={"batch_id": batch_id})

    def _close(self, batch_id: str, round: int) -> None:
        """Tells what came of a round, if it has a summary, and notes that it is finished."""
        if summary := self._summaries.get(summary_key(batch_id, round)):
            self.tell(notice_of(batch_id, summary))
        self.store.close(batch_id, round)
