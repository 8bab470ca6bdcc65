"""Cancels a submitted request, or retries its failed images."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta

from cloud.errors import CloudError, Conflict, NotFound
from cloud.failure_code import FailureCode
from cloud.image_id import ImageId
from cloud.prediction import Prediction, Status
from cloud.request_queue import MAX_BATCH, RequestQueue
from controller.image_requests.errors import InvalidState
from controller.image_requests.journal import Journal
from controller.image_requests.notices import Notices, notice_of
from controller.image_requests.polling import Polling
from controller.image_requests.recovery import Recovery
from controller.image_requests.results import RequestResult
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.watched_request import WatchedRequest

log = logging.getLogger(__name__)

LAG = timedelta(minutes=1)  # after which a process has noted that a request has timed out
CANCELLED = "This image was cancelled before it was classified."


class CancelRetry:
    def __init__(
        self,
        queue: RequestQueue,
        stored: StoredRequests,
        journal: Journal,
        polling: Polling,
        recovery: Recovery,
        notices: Notices,
    ) -> None:
        self.queue, self.stored, self.journal, self.notices = queue, stored, journal, notices
        self.polling, self.recovery = polling, recovery
        self.inputs, self.outputs, self.pool = stored.inputs, stored.outputs, stored.pool

    def cancel(self, request_id: str) -> RequestResult | None:
        """Writes a `failed` prediction for each unanswered image, and deletes it from the input bucket.

        Workers skip the messages of these images. Returns the new result, or None when the request is
        unknown. Raises CloudError when AWS fails.
        """
        found = self.stored.load(request_id)
        if found is None:
            return None
        waiting = [image_id for image_id in found.image_ids if image_id not in found.predictions]
        if not waiting:
            return found.result()
        list(self.pool.map(self._cancel, waiting))
        self._take_back(waiting)
        self.stored.refresh(found)
        followed = self.polling.refresh(request_id)  # then its polling thread tells and closes it
        if not followed and not found.unanswered:  # some may have been sent again meanwhile
            self.notices.tell(notice_of(found.result()))
            self.journal.release(request_id)
        self.polling.wake_autoscaler()
        return found.result()

    def retry(
        self,
        request_id: str,
        charge: Callable[[int], AbstractContextManager[None]] = lambda images: nullcontext(),
    ) -> RequestResult | None:
        """Sends the failed images of a request again, if they are still stored and may succeed this time.

        `charge` is called with the number of these images. It may raise an exception to refuse them. Returns
        the new result, or None when the request is unknown. Raises InvalidState when no image can be sent
        again, or when the request still waits, and CloudError when AWS fails.

        If the process dies in between, it leaves images with neither a prediction nor a message; recovery
        sends their messages.
        """
        found = self.stored.load(request_id)
        if found is None:
            return None
        if found.unanswered:
            raise waits()
        failed = self._failed_and_stored(found)
        if not failed:
            raise InvalidState(
                "No image of this request can be sent again: none failed that is still stored and might fare"
                " better. Upload another file."
            )
        with charge(len(failed)):
            return self._send_again(found, failed)

    def _send_again(self, found: WatchedRequest, failed: Sequence[ImageId]) -> RequestResult | None:
        """Returns None when the request was deleted in the meantime."""
        try:
            # An older marker is of a request that nobody polls. While the queue is busy, nobody deletes it.
            self.journal.hold_again(found.request_id, timedelta(seconds=self.polling.request_timeout) + LAG)
        except (Conflict, NotFound):
            raise waits() from None
        if not self.inputs.image_ids(found.request_id):
            self.journal.release(found.request_id)
            return None
        still = self.stored.fetch(failed)
        failed = [i for i in failed if i not in still or still[i].status is Status.FAILED]
        list(self.pool.map(self.outputs.delete, failed))
        again = WatchedRequest(found.request_id, found.image_ids, sent_before=True)
        again.know({i: p for i, p in found.predictions.items() if i not in failed})
        self.queue.send(failed)
        self.polling.watch(again)
        return again.result()

    def _cancel(self, image_id: ImageId) -> None:
        if self.outputs.put_prediction(Prediction.failed(image_id, FailureCode.CANCELLED, CANCELLED)):
            self.inputs.delete(image_id)

    def _take_back(self, image_ids: Sequence[ImageId]) -> None:
        """Removes the messages of these images from the queue, so that no instance is launched for them.

        Does nothing if the queue holds many other messages. Receiving keeps those from the workers, and
        workers skip the messages of cancelled images anyway.
        """
        try:
            others = self.queue.counts().visible - len(image_ids)
            if others <= max(len(image_ids), MAX_BATCH):
                self.recovery.take_back(set(image_ids))
        except CloudError as error:
            log.warning("%s; workers will pass over the messages", error)

    def _failed_and_stored(self, found: WatchedRequest) -> list[ImageId]:
        stored = set(self.inputs.image_ids(found.request_id))
        return [i for i, p in found.predictions.items() if p.error and p.error.retryable and i in stored]


def waits() -> InvalidState:
    return InvalidState(
        "This request waits for answers. Once all its images are answered, those that failed can be sent"
        " again."
    )
