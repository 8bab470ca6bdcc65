"""Sends the slices again of which nobody knows what became, so that a lost message does not hang a batch.

The slices of a batch without a new row may only wait behind those of others. They are lost if the queue is
empty, or if as many slices of any batches have ended since then as it had: SQS delivers messages about in the
order in which they were sent. A worker may still have one of them in hand, or several may have died of it one
after the other, so they are given the time that all tries of an image take, and each time twice as long. To
send a slice that is not lost does no harm.
"""

import logging
import time
from collections.abc import Callable, Set
from typing import NamedTuple

from cloud.batches.store import BatchStore
from cloud.request_queue import RequestQueue
from controller.batches.missing import all_of, mask_of, missing
from controller.batches.progress import Progress
from controller.batches.slicing import slice_size
from controller.batches.watch import WatchedBatch

log = logging.getLogger(__name__)

QUIET_SECONDS = 60.0  # without a new row, after which the queue is counted, and between two counts
MOST_SENT = 5  # times that slices are sent again without a new row


class Quiet(NamedTuple):
    """Since when a batch has no new row."""

    rows: int
    since: float
    """When the last row came, or the slices were last sent again."""
    counted_at: float
    """When the queue was counted last, or `since` before that."""
    empty: bool = False
    """Whether the queue was empty when it was counted last."""
    turn: int | None = None
    """How many slices will have ended when all have that were in the queue, or None before it is counted."""
    sent: int = 0
    """How often the slices were sent again since then."""


class Repair:
    def __init__(
        self,
        store: BatchStore,
        queue: RequestQueue,
        clock: Callable[[], float] = time.monotonic,
        tries_seconds: float = QUIET_SECONDS,
    ) -> None:
        """`tries_seconds` is how long all tries of an image may take that ends the worker each time."""
        self.store, self.queue, self.clock = store, queue, clock
        self.tries_seconds = max(QUIET_SECONDS, tries_seconds)
        self._quiet: dict[str, Quiet] = {}
        self._objects: dict[str, int] = {}
        self._ended = 0
        """The slices of any batches that have ended, as far as this process has seen that."""

    def forget_others(self, batch_ids: Set[str]) -> None:
        """Forgets the batches that are not among these."""
        for known in (self._quiet, self._objects):
            for batch_id in known.keys() - batch_ids:
                del known[batch_id]

    def note(self, progress: Progress) -> None:
        """Notes how many slices of a batch have ended since the last time."""
        batch_id, objects = progress.batch.batch_id, progress.tally.objects
        self._ended += max(0, objects - self._objects.get(batch_id, objects))
        self._objects[batch_id] = objects

    def look(self, watched: WatchedBatch, progress: Progress) -> bool:
        """Sends the slices of images without a row again, if the batch has been quiet until they are lost.

        Returns False when that was done MOST_SENT times in vain: no worker makes rows of them.
        """
        batch_id, rows = progress.batch.batch_id, sum(progress.tally.rows.values())
        quiet, now = self._quiet.get(batch_id), self.clock()
        if quiet is None or quiet.rows != rows:
            self._quiet[batch_id] = Quiet(rows, now, now)
            return True
        if now - quiet.counted_at < QUIET_SECONDS:
            return True
        backlog = self.queue.counts().backlog
        lost = self._had_their_turn(quiet, now) if backlog else quiet.empty
        if lost and quiet.sent == MOST_SENT:
            return False
        if lost:
            self._send_missing(watched, progress)
            self._quiet[batch_id] = Quiet(rows, now, now, sent=quiet.sent + 1)
        elif not backlog:  # the counts are approximate, so one alone says little
            self._quiet[batch_id] = quiet._replace(empty=True)
        else:
            turn = self._ended + backlog
            turn = min(turn, quiet.turn or turn)
            self._quiet[batch_id] = quiet._replace(counted_at=now, empty=False, turn=turn)
        return True

    def _had_their_turn(self, quiet: Quiet, now: float) -> bool:
        """Returns whether the slices are lost although the queue has messages."""
        passed = now - quiet.since >= self.tries_seconds * 2**quiet.sent
        return passed and quiet.turn is not None and self._ended >= quiet.turn

    def _send_missing(self, watched: WatchedBatch, progress: Progress) -> None:
        batch_id, round = progress.batch.batch_id, progress.round
        if found := self.store.round(batch_id, round) if round > 1 else None:
            expected = {part.manifest: mask_of(part.positions) for part in found.parts}
        else:
            expected = {n: all_of(n, progress.images) for n in range(progress.manifests)}
        size, results = slice_size(progress.images), self.store.results(batch_id)
        slices = missing(batch_id, expected, results, watched.answered, size, round)
        log.warning("slices of the batch are sent again", extra={"batch_id": batch_id})
        self.queue.send(part.model_dump_json() for part in slices)
