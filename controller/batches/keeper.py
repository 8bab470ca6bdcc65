"""Keeps the open batches going: lists them, repairs them, stops them at their budget, and finishes them.

Each process of the controller has a keeper. None has a batch to itself: whatever one of them does may be done
by another one at the same time, or again, without harm.
"""

import logging
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from threading import BoundedSemaphore, Event, Lock, Thread
from typing import NamedTuple

from cloud.batches.batch import Batch
from cloud.batches.store import BatchStore, OpenRound, put_once, summary_key
from cloud.buckets import JsonObjects
from cloud.clock import now
from cloud.errors import CloudError
from cloud.request_queue import RequestQueue
from controller.batches.lister import Lister
from controller.batches.load import BatchLoad
from controller.batches.missing import all_of, mask_of, missing
from controller.batches.progress import Progress
from controller.batches.slicing import slice_size
from controller.batches.summary import Summary, summarise
from controller.batches.watch import Watch, WatchedBatch
from controller.batches.wording import out_of_budget

log = logging.getLogger(__name__)

IDLE_SECONDS = 450.0  # between two looks while no batch is open
BUSY_SECONDS = 5.0  # and while there are some, for each page of results
LONGEST_BUSY_SECONDS = 30.0
SPACING_SECONDS = 0.5  # between two looks, however often the keeper is woken
TAKEN_OVER_AFTER = timedelta(seconds=60)  # the process that lists may have died
FORGOTTEN_AFTER = timedelta(minutes=10)  # a process must have died between two writes
QUIET_SECONDS = 60.0  # without a new row, after which slices may be lost
LOADS_SECONDS = 5.0
MOST_LISTINGS = 4  # at the same time; others wait


class Quiet(NamedTuple):
    """Since when a batch has no new row."""

    rows: int
    since: float
    empty: bool = False
    """Whether the queue was empty when it was counted last."""


