"""Makes sure that every image gets a prediction, even if a process dies. The autoscaler calls it."""

import heapq
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from cloud.buckets import OutputBucket
from cloud.clock import now
from cloud.errors import CloudError
from cloud.failure_code import FailureCode
from cloud.image_id import ImageId
from cloud.prediction import GAVE_UP, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from controller.image_requests.journal import Journal, MarkedImages, Marker

log = logging.getLogger(__name__)

# SQS's counts may not include messages that were sent more recently, and an upload stores image after image.
RESEND_AFTER = timedelta(seconds=60)
# Messages are received in about the order in which they were sent. One whose worker has died comes later.
OVERTAKEN_AFTER = timedelta(minutes=5)
MOST_READ = 100  # predictions, of the images that may have overtaken others
TAKE_BACK_SECONDS = 3.0  # the longest that messages are looked for in the queue
TAKE_BACK_WAIT_SECONDS = 1  # a receive that does not wait may miss messages, as it asks few of SQS's servers
DEAD_LETTERS_SECONDS = 3.0  # the longest that one run of the autoscaler spends on dead letters
READERS = 8  # threads that read markers
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
        take_over: Callable[[Marker], None] = lambda marker: None,
    ) -> None:
        self.queue, self.outputs, self.journal, self.clock = queue, outputs, journal, clock
        self.take_over = take_over
        """Called with each marker of which nothing waits, before it is deleted."""
        self._lost_at: dict[ImageId, datetime] = {}
        """When the message of an image that waits must be considered lost."""

    def answer_dead_letters(self) -> int:
        """Writes a `failed` prediction for each dead letter: a message that was received too often.

        Returns the number of dead letters; the next call answers what is left after DEAD_LETTERS_SECONDS.
        Raises CloudError when AWS fails.
        """
        count = 0
        until = time.monotonic() + DEAD_LETTERS_SECONDS
        while time.monotonic() < until and (letters := self.queue.dead_letters()):
            for letter in letters:
                self._answer_dead_letter(letter)
            self.queue.delete_dead_letters(letters)
            count += len(letters)
        return count

    def _answer_dead_letter(self, letter: Message) -> None:
        try:
            image_id = ImageId(letter.body)
        except ValueError as error:
            log.error("a dead letter that nobody can answer is deleted: %s", error)
            return
        self._fail(image_id, FailureCode.GAVE_UP, GAVE_UP)

    def settle(self) -> dict[str, int]:
        """Deletes the markers of which nothing waits, and sends again the messages that were lost.

        May only be called while the queue is empty: images without a prediction then have no message. Returns
        the requests that still wait, each with the number of its images that wait.
        """
        markers = self.journal.markers()
        if markers:
            self.answer_dead_letters()
        found = self._read(markers)
        for marker, images in zip(markers, found, strict=True):
            abandoned = self.clock() - marker.written_at > ABANDONED_AFTER
            if abandoned and not images.waiting and not self.journal.owns(marker):
                self._forget(marker)
        waiting = all_waiting(found)
        self._send_lost(waiting)
        return Counter(image_id.request_id for image_id in waiting)

    def _forget(self, marker: Marker) -> None:
        """Deletes a marker of which nothing waits. If that fails, it stays, and holds up nothing else."""
        try:
            self.take_over(marker)
            self.journal.forget(marker)
        except CloudError as error:
            log.warning("%s; the marker stays until a later run of the autoscaler", error)

    def sweep(self) -> int:
        """Sends again the messages that were lost, even while the queue is busy. Returns their number.

        A message is lost if a worker has answered an image that was stored OVERTAKEN_AFTER its own. Each
        request that is sent again gets a marker, so that its images count as sent now. Raises CloudError when
        AWS fails.
        """
        found = self._read(self.journal.markers())
        waiting = all_waiting(found)
        overtaken = self._overtaken(found, min(waiting.values(), default=self.clock()))
        lost = sorted(image_id for image_id, at in waiting.items() if at < overtaken)
        for request_id in sorted({image_id.request_id for image_id in lost}):
            self.journal.hold(request_id)
        if lost:
            log.warning("%d images were overtaken by later ones: sent again", len(lost))
        self.queue.send(lost)
        return len(lost)

    def _overtaken(self, found: Sequence[MarkedImages], oldest: datetime) -> datetime:
        """Returns the time before which an image that still waits was overtaken, or `oldest` if none was.

        `oldest` is since when the first of them has waited. Answers that needed no worker say nothing about
        the queue: those from the cache, and refusals.
        """
        until = oldest + OVERTAKEN_AFTER
        later = [(at, i) for images in found for i, at in images.answered.items() if at > until]
        for at, image_id in heapq.nlargest(MOST_READ, later):
            prediction = self.outputs.get_prediction(image_id)
            if prediction and prediction.instance_id and not prediction.cached:
                return at - OVERTAKEN_AFTER
        return oldest

    def _read(self, markers: Sequence[Marker]) -> list[MarkedImages]:
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(self.journal.images, markers))

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
        failed = set(all_waiting(self._read(self.journal.markers())))
        for image_id in sorted(failed):
            self._fail(image_id, FailureCode.NO_WORKERS, reason)
        self.take_back(failed)
        return len(failed)

    def take_back(self, image_ids: Container[ImageId]) -> None:
        """Deletes the messages of these images, and of those that are answered, unless they are in flight.

        Stops looking for them after TAKE_BACK_SECONDS, since others may fill the queue as fast as it is read.
        To find them, all visible messages are received, and SQS counts each receive: a message that was
        received too often becomes a dead letter. Messages of other images are therefore renewed.
        """
        others: list[Message] = []
        until = time.monotonic() + TAKE_BACK_SECONDS
        while messages := self.queue.receive(MAX_BATCH, TAKE_BACK_WAIT_SECONDS):
            needless = [m for m in messages if m.body in image_ids or self._is_answered(m)]
            self.queue.delete(needless)
            others += [m for m in messages if m not in needless]
            if time.monotonic() >= until:
                break
        self.queue.renew(others)

    def _is_answered(self, message: Message) -> bool:
        try:
            return self.outputs.get_prediction(ImageId(message.body)) is not None
        except ValueError:
            return False

    def _fail(self, image_id: ImageId, code: FailureCode, reason: str) -> None:
        if self.outputs.put_prediction(Prediction.failed(image_id, code, reason)):
            log.error(reason, extra={"image_id": image_id, "code": code})


def all_waiting(found: Iterable[MarkedImages]) -> dict[ImageId, datetime]:
    """Returns the images that wait, and since when. Two markers may be about the same image."""
    waiting: dict[ImageId, datetime] = {}
    for images in found:
        for image_id, at in images.waiting.items():
            waiting[image_id] = max(at, waiting.get(image_id, at))
    return waiting
