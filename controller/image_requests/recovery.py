"""What brings every image to its answer when something has died: used by the autoscaler's looks."""

import logging
from collections.abc import Container, Iterable, Sequence

from cloud.buckets import OutputBucket
from cloud.image_id import parse
from cloud.prediction import FailureCode, Prediction
from cloud.request_queue import MAX_BATCH, Message, RequestQueue
from controller.image_requests.open_requests import OpenRequest, OpenRequests, Progress

log = logging.getLogger(__name__)

RESEND_AFTER_SECONDS = 30  # SQS's counts may not yet show what was sent less long ago


class Recovery:
    def __init__(self, queue: RequestQueue, outputs: OutputBucket, open_requests: OpenRequests) -> None:
        self.queue, self.outputs, self.open_requests = queue, outputs, open_requests

    def answer_dead_letters(self) -> int:
        """Images whose message was received too often are answered `failed`. Returns their number."""
        letters = self.queue.dead_letters()
        for letter in letters:
            try:
                parse(letter.image_id)
            except ValueError as error:
                log.error("a dead letter that nobody can answer is deleted: %s", error)
                continue
            self._fail(
                letter.image_id, FailureCode.GAVE_UP, "Every worker that took this image died or hung."
            )
        self.queue.delete_dead_letters(letters)
        return len(letters)

    def settle(self, request_ids: Sequence[str]) -> dict[str, int]:
        """With a quiet queue: closes those that are complete, and sends again what was lost on the way.

        Returns those that still wait, and for how many images that are uploaded.
        """
        if request_ids:
            self.answer_dead_letters()
        found = {request_id: self._waits_for(request_id) for request_id in request_ids}
        return {request_id: images for request_id, images in found.items() if images is not None}

    def _waits_for(self, request_id: str) -> int | None:
        request = self.open_requests.get(request_id)
        if request is None:
            return None
        progress = self.open_requests.progress(request)
        self._answer_copies(request, progress)
        if progress.complete:
            self.open_requests.close(request_id)
            return None
        # A copy waits for the one whose answer it gets, unless that was never uploaded.
        lost = [i for i in progress.unanswered if request.copies.get(i) not in progress.asked]
        if progress.uploaded and request.age > RESEND_AFTER_SECONDS:
            log.warning(
                "%d images have neither answer nor message: sent again",
                len(lost),
                extra={"request_id": request_id},
            )
            self.queue.send(lost)
            images = len(progress.asked | progress.answered)
            self.open_requests.open(request_id, images, request.copies)  # as of now
        return len(lost) if progress.uploaded else 0

    def _answer_copies(self, request: OpenRequest, progress: Progress) -> None:
        for image_id in progress.unanswered:
            first = request.copies.get(image_id, "")
            if first in progress.answered and (prediction := self.outputs.get_prediction(first)):
                self.outputs.put_prediction(prediction.of(image_id))
                progress.answered.add(image_id)

    def fail_all(self, requests: Iterable[OpenRequest], reason: str) -> int:
        """Answers all that wait `failed`, and takes their messages from the queue. Returns their number."""
        failed = {i for r in requests for i in self.open_requests.progress(r).unanswered}
        for image_id in sorted(failed):
            self._fail(image_id, FailureCode.NO_WORKERS, reason)
        self.take_back(failed)
        return len(failed)

    def take_back(self, image_ids: Container[str]) -> None:
        """Takes their messages from the queue, as far as no worker has them.

        A receive counts against the message of another image. So one that had none is sent anew, and only one
        that a worker has had before is given back.
        """
        others: list[Message] = []
        while messages := self.queue.receive(MAX_BATCH, 0):
            self.queue.delete([m for m in messages if m.image_id in image_ids])
            others += [m for m in messages if m.image_id not in image_ids]
        untried = [m for m in others if m.receives == 1]
        self.queue.send(m.image_id for m in untried)
        self.queue.delete(untried)
        self.queue.give_back([m for m in others if m.receives > 1])

    def _fail(self, image_id: str, code: FailureCode, reason: str) -> None:
        if self.outputs.put_prediction(Prediction.failed(image_id, code, reason)):
            log.error(reason, extra={"image_id": image_id, "code": code})