class Keeper:
    def __init__(
        self,
        store: BatchStore,
        queue: RequestQueue,
        watch: Watch,
        lister: Lister,
        wake_autoscaler: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.queue, self.watch, self.lister = store, queue, watch, lister
        self.wake_autoscaler, self.clock = wake_autoscaler, clock
        self.wake = Event()
        """Set to look at once."""
        self._listing: dict[str, Thread] = {}
        self._slots = BoundedSemaphore(MOST_LISTINGS)
        self._quiet: dict[str, Quiet] = {}
        self._loads: dict[str, BatchLoad] = {}
        self._loads_until = float("-inf")
        """When the loads must be read again, by `clock`."""
        self._reading = Lock()

    def run(self, stop: Event) -> None:
        """Looks from time to time, and when woken, until `stop` is set. Set `wake` too to end it at once."""
        while not stop.is_set():
            seconds = BUSY_SECONDS
            try:
                seconds = self.look()
            except CloudError as error:
                log.warning("the open batches could not be looked at: %s", error)
            stop.wait(SPACING_SECONDS)
            self.wake.wait(seconds)
            self.wake.clear()

    def look(self) -> float:
        """Does what the open batches need. Returns the seconds after which to look again.

        Raises CloudError when they cannot be listed.
        """
        opened, objects = list(self.store.opened()), 0
        for one in opened:
            try:
                objects += self._keep(one)
            except CloudError as error:
                log.warning("%s", error, extra={"request_id": one.batch_id})
            except Exception:
                log.exception("the batch could not be looked after", extra={"request_id": one.batch_id})
        self._quiet = {one.batch_id: q for one in opened if (q := self._quiet.get(one.batch_id))}
        if not opened:
            return IDLE_SECONDS
        pause = min(LONGEST_BUSY_SECONDS, BUSY_SECONDS * max(1.0, objects / 1000))
        with self._reading:
            self._read_loads(opened, pause + SPACING_SECONDS)
        return pause

    def list(self, batch: Batch) -> None:
        """Lists a batch in a thread of its own."""
        self._listing = {batch_id: thread for batch_id, thread in self._listing.items() if thread.is_alive()}
        if batch.batch_id not in self._listing:
            thread = Thread(target=self._list, args=[batch], name="list-batch", daemon=True)
            self._listing[batch.batch_id] = thread
            thread.start()
        self.hurry()

    def loads(self) -> tuple[BatchLoad, ...]:
        """Returns what the open batches ask of the fleet, or asked some seconds ago.

        Raises CloudError when S3 fails.
        """
        with self._reading:
            if self.clock() >= self._loads_until:
                self._read_loads(self.store.opened(), LOADS_SECONDS)
            return tuple(self._loads.values())

    def hurry(self) -> None:
        """Looks at once, because something has changed."""
        self._loads_until = float("-inf")
        self.wake.set()

    def _list(self, batch: Batch) -> None:
        try:
            with self._slots:
                self.lister.list(batch)
        except CloudError as error:
            log.warning("%s; the listing goes on in a minute", error, extra={"request_id": batch.batch_id})
        except Exception:
            log.exception("the batch could not be listed", extra={"request_id": batch.batch_id})
        if watched := self.watch.of(batch.batch_id):
            watched.forget()
        self.hurry()

    def _keep(self, one: OpenRound) -> int:
        """Does what one batch needs. Returns the number of its result objects."""
        watched = self.watch.of(one.batch_id)
        progress = watched.progress() if watched else None
        if watched is None or progress is None or one.round > progress.round:
            if now() - one.since > FORGOTTEN_AFTER:  # it was never written what to do
                self.store.close(one.batch_id, one.round)
            return 0
        if progress.summary or one.round < progress.round:
            self.store.close(one.batch_id, one.round)
        elif progress.at_end:
            self._finish(watched, progress)
        elif progress.batch.budget is not None and progress.dollars >= progress.batch.budget:
            self.store.cancel(one.batch_id, out_of_budget(progress))
            watched.forget()
            self.hurry()
        elif progress.listed is None:
            if now() - progress.manifest_at > TAKEN_OVER_AFTER:
                self.list(progress.batch)
        else:
            self._repair(watched, progress)
        return progress.tally.objects

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
        put_once(JsonObjects(self.store.state, Summary), summary_key(batch_id, progress.round), summary)
        self.store.close(batch_id, progress.round)
        watched.forget()
        self.wake_autoscaler()
        log.info("the batch is finished", extra={"request_id": batch_id})

    def _repair(self, watched: WatchedBatch, progress: Progress) -> None:
        """Sends the slices of images without a row again, if the queue has been empty for long enough."""
        batch_id, rows = progress.batch.batch_id, sum(progress.tally.rows.values())
        quiet = self._quiet.get(batch_id)
        if quiet is None or quiet.rows != rows:
            self._quiet[batch_id] = Quiet(rows, self.clock())
        elif self.clock() - quiet.since >= QUIET_SECONDS:
            if self.queue.counts().backlog:
                self._quiet[batch_id] = Quiet(rows, self.clock())
            elif not quiet.empty:
                self._quiet[batch_id] = quiet._replace(empty=True)
            else:
                self._send_missing(watched, progress)
                self._quiet[batch_id] = Quiet(rows, self.clock())

    def _send_missing(self, watched: WatchedBatch, progress: Progress) -> None:
        batch_id, round = progress.batch.batch_id, progress.round
        if found := self.store.round(batch_id, round) if round > 1 else None:
            expected = {part.manifest: mask_of(part.positions) for part in found.parts}
        else:
            expected = {n: all_of(n, progress.images) for n in range(progress.manifests)}
        size, results = slice_size(progress.images), self.store.results(batch_id)
        slices = missing(batch_id, expected, results, watched.answered, size, round)
        log.warning("slices of the batch are sent again", extra={"request_id": batch_id})
        self.queue.send(part.model_dump_json() for part in slices)
        self.wake_autoscaler()

    def _read_loads(self, opened: Iterable[OpenRound], seconds: float) -> None:
        """Reads what the open batches ask of the fleet, and relies on it for so many seconds.

        A batch that cannot be read asks for what it asked for before.
        """
        before, self._loads = self._loads, {}
        for batch_id in dict.fromkeys(one.batch_id for one in opened):
            try:
                watched = self.watch.of(batch_id)
                progress = watched.progress() if watched else None
            except CloudError as error:
                log.warning("%s", error, extra={"request_id": batch_id})
                if batch_id in before:
                    self._loads[batch_id] = before[batch_id]
                continue
            if progress and not progress.summary and progress.cancelled is None:
                self._loads[batch_id] = load_of(progress)
        self._loads_until = self.clock() + seconds


def load_of(progress: Progress) -> BatchLoad:
    batch = progress.batch
    return BatchLoad(
        images=progress.waiting,
        listing=progress.listed is None,
        deadline=batch.deadline.timestamp() if batch.deadline else None,
        budget_left=max(0.0, batch.budget - progress.dollars) if batch.budget is not None else None,
    )
