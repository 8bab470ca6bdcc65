"""Ends the work on a slice: writes its rows, gives back what is left of it, and deletes its message."""

import logging
import time
from threading import Lock

from cloud.batches.store import BatchStore
from cloud.errors import CloudError
from cloud.request_queue import Message, RequestQueue
from worker import metrics
from worker.postponing import MOST_POSTPONED, postpone
from worker.slice_in_hand import SliceInHand
from worker.work import Fate

log = logging.getLogger(__name__)


class SliceEnd:
    """Ends slices. Several threads may do so at once."""

    def __init__(self, queue: RequestQueue, store: BatchStore, visibility_timeout: float) -> None:
        self.queue, self.store, self.visibility_timeout = queue, store, visibility_timeout
        self._lock = Lock()
        self._last_end = 0.0

    def end(self, hand: SliceInHand) -> None:
        """Writes the rows and deletes the message. When AWS fails, the slice is tried again in a while.

        A worker that dies in between leaves the message, too. Some rows are then made twice, which is
        harmless, because the row counts that was written first.
        """
        try:
            self._write(hand)
            self._replace(hand)
        except CloudError as error:
            log.warning("%s", error)
            self.postpone(hand.message)

    def postpone(self, message: Message) -> None:
        """Lets the message of a slice come back in a while, or deletes it if that was done too often.

        No dead-letter queue takes it. The controller sends slices again that are gone, or ends their batch.
        """
        if message.postponed < MOST_POSTPONED:
            postpone(self.queue, [message], self.visibility_timeout)
            return
        log.error("a slice was postponed too often; its message is deleted")
        try:
            self.queue.delete([message])
        except CloudError as error:
            log.warning("%s; the message comes back after the visibility timeout", error)

    def _write(self, hand: SliceInHand) -> None:
        seconds, rows = self._seconds(hand), hand.rows
        if not rows:
            return
        done = hand.part.with_only([row.position for row in rows])
        result = self.store.put_rows(done, rows, seconds)
        log.info(
            "slice done",
            extra={
                "batch_id": result.batch_id,
                "manifest": result.manifest,
                "rows": result.rows,
                "failures": result.failures,
                "seconds": round(seconds, 2),
            },
        )

    def _replace(self, hand: SliceInHand) -> None:
        """Deletes the message. If images are left, sends a message for them before.

        The new one has been received as often, except that a receive does not count if the images are not to
        blame.
        """
        message, rest = hand.message, hand.rest
        if rest is None:
            self.queue.delete([message])
            return
        metrics.IMAGES.labels("returned").inc(len(rest))
        log.info("%d images of a slice go back to the queue: %s", len(rest), hand.fate.value)
        delay = 0 if hand.fate is Fate.GIVEN_BACK else self.visibility_timeout
        tries = message.receives - (hand.fate is not Fate.LEFT)
        self.queue.replace(message, [rest.model_dump_json()], delay, tries)

    def _seconds(self, hand: SliceInHand) -> float:
        """Returns how long the slice has taken, without the time that counts for the slice before.

        All slices together have thus taken as long as this worker was at work on any.
        """
        with self._lock:
            now = time.monotonic()
            since, self._last_end = max(hand.begun, self._last_end), now
            return now - since
