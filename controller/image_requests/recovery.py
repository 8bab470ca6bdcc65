"""Makes sure that every image gets a prediction, even if a process dies. The autoscaler calls it."""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Container
from datetime import datetime, timedelta

from cloud.buckets import OutputBucket
from cloud.clock import now
from cloud.image_id import ImageId
from cloud.prediction import FailureCode, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from controller.image_requests.journal import Journal

log = logging.getLogger(__name__)

# SQS's counts may not include messages that were sent more recently, and an upload stores image after image.
RESEND_AFTER = timedelta(seconds=30)
# An image seems to wait until its process has found the prediction of another image with the same bytes.
WATCH_FOR = timedelta(seconds=5)

ABANDONED_AFTER = timedelta(seconds=60)  # no process relies on a marker that is so old (RENEW_SECONDS)


class Recovery:
    def __init__(
        self,
        queue: RequestQueue,
        outputs: OutputBucket,
        journal: Journal,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.queue, self.outputs, self.journal, self.clock = queue, outputs, journal, clock
        self._lost_at: dict[ImageId, datetime] = {}
        """When the message of an image that waits must be considered lost."""

    def answer_dead_letters(self) -> int:
        """Writes a `failed` prediction for each dead letter: a message that was received too often.

        Returns the number of dead letters. Raises CloudError when AWS fails.
        """
        letters = self.queue.dead_letters()
        for letter in letters:
            try:
                image_id = ImageId(letter.body)
            except ValueError as error:
                log.error("a dead letter that nobody can answer is deleted: %s", error)
                continue
            self._fail(image_id, FailureCode.GAVE_UP, "Every worker that took this image died or hung.")
        self.queue.delete_dead_letters(letters)
        return len(letters)

    def settle(self) -> dict[str, int]:
        """Deletes the markers of which nothing waits, and sends again the messages that were lost.

        May only be called while the queue is empty: images without a prediction then have no message. Returns
        the requests that still wait, each with the number of its images that wait.
        """
        markers = self.journal.markers()
        if markers:
            self.answer_dead_letters()
        waiting: dict[ImageId, datetime] = {}
        for marker in markers:
            found = self.journal.waiting(marker)
            waiting |= found
            if not found and self.clock() - marker.written_at > ABANDONED_AFTER:
                self.journal.forget(marker)
        self._send_lost(waiting)
        return Counter(image_id.request_id for image_id in waiting)

    def _send_lost(self, waiting: dict[ImageId, datetime]) -> None:
        """Sends the messages of images that have waited for so long that theirs must be lost.

        They may include duplicates: their process would have copied a prediction, but it has died.
        """
        at = self.clock()
        self._lost_at = {
            image_id: self._lost_at.get(image_id, max(sent + RESEND_AFTER, at + WATCH_FOR))
            for image_id, sent in waiting.items()
        }
        lost = sorted(image_id for image_id, due in self._lost_at.items() if due <= at)
        if lost:
            log.warning("%d images have neither answer nor message: sent again", len(lost))
            self.queue.send(lost)
        self._lost_at |= dict.fromkeys(lost, at + RESEND_AFTER)

    def fail_all(self, reason: str) -> int:
        """Writes a `failed` prediction for each image that waits, and removes their messages from the queue.

        Returns the number of images. Raises CloudError when AWS fails.
        """
        failed = {i for marker in self.journal.markers() for i in self.journal.waiting(marker)}
        for image_id in sorted(failed):
            self._fail(image_id, FailureCode.NO_WORKERS, reason)
        self.take_back(failed)
        return len(failed)

    def take_back(self, image_ids: Container[ImageId], seconds: float = math.inf) -> None:
        """Deletes the messages of these images from the queue, except those that are in flight.

        Stops looking for them after `seconds`, since others may fill the queue as fast as it is read. To find
        them, all visible messages are received, and SQS counts each receive: a message that was received too
        often becomes a dead letter. Messages of other images that were received here for the first time are
        therefore replaced by new ones. The rest are made visible again.
        """
        others: list[Message] = []
        until = time.monotonic() + seconds
        while messages := self.queue.receive(MAX_BATCH, 0):
            self.queue.delete([m for m in messages if m.body in image_ids])
            others += [m for m in messages if m.body not in image_ids]
            if time.monotonic() >= until:
                break
        untried = [m for m in others if m.receives == 1]
        self.queue.send(m.body for m in untried)
        self.queue.delete(untried)
        self.queue.give_back([m for m in others if m.receives > 1])

    def _fail(self, image_id: ImageId, code: FailureCode, reason: str) -> None:
        if self.outputs.put_prediction(Prediction.failed(image_id, code, reason)):
            log.error(reason, extra={"image_id": image_id, "code": code})
