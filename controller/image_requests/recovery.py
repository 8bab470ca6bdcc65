"""Makes sure that every image gets a prediction, even if a process dies. The autoscaler calls it."""

import logging
from collections.abc import Container, Iterable, Sequence

from cloud.buckets import OutputBucket
from cloud.image_id import ImageId
from cloud.prediction import FailureCode, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from controller.image_requests.open_requests import OpenRequest, OpenRequests, Progress

log = logging.getLogger(__name__)

RESEND_AFTER_SECONDS = 30  # SQS's counts may not include messages that were sent more recently


class Recovery:
    def __init__(self, queue: RequestQueue, outputs: OutputBucket, open_requests: OpenRequests) -> None:
        self.queue, self.outputs, self.open_requests = queue, outputs, open_requests

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

    def settle(self, request_ids: Sequence[str]) -> dict[str, int]:
        """Closes the requests that are complete, and sends again the messages that were lost.

        May only be called while the queue is empty: images without a prediction then have no message. Returns
        the requests that still wait, each with the number of its images that wait for a worker.
        """
        if request_ids:
            self.answer_dead_letters()
        found = {request_id: self._waits_for(request_id) for request_id in request_ids}
        return {request_id: images for request_id, images in found.items() if images is not None}

    def _waits_for(self, request_id: str) -> int | None:
        """Settles one request. Returns None if it is closed, and 0 while it is being uploaded."""
        request = self.open_requests.get(request_id)
        if request is None:
            return None
        progress = self.open_requests.progress(request)
        self._answer_copies(request, progress)
        if progress.complete:
            self.open_requests.close(request_id)
            return None
        # A duplicate needs no message of its own if the image whose prediction it gets was uploaded.
        lost = [i for i in progress.unanswered if request.copies.get(i) not in progress.asked]
        if progress.uploaded and request.age > RESEND_AFTER_SECONDS:
            log.warning(
                "%d images have neither answer nor message: sent again",
                len(lost),
                extra={"request_id": request_id},
            )
            self.queue.send(lost)
            images = len(progress.asked | progress.answered)
            self.open_requests.open(request_id, images, request.copies)  # with a new timestamp
        return len(lost) if progress.uploaded else 0

    def _answer_copies(self, request: OpenRequest, progress: Progress) -> None:
        for image_id in progress.unanswered:
            first = request.copies.get(image_id)
            if first not in progress.answered:
                continue
            if prediction := self.outputs.get_prediction(first):
                self.outputs.put_prediction(prediction.of(image_id))
                progress.answered.add(image_id)

    def fail_all(self, requests: Iterable[OpenRequest], reason: str) -> int:
        """Writes a `failed` prediction for each unanswered image, and removes their messages from the queue.

        Returns the number of images. Raises CloudError when AWS fails.
        """
        failed = {i for r in requests for i in self.open_requests.progress(r).unanswered}
        for image_id in sorted(failed):
            self._fail(image_id, FailureCode.NO_WORKERS, reason)
        self.take_back(failed)
        return len(failed)

    def take_back(self, image_ids: Container[ImageId]) -> None:
        """Deletes the messages of these images from the queue, except those that are in flight.

        To find them, all visible messages are received, and SQS counts each receive: a message that was
        received too often becomes a dead letter. Messages of other images that were received here for the
        first time are therefore replaced by new ones. The rest are made visible again.
        """
        others: list[Message] = []
        while messages := self.queue.receive(MAX_BATCH, 0):
            self.queue.delete([m for m in messages if m.body in image_ids])
            others += [m for m in messages if m.body not in image_ids]
        untried = [m for m in others if m.receives == 1]
        self.queue.send(m.body for m in untried)
        self.queue.delete(untried)
        self.queue.give_back([m for m in others if m.receives > 1])

    def _fail(self, image_id: ImageId, code: FailureCode, reason: str) -> None:
        if self.outputs.put_prediction(Prediction.failed(image_id, code, reason)):
            log.error(reason, extra={"image_id": image_id, "code": code})
