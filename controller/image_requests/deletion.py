"""Deletes a request with its pictures and predictions."""

import math
from collections.abc import Callable
from datetime import datetime, timedelta

from cloud.clock import now
from cloud.failure_code import FailureCode
from cloud.prediction import Prediction
from controller.image_requests.errors import InvalidState
from controller.image_requests.fair_pool import finish
from controller.image_requests.journal import Journal
from controller.image_requests.stored_requests import StoredRequests
from controller.image_requests.watched_request import WatchedRequest

HELD_FOR = 2  # visibility timeouts after which no worker still has an image: one that hangs has ended itself

SENT_AGAIN_WITHIN = timedelta(minutes=10)  # after the marker is written, even if calls of AWS hang

SKEW = timedelta(minutes=1)  # of the clocks of controllers


class Deletion:
    def __init__(
        self,
        stored: StoredRequests,
        journal: Journal,
        visibility_timeout: float,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.stored, self.journal, self.clock = stored, journal, clock
        self.held_for = timedelta(seconds=HELD_FOR * visibility_timeout)

    def delete(self, request_id: str) -> None:
        """Deletes the images of the request, then its predictions. Does nothing if it is unknown.

        A message that is left is deleted by the worker that receives it, because the images of its request
        are gone. Raises InvalidState while the request waits, or while a worker may still have an image that
        was cancelled or sent again, even if nothing else is stored any more: that worker would write a
        prediction that nobody deletes. Raises CloudError when S3 fails; the next call then deletes the rest.
        """
        if found := self.stored.load(request_id):
            self._delete(found)
        # Whoever sends images again writes the marker first, and then looks whether they are still stored.
        # The marker goes when all of them are answered. One that is old was left by a process that had waited
        # for too long.
        held_at = self.journal.held_at(request_id)
        sent_again = held_at is not None and self.clock() - held_at < SENT_AGAIN_WITHIN
        if sent_again or self.stored.outputs.answered(request_id):
            seconds = math.ceil(self.held_for.total_seconds())
            raise InvalidState(
                "Images of this request may have been sent again while it was deleted. Delete it once more in"
                f" {seconds} seconds.",
                seconds,
            )

    def _delete(self, found: WatchedRequest) -> None:
        if found.unanswered:
            raise InvalidState(
                "This request waits for answers. Cancel it, or wait for them. Then it can be deleted."
            )
        if (seconds := max(map(self._seconds_held, found.predictions.values()), default=0)) > 0:
            raise InvalidState(
                f"A worker may still have an image that was cancelled. Try again in {seconds} seconds.",
                seconds,
            )
        # Without a prediction, an image that is still stored would be sent to the workers again.
        for bucket in (self.stored.inputs, self.stored.outputs):
            finish([self.stored.pool.submit(bucket.delete, image_id) for image_id in found.image_ids])

    def _seconds_held(self, prediction: Prediction) -> int:
        """Returns the seconds for which a worker may still have the image."""
        cancelled = prediction.error and prediction.error.code is FailureCode.CANCELLED
        if not (cancelled and prediction.answered_at):
            return 0
        passed = self.clock() - prediction.answered_at
        if passed < -SKEW:  # it is none of a controller's, which alone cancel
            return 0
        return math.ceil((self.held_for - passed).total_seconds())
